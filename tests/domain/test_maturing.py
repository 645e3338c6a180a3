"""What is pending becomes available when nothing keeps it any more: by a date, by a settlement, after a hold."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from hypothesis import given
from hypothesis import strategies as st

from paynode.domain.booking import MerchantBooks, mature
from paynode.domain.maturing import Due, MaturityKind
from paynode.domain.money import FeePlan, Money
from paynode.domain.payment import OperationKind
from paynode.domain.psp import Outcome
from paynode.domain.requesting import RequestKind
from paynode.domain.terms import DAY_MS, Availability, Terms
from paynode.domain.wallet import Delta, Wallet
from tests.domain.making import MERCHANT, History, around, fact, new_id, payment
from tests.support.properties import law

AVAILABLE, RESERVE = MaturityKind.AVAILABLE, MaturityKind.RESERVE
NOW_MS: Final = around().now_ms
NO_FEES: Final = FeePlan(fixed=0, basis_points=0)
TERMS: Final = Terms(
    fees=FeePlan(fixed=10, basis_points=150), reserve_basis_points=1000, reserve_days=90, available_days=2
)


def captured(terms: Terms = TERMS, books: MerchantBooks | None = None, amount: int = 1000) -> History:
    """Of 10.00: 0.25 fee, 1.00 held back, 8.75 pending."""
    about = payment(id=new_id(), operation_id=new_id(), terms=terms, money=Money(amount=amount, currency="EUR"))
    history = History(payment=about, books=books or MerchantBooks(merchant_id=MERCHANT))
    return history.succeed(0)


def come(history: History, kind: MaturityKind, of: int = 0) -> History:
    """Its time has come."""
    operation = history.payment.operations[of]
    due = Due(merchant_id=MERCHANT, payment_id=history.payment.id, operation_id=operation.id, kind=kind)
    history.books, history.payment, effects = mature(history.books, history.payment, due.maturity, around())
    history.effects.append(effects)
    return history


def buckets(history: History) -> tuple[int, int, int, int]:
    wallet = history.books.wallet("EUR")
    return wallet.pending, wallet.available, wallet.reserve, wallet.held


def lines(history: History) -> list[tuple[str, str, str, int]]:
    postings = [entry.posting for entry in history.effects[-1].entries]
    return [(one.type, one.debit, one.credit, one.money.amount) for one in postings]


def test_a_capture_is_divided_and_has_its_dates() -> None:
    history = captured()
    assert lines(history) == [
        ("capture", "psp:sim:receivable", "merchant:pending", 1000),
        ("fee", "merchant:pending", "fee_revenue", 25),
        ("reserve", "merchant:pending", "merchant:reserve", 100),
    ]
    capture = history.payment.charge
    assert (capture.is_maturing, capture.rest_pending, capture.rest_reserve) == (True, 875, 100)
    assert (capture.matures_at_ms, capture.releases_at_ms) == (NOW_MS + 2 * DAY_MS, NOW_MS + 90 * DAY_MS)
    assert history.books.wallet("EUR").maturing == 875


def test_it_becomes_available_once() -> None:
    history = come(captured(), AVAILABLE)
    assert lines(history) == [("available", "merchant:pending", "merchant:available", 875)]
    assert (history.effects[-1].event is not None, history.payment.version) == (True, 3)
    assert buckets(come(history, AVAILABLE)) == (0, 875, 100, 0)
    assert (lines(history), history.effects[-1].claim is not None, history.payment.version) == ([], True, 3)


def test_what_is_held_back_is_released_once() -> None:
    history = come(captured(), RESERVE)
    assert lines(history) == [("reserve_release", "merchant:reserve", "merchant:available", 100)]
    assert buckets(come(history, RESERVE)) == (875, 100, 0, 0)
    assert history.payment.charge.releases_at_ms is None


def test_by_settlement_no_date_brings_it() -> None:
    history = captured(Terms(fees=NO_FEES, availability=Availability.SETTLEMENT))
    assert (history.payment.charge.is_maturing, history.payment.charge.matures_at_ms) == (True, None)


def test_a_refund_takes_what_its_own_capture_keeps() -> None:
    history = captured().ask(RequestKind.REFUND, amount=500)
    assert (history.payment.charge.rest_pending, buckets(history)) == (375, (375, 0, 100, 500))
    come(history, AVAILABLE, of=0)
    assert buckets(history) == (0, 375, 100, 500)


def test_a_hold_that_is_released_before_the_date_waits_for_it() -> None:
    history = captured().ask(RequestKind.REFUND, amount=500).happen(Outcome.DECLINED)
    assert [one[0] for one in lines(history)] == ["refund_release"]
    assert (history.payment.charge.rest_pending, history.books.wallet("EUR").maturing) == (875, 875)
    assert buckets(come(history, AVAILABLE)) == (0, 875, 100, 0)


def test_a_hold_that_is_released_after_the_date_need_not_wait_again() -> None:
    history = captured().ask(RequestKind.REFUND, amount=500)
    come(history, AVAILABLE)
    history.happen(Outcome.DECLINED)
    assert lines(history) == [
        ("refund_release", "merchant:held", "merchant:pending", 500),
        ("available", "merchant:pending", "merchant:available", 500),
    ]
    assert buckets(history) == (0, 875, 100, 0)


def test_what_a_refund_took_of_others_is_made_up_for_by_what_matures_next() -> None:
    """The fee of a capture is gone: a refund of all of it takes the rest from what others have pending."""
    other = captured()
    history = captured(books=other.books).ask(RequestKind.REFUND)
    assert buckets(history) == (750, 0, 200, 1000)
    assert (history.payment.charge.rest_pending, history.books.wallet("EUR").maturing) == (0, 875)
    other.books = history.books
    come(other, AVAILABLE)
    assert lines(other) == [("available", "merchant:pending", "merchant:available", 750)]
    assert buckets(other) == (0, 750, 200, 1000)


def test_when_such_a_refund_fails_what_others_had_lent_comes_back_to_what_is_available() -> None:
    other = captured()
    history = captured(books=other.books).ask(RequestKind.REFUND)
    other.books = history.books
    history.books = come(other, AVAILABLE).books
    history.happen(Outcome.DECLINED)
    assert lines(history)[-1] == ("available", "merchant:pending", "merchant:available", 125)
    assert buckets(history) == (875, 875, 200, 0)
    assert history.books.wallet("EUR").maturing == history.payment.charge.rest_pending == 875


def test_a_capture_that_is_taken_back_ends_its_dates_and_mirrors_what_is_left() -> None:
    history = captured().take_back()
    assert lines(history) == [
        ("reversal", "merchant:reserve", "merchant:pending", 100),
        ("reversal", "fee_revenue", "merchant:pending", 25),
        ("reversal", "merchant:pending", "psp:sim:receivable", 1000),
    ]
    assert buckets(history) == (0, 0, 0, 0)
    assert history.books.wallet("EUR").maturing == 0
    charge = history.payment.charge
    assert (charge.is_maturing, charge.matures_at_ms, charge.releases_at_ms) == (False, None, None)
    assert lines(come(history, AVAILABLE)) == lines(come(history, RESERVE)) == []


def test_a_capture_that_is_taken_back_after_all_was_available_is_owed_and_paid_by_the_next() -> None:
    history = captured()
    come(come(history, AVAILABLE), RESERVE).take_back()
    assert buckets(history) == (-975, 975, 0, 0)
    assert history.books.wallet("EUR").payable == 0
    later = captured(books=history.books)
    assert lines(come(later, AVAILABLE)) == []  # 875 of the 975 are paid
    assert buckets(later) == (-100, 975, 100, 0)
    assert later.books.wallet("EUR").payable == 875


def test_all_that_is_ever_heard_of_it_is_that_it_was_taken_back() -> None:
    taken_back = fact(Outcome.REVERSED, reference="ch_1", amount=1000, currency="EUR")
    history = History(payment=payment(terms=TERMS)).tell(taken_back)
    assert buckets(history) == (0, 0, 0, 0)
    assert (history.books.wallet("EUR").maturing, len(history.effects[-1].entries)) == (0, 6)


def test_the_fixed_fee_is_taken_once_of_several_captures() -> None:
    terms = Terms(fees=FeePlan(fixed=30, basis_points=0))
    history = History(payment=payment(kind=OperationKind.AUTHORIZE, terms=terms)).succeed(0)
    for amount in (400, 600):
        history.ask(RequestKind.CAPTURE, amount=amount).succeed()
    fees = [
        entry.posting.money.amount for one in history.effects for entry in one.entries if entry.posting.type == "fee"
    ]
    assert fees == [30]
    assert [one.rest_pending for one in history.payment.operations] == [0, 370, 600]


def test_the_fixed_fee_comes_back_with_the_capture_that_paid_it_and_with_no_other() -> None:
    terms = Terms(fees=FeePlan(fixed=30, basis_points=0))
    history = History(payment=payment(kind=OperationKind.AUTHORIZE, terms=terms)).succeed(0)
    for amount in (400, 600):
        history.ask(RequestKind.CAPTURE, amount=amount).succeed()
    assert [one[3] for one in lines(history.take_back(2))] == [600]
    assert [one[3] for one in lines(history.take_back(1))] == [30, 400]


steps = st.lists(
    st.one_of(
        st.tuples(st.just("capture"), st.integers(1, 2000)),
        st.tuples(st.just("refund"), st.integers(1, 2000)),
        st.tuples(st.sampled_from(("decline", "succeed", "take back", "mature", "release")), st.integers(0, 30)),
    ),
    max_size=25,
)
any_terms = st.builds(
    Terms,
    fees=st.builds(FeePlan, fixed=st.integers(0, 40), basis_points=st.integers(0, 3000)),
    reserve_basis_points=st.integers(0, 3000),
    reserve_days=st.just(1),
)


@law(400)
@given(steps, any_terms)
def test_whatever_happens_nothing_is_stranded(story: Sequence[tuple[str, int]], terms: Terms) -> None:
    """Pending is never more than what still matures; the sums of payments and wallet agree; the reserve is theirs."""
    books, told = MerchantBooks(merchant_id=MERCHANT), list[History]()
    for word, number in story:
        if word == "capture":
            told.append(captured(terms, books, number))
            books = told[-1].books
        elif told:
            one = told[number % len(told)]
            one.books = books
            act(one, word, number)
            books = one.books
        wallet = books.wallet("EUR")
        operations = [each for one in told for each in one.payment.operations]
        assert wallet.maturing == sum(each.rest_pending for each in operations)
        assert wallet.reserve == sum(each.rest_reserve for each in operations)
        assert wallet.pending <= wallet.maturing
        posted = [entry.posting for one in told for effects in one.effects for entry in effects.entries]
        delta = Delta.of(posted)
        assert wallet == Wallet(
            currency="EUR", pending=delta.pending, available=delta.available, reserve=delta.reserve, held=delta.held,
            version=wallet.version, maturing=wallet.maturing,
        )  # fmt: skip


def act(one: History, word: str, number: int) -> None:
    of = number % len(one.payment.operations)
    match word:
        case "refund":
            one.ask(RequestKind.REFUND, amount=number)
        case "decline":
            one.happen(Outcome.DECLINED, of=of) if of else None
        case "succeed":
            one.succeed(of)
        case "take back":
            one.take_back(of) if one.payment.operations[of].reference else None
        case "mature":
            come(one, AVAILABLE)
        case "release":
            come(one, RESERVE)
