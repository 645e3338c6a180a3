"""Evidence becomes books: the same books whatever the order, and the same as the second model's."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from paynode.domain.booking import MerchantBooks, book
from paynode.domain.evidence import is_as_asked
from paynode.domain.ledger import Entry
from paynode.domain.money import AMOUNT_MAX, FeePlan, Money
from paynode.domain.payment import Fact, Method, Origin
from paynode.domain.postings import due
from paynode.domain.psp import Outcome
from paynode.domain.terms import Terms
from paynode.domain.wallet import Delta, Wallet
from tests.domain.evidence import ALPHABET, histories, two_tellings
from tests.domain.making import LIMITS, MERCHANT, History, around, fact, payment, told
from tests.domain.model import expected
from tests.support.properties import law

# What is given back is our own decision, once: it depends on what was known when.
GIVEN_BACK = {"refund_hold", "refund_release", "refund"}


def entries(history: History) -> list[Entry]:
    return [entry for effects in history.effects for entry in effects.entries]


def of_evidence(history: History) -> list[Entry]:
    return [entry for entry in entries(history) if entry.posting.type not in GIVEN_BACK]


def balances(lines: Iterable[Entry]) -> Counter[tuple[str, str]]:
    """Debits minus credits of each account and currency."""
    sums: Counter[tuple[str, str]] = Counter()
    for line in lines:
        sums[line.posting.debit, line.posting.money.currency] += line.posting.money.amount
        sums[line.posting.credit, line.posting.money.currency] -= line.posting.money.amount
    return sums


def moved(history: History) -> Counter[tuple[str, str, str, int]]:
    """The postings without what may differ: which of two charges carries them, when, under which id."""
    return Counter(
        (entry.posting.type, entry.posting.debit, entry.posting.credit, entry.posting.money.amount)
        for entry in of_evidence(history)
    )


@law(300)
@given(two_tellings())
def test_the_same_evidence_gives_the_same_books_in_any_order(tellings: tuple[Sequence[Fact], Sequence[Fact]]) -> None:
    one, other = (told(facts) for facts in tellings)
    assert moved(one) == moved(other)
    if len(one.payment.operations) == len(other.payment.operations):
        assert one.books.wallets == other.books.wallets
        assert one.books.head.seq == other.books.head.seq
        assert one.payment.amounts == other.payment.amounts
    as_asked = {known.reference for known in one.payment.facts if is_as_asked(one.payment.charge, known)}
    if len(as_asked) < 2:  # where the PSP charged twice, either charge may carry the posting
        assert {line.reference for line in of_evidence(one)} == {line.reference for line in of_evidence(other)}


@law(300)
@given(histories)
def test_the_trial_balance_is_zero_and_the_wallet_is_the_fold_of_the_ledger(facts: Sequence[Fact]) -> None:
    history = told(facts)
    sums = balances(entries(history))
    assert sum(sums.values()) == 0
    wallet = history.books.wallet("EUR")
    assert wallet.pending == -sums["merchant:pending", "EUR"]
    assert (wallet.available, wallet.held) == (-sums["merchant:available", "EUR"], -sums["merchant:held", "EUR"])
    adjustments = [one for effects in history.effects for one in effects.adjustments]
    assert sum(one.delta.total for one in adjustments) == wallet.balance
    assert wallet.version == len(adjustments), "each fact is in the wallet once"


@law(500)
@given(
    histories,
    st.sampled_from(Method),
    st.integers(1, AMOUNT_MAX) | st.just(1000),
    st.builds(FeePlan, fixed=st.integers(0, 2_000), basis_points=st.integers(0, 10_000)),
)
def test_the_second_model_agrees(facts: Sequence[Fact], method: Method, amount: int, fees: FeePlan) -> None:
    about = payment(method=method, money=Money(amount=amount, currency="EUR"), terms=Terms(fees=fees))
    # Facts are about 10.00 EUR: of another amount they are the wrong amount, which must agree as well.
    facts = [replace(one, amount=amount) if one.amount == 1000 else one for one in facts]
    history = History(payment=about).tell(*facts)
    wanted = expected(
        about,
        facts,
        tries_max=LIMITS.not_sent_tries_max,
        doubts_max=LIMITS.doubts_max,
        fixed=fees.fixed,
        basis_points=fees.basis_points,
        is_given_back=any(one.origin is Origin.LATE_SUCCESS for one in history.payment.operations),
    )
    postings = [entry.posting for entry in of_evidence(history)]
    assert wanted.status == history.payment.status
    assert wanted.captured == history.payment.amounts.captured
    assert wanted.pending == history.books.wallet("EUR").pending
    assert sorted(wanted.postings) == sorted((one.debit, one.credit, one.money.amount) for one in postings)


def test_a_capture_and_its_fee_are_one_fact_of_two_lines() -> None:
    history = told([ALPHABET["charge"]])
    assert [
        (line.line, line.posting.type, line.posting.debit, line.posting.credit, line.posting.money.amount)
        for line in entries(history)
    ] == [
        (1, "capture", "psp:sim:receivable", "merchant:pending", 1000),
        (2, "fee", "merchant:pending", "fee_revenue", 40),
    ]
    assert history.books.wallets == {"EUR": Wallet(currency="EUR", pending=960, version=1, maturing=960)}


def test_a_fee_of_nothing_is_no_line() -> None:
    captured = told([ALPHABET["charge"]], payment(terms=Terms(fees=FeePlan(fixed=0, basis_points=0)))).payment
    (fact,) = due(captured, LIMITS)
    assert [posting.type for posting in fact.postings] == ["capture"]


def test_evidence_that_is_no_news_still_claims_its_message() -> None:
    history = told([ALPHABET["charge"], ALPHABET["charge"]])
    first, second = history.effects
    assert second.claim == ALPHABET["charge"].event_id
    assert (second.payment, second.fact, second.event, second.entries) == (None, None, None, ())
    assert first.base_version == 1


def test_everything_of_a_message_is_for_the_payments_own_psp_and_merchant() -> None:
    history = told([ALPHABET["unknown"], ALPHABET["charge"]])
    commands = [command for effects in history.effects for command in effects.commands]
    assert [command.psp for command in commands] == ["sim"]
    adjustments = [one for effects in history.effects for one in effects.adjustments]
    assert [(one.merchant_id, one.id) for one in adjustments] == [(MERCHANT, entries(history)[0].id)]


def test_a_posting_outside_the_wallet_changes_no_bucket() -> None:
    captured = told([ALPHABET["charge"]]).payment
    (fact,) = due(captured, LIMITS)
    assert Delta.of(fact.postings) == Delta(pending=960)
    assert Delta.of(()) == Delta()


def test_a_try_again_comes_at_any_time_up_to_twice_its_pause_and_a_question_near_its_rung() -> None:
    """Those that failed together must not return together."""
    not_sent, in_doubt = fact(Outcome.NOT_SENT), fact(Outcome.UNKNOWN)
    assert (delay_after(not_sent, min), delay_after(not_sent, max)) == (0, 2_000)
    assert (delay_after(in_doubt, min), delay_after(in_doubt, max)) == (4_000, 6_000)


def delay_after(one: Fact, between_ms: Callable[[int, int], int]) -> int:
    """Milliseconds until the command that it leads to."""
    books = MerchantBooks(merchant_id=MERCHANT)
    _, _, effects = book(books, payment(), one, replace(around(), between_ms=between_ms))
    [command] = effects.commands
    return command.delay_ms
