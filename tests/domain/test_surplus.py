"""Money that moved twice, or where nothing had been sent: kept apart, given back once, and never the merchant's."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from itertools import permutations
from typing import Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from paynode.domain.payment import Fact, Method, Operation, OperationKind, OperationState, Origin, Status
from paynode.domain.postings import due
from paynode.domain.psp import Outcome
from paynode.domain.requesting import Refusal, RequestKind
from tests.domain.making import LIMITS, History, charge, fact, payment
from tests.domain.test_checks_hold import assert_accepted
from tests.support.properties import law

SALE, AUTHORIZE, VOID, REFUND = OperationKind.SALE, OperationKind.AUTHORIZE, OperationKind.VOID, OperationKind.REFUND
ROUTE: Final = ("sim", "other")


def begun(kind: OperationKind = SALE, method: Method = Method.TOKEN) -> History:
    return History(payment=replace(payment(kind=kind, method=method), route=ROUTE))


def gone_on(kind: OperationKind = SALE, method: Method = Method.TOKEN) -> History:
    """It was proved that nothing had been sent to the first PSP, and the second one has it."""
    return begun(kind, method).tell(fact(Outcome.NOT_SENT))


def returns(history: History) -> list[Operation]:
    return [one for one in history.payment.operations if one.origin is Origin.SURPLUS]


def lines(history: History) -> list[tuple[str, str, str, int]]:
    return [
        (line.posting.type, line.posting.debit, line.posting.credit, line.posting.money.amount)
        for effects in history.effects
        for line in effects.entries
    ]


def balances(history: History) -> Counter[str]:
    sums: Counter[str] = Counter()
    for _, debit, credit, amount in lines(history):
        sums[debit] += amount
        sums[credit] -= amount
    return Counter({account: amount for account, amount in sums.items() if amount})


def shown(history: History) -> tuple[Status, str | None, int, int]:
    one = history.payment
    return one.status, one.review_reason, one.amounts.captured, one.amounts.refunded


# -- charged twice ----------------------------------------------------------------------------------------------------


def test_a_second_charge_is_given_back_by_its_own_name_and_then_nobody_need_look() -> None:
    history = begun().tell(charge("ch_1"), charge("ch_2"))
    (back,) = returns(history)
    assert (back.kind, back.psp, back.target, back.money) == (REFUND, "sim", "ch_2", history.payment.money)
    assert (back.hold_available, back.hold_pending) == (0, 0)
    assert shown(history) == (Status.REVIEW, "charged_twice", 1000, 0)
    (made,) = history.effects[-1].made
    assert (made.order.charge_reference, made.order.charge_id) == ("ch_2", history.payment.charge.id)
    (command,) = history.effects[-1].commands
    assert (command.operation_id, command.psp) == (back.id, "sim")
    history.succeed()
    assert shown(history) == (Status.CAPTURED, None, 1000, 0)
    assert lines(history)[2:] == [
        ("surplus", "psp:sim:receivable", "suspense:sim", 1000),
        ("surplus_return", "suspense:sim", "psp:sim:receivable", 1000),
    ]
    assert history.books.wallet("EUR").pending == 960
    assert history.with_wallet(available=5000).ask(RequestKind.REFUND).refusal is None


def test_a_second_authorization_is_let_go_and_posts_nothing() -> None:
    history = begun(AUTHORIZE).tell(charge("au_1"), charge("au_2"))
    (back,) = returns(history)
    assert (back.kind, back.target) == (VOID, "au_2")
    assert shown(history)[:2] == (Status.REVIEW, "charged_twice")
    history.happen(Outcome.APPROVED)
    assert (history.payment.status, history.payment.amounts.capturable) == (Status.AUTHORIZED, 1000)
    assert lines(history) == []
    assert history.ask(RequestKind.CAPTURE).refusal is None


def test_each_charge_too_many_is_given_back_once_however_often_and_by_whomever_it_is_told() -> None:
    told = [charge(name, psp=psp) for name in ("ch_1", "ch_2", "ch_3") for psp in (None, "sim")]
    for order in permutations(told, 4):
        history = begun().tell(*order, *told, *told)
        assert len(returns(history)) == 2
        assert {one.target for one in returns(history)} | {history.payment.charge.reference} == {
            "ch_1",
            "ch_2",
            "ch_3",
        }
        for one in (-1, -2):
            assert history.payment.status is Status.REVIEW
            history.succeed(one)
        assert shown(history) == (Status.CAPTURED, None, 1000, 0)
        assert balances(history) == Counter({"psp:sim:receivable": 1000, "merchant:pending": -960, "fee_revenue": -40})


@pytest.mark.parametrize("outcome", [Outcome.DECLINED, Outcome.EXPIRED, Outcome.ABSENT])
def test_what_could_not_be_given_back_is_for_people(outcome: Outcome) -> None:
    history = begun().tell(charge("ch_1"), charge("ch_2")).happen(outcome)
    assert shown(history) == (Status.REVIEW, "giving_back_failed", 1000, 0)
    assert balances(history)["suspense:sim"] == -1000
    assert begun().tell(charge("ch_2")).payment.status is Status.CAPTURED
    assert len(returns(history.tell(charge("ch_2", psp="sim")))) == 1, "and is not tried by another operation"


def test_what_did_not_arrive_after_it_was_given_back_is_for_people() -> None:
    history = begun().tell(charge("ch_1"), charge("ch_2")).succeed().take_back()
    assert shown(history) == (Status.REVIEW, "giving_back_failed", 1000, 0)
    assert balances(history)["suspense:sim"] == -1000
    assert history.books.wallet("EUR").balance == 960


def test_what_is_not_as_asked_or_was_taken_back_stays_for_people() -> None:
    for other in (charge("ch_2", amount=999), charge("ch_2", currency="USD"), charge(None)):
        history = begun().tell(charge("ch_1"), other)
        assert (returns(history), history.payment.status) == ([], Status.REVIEW)
    taken = replace(charge("ch_2"), outcome=Outcome.REVERSED)
    history = begun().tell(charge("ch_1"), taken, charge("ch_2"))
    assert (returns(history), shown(history)[:2]) == ([], (Status.REVIEW, "charged_twice"))


def test_what_is_taken_back_after_it_was_given_back_is_for_people() -> None:
    history = begun().tell(charge("ch_1"), charge("ch_2")).succeed()
    history.tell(replace(charge("ch_2"), outcome=Outcome.REVERSED))
    assert shown(history)[:2] == (Status.REVIEW, "charged_twice")


def test_a_capture_or_refund_that_was_done_twice_stays_for_people() -> None:
    captured = begun(AUTHORIZE).succeed().ask(RequestKind.CAPTURE).succeed().succeed(reference="cp_2")
    refunded = begun().succeed().with_wallet(available=5000).ask(RequestKind.REFUND).succeed().succeed(reference="rf_2")
    for history in (captured, refunded):
        assert (returns(history), shown(history)[:2]) == ([], (Status.REVIEW, "charged_twice"))
    same = begun(AUTHORIZE).tell(charge("au_1"), charge("au_2")).happen(Outcome.APPROVED).ask(RequestKind.CAPTURE)
    same.succeed(reference="au_1").succeed(reference="au_2")
    assert shown(same)[:2] == (Status.REVIEW, "charged_twice"), (
        "a capture under the name of what was given back is none"
    )


def test_of_what_was_given_up_both_charges_go_back_each_by_its_own_name() -> None:
    history = begun().tell(fact(Outcome.DECLINED), charge("ch_1"), charge("ch_2"))
    late, back = history.payment.operations[1:]
    assert (late.origin, late.target, back.origin, back.target) == (Origin.LATE_SUCCESS, None, Origin.SURPLUS, "ch_2")
    orders = [made.order.charge_reference for effects in history.effects for made in effects.made]
    assert orders == ["ch_1", "ch_2"]
    history.succeed(1).succeed(2)
    assert shown(history) == (Status.CAPTURED, None, 1000, 1000)
    assert history.books.wallet("EUR").balance == -40


def test_letting_a_second_authorization_go_undoes_nothing_of_the_first() -> None:
    about = replace(payment(kind=AUTHORIZE), is_for_pos=True)
    history = History(payment=about).tell(charge("au_1"), charge("au_2"))
    history.payment = replace(history.payment, is_reversed=True)
    history.ask(RequestKind.REVERSE)
    assert [(one.kind, one.target) for one in history.payment.operations[1:]] == [(VOID, "au_2"), (VOID, None)]


# -- charged elsewhere ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("source_first", [True, False])
def test_what_the_first_psp_has_charged_after_all_goes_back_there(source_first: bool) -> None:
    late, answer = charge("ch_1", psp="sim"), charge("ch_1")
    history = gone_on().tell(*((late, answer) if source_first else (answer, late)))
    (back,) = returns(history)
    assert (back.psp, back.target, back.kind) == ("sim", "ch_1", REFUND)
    assert (history.payment.charge.psp, shown(history)) == ("other", (Status.REVIEW, "charged_elsewhere", 1000, 0))
    history.succeed(reference="rf_1")
    assert shown(history) == (Status.CAPTURED, None, 1000, 0)
    assert balances(history) == Counter({"psp:other:receivable": 1000, "merchant:pending": -960, "fee_revenue": -40})
    assert sorted(lines(history))[-2:] == [
        ("surplus", "psp:sim:receivable", "suspense:sim", 1000),
        ("surplus_return", "suspense:sim", "psp:sim:receivable", 1000),
    ]


def test_of_a_payment_that_came_to_nothing_it_goes_back_and_the_payment_stays_what_it_was() -> None:
    history = gone_on().tell(fact(Outcome.DECLINED), charge("ch_1", psp="sim"))
    assert shown(history) == (Status.REVIEW, "charged_elsewhere", 0, 0)
    history.succeed()
    assert (shown(history), history.payment.keeps_order_slot) == ((Status.DECLINED, None, 0, 0), False)
    assert balances(history) == Counter()
    assert history.books.wallet("EUR").balance == 0


def test_it_is_not_asked_of_one_more_psp() -> None:
    history = gone_on().tell(charge("ch_1", psp="sim"))
    assert history.payment.charge.state is OperationState.FAILED
    history.tell(fact(Outcome.NOT_SENT))
    assert ([one.operation_id for one in history.effects[-1].commands], history.payment.charge.psp) == ([], "other")
    other = gone_on().tell(charge("ch_1", psp="sim"), charge("ch_9"))
    assert other.payment.amounts.captured == 1000, "what was under way all the same is the payment's"


def test_what_another_psp_says_that_is_no_money_changes_nothing() -> None:
    page = fact(Outcome.PENDING, reference="cs_9", page_url="https://psp.example/z", psp="sim")
    history = gone_on(method=Method.HOSTED_PAGE)
    before = history.payment
    for one in (page, fact(Outcome.DECLINED, psp="sim"), fact(Outcome.EXPIRED, psp="sim")):
        history.tell(one)
        assert (history.payment.status, history.payment.page_url) == (before.status, None)
        assert (history.payment.charge, history.effects[-1].commands) == (before.charge, ())
    history.tell(fact(Outcome.PENDING, reference="cs_1"), replace(page, reference="cs_8"))
    assert history.effects[-1].commands == (), "the page that the customer has is asked about, and no other"
    history.succeed()
    assert shown(history) == (Status.CAPTURED, None, 1000, 0), "and denies nothing"


def test_what_was_charged_before_it_could_go_on_is_the_payments() -> None:
    """The callback of the first PSP is known before its answer, that nothing was sent: it never goes on."""
    history = begun().tell(charge("ch_1", psp="sim"), fact(Outcome.NOT_SENT))
    assert (history.payment.charge.psp, shown(history)) == ("sim", (Status.CAPTURED, None, 1000, 0))
    assert ([one for effects in history.effects for one in effects.commands], returns(history)) == ([], [])


def test_an_answer_and_a_callback_of_whoever_has_it_are_one_fact() -> None:
    history = gone_on().tell(charge("ch_1", psp="other"), charge("ch_1"))
    assert len(history.payment.facts) == 2
    assert history.payment.facts[-1].psp is None


# Whatever may come once it is known that nothing was sent to the first.
_of_a_psp: Final = st.builds(
    fact,
    st.sampled_from([Outcome.APPROVED, Outcome.APPROVED, Outcome.DECLINED, Outcome.PENDING, Outcome.REVERSED]),
    reference=st.sampled_from(["ch_1", "ch_2", None]),
    amount=st.sampled_from([1000, 1000, 1000, 1001]),
    currency=st.just("EUR"),
    psp=st.sampled_from(["sim", "other", None]),
)


@law(400)
@given(st.lists(_of_a_psp, max_size=7), st.sampled_from([SALE, AUTHORIZE]), st.data())
def test_order_and_repetition_make_no_difference(
    facts: Sequence[Fact], kind: OperationKind, data: st.DataObject
) -> None:
    again = data.draw(st.permutations([*facts, *facts[:3]]))
    one, other = gone_on(kind).tell(*facts), gone_on(kind).tell(*again)
    assert one.payment.version == other.payment.version
    if not (_is_late(one) or _is_late(other)):  # what succeeded after it was given up is decided upon once
        assert shown(one) == shown(other)
        assert _of_facts(one) == _of_facts(other)
    if all(known.outcome is not Outcome.REVERSED for known in facts):
        assert len(returns(one)) == len(returns(other))
    for history in (one, other):
        assert_accepted(history.payment)
        posted = {(each.operation_id, each.kind, each.part) for each in due(history.payment, LIMITS)}
        adjusted = [each.fact for effects in history.effects for each in effects.adjustments]
        assert {(each.operation_id, each.kind, each.part) for each in adjusted} == posted
        assert balances(history)["suspense:other"] <= 0


def _is_late(history: History) -> bool:
    return any(one.origin is Origin.LATE_SUCCESS for one in history.payment.operations)


def _of_facts(history: History) -> Counter[tuple[str, str, str, int]]:
    return Counter(line for line in lines(history) if not line[0].startswith("refund"))


@law(200)
@given(st.lists(_of_a_psp, max_size=7))
def test_what_happens_elsewhere_never_touches_the_wallet(facts: Sequence[Fact]) -> None:
    with_all, without = gone_on().tell(*facts), gone_on().tell(*[one for one in facts if one.psp != "sim"])
    assert with_all.books.wallet("EUR").balance == without.books.wallet("EUR").balance
    if not (_is_late(with_all) or _is_late(without)):
        assert with_all.payment.amounts == without.payment.amounts


# -- a capture that nobody had to ask for -----------------------------------------------------------------------------


def uncaptured(outcome: Outcome = Outcome.DECLINED) -> History:
    about = replace(payment(kind=AUTHORIZE), is_automatic=True, is_for_pos=True, is_kept=True)
    return History(payment=about).succeed().ask(RequestKind.CAPTURE, is_final=True).happen(outcome)


def test_a_refused_automatic_capture_is_for_people_until_something_is_done_about_it() -> None:
    history = uncaptured()
    assert shown(history) == (Status.REVIEW, "capture_refused", 0, 0)
    assert (history.payment.amounts.capturable, history.payment.keeps_order_slot) == (1000, True)
    assert history.ask(RequestKind.REFUND).refusal is Refusal.UNDER_REVIEW
    assert history.ask(RequestKind.CAPTURE).refusal is None
    assert history.payment.status is Status.AUTHORIZED, "it is being tried again"
    assert shown(history.happen(Outcome.DECLINED))[:2] == (Status.REVIEW, "capture_refused")
    history.ask(RequestKind.CAPTURE).succeed()
    assert shown(history) == (Status.CAPTURED, None, 1000, 0)


def test_a_void_or_the_end_of_the_authorization_ends_it_too() -> None:
    history = uncaptured().ask(RequestKind.VOID)
    assert history.refusal is None
    assert history.happen(Outcome.APPROVED).payment.status is Status.VOIDED
    history = uncaptured().happen(Outcome.EXPIRED, of=0)
    assert (shown(history), history.payment.keeps_order_slot) == ((Status.EXPIRED, None, 0, 0), False)


def test_a_capture_that_the_merchant_asked_for_is_refused_to_the_merchant() -> None:
    asked = History(payment=payment(kind=AUTHORIZE)).succeed().ask(RequestKind.CAPTURE).happen(Outcome.DECLINED)
    assert shown(asked)[:2] == (Status.AUTHORIZED, None)
