"""What merchants may ask about a payment, one request after the other, and what each of them reserves."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from paynode.domain.deciding import Policy
from paynode.domain.ledger import Entry
from paynode.domain.payment import Amounts, Method, OperationKind, OperationState, RefundStatus, Status
from paynode.domain.psp import Capabilities, Outcome
from paynode.domain.requesting import Refusal, RequestKind
from tests.domain.making import History, charge, payment

CAPTURE, VOID, CANCEL, REFUND = RequestKind.CAPTURE, RequestKind.VOID, RequestKind.CANCEL, RequestKind.REFUND
POOR = Capabilities(
    has_page=True,
    has_token=True,
    can_authorize=True,
    can_capture_partially=False,
    can_capture_repeatedly=False,
    can_refund_partially=False,
    can_cancel_page=False,
    is_callback_binding=True,
    idempotent_for_s=60,
    settle_s=60,
)


def authorized() -> History:
    return History(payment=payment(kind=OperationKind.AUTHORIZE)).succeed()


def sold() -> History:
    return History().succeed()


def page() -> History:
    opened = History(payment=payment(method=Method.HOSTED_PAGE))
    return opened.happen(Outcome.PENDING, reference="cs_1", page_url="https://psp.example/a")


def lines(history: History, kind: str) -> list[tuple[str, str, int]]:
    posted: list[Entry] = [entry for effects in history.effects for entry in effects.entries]
    return [
        (one.posting.debit, one.posting.credit, one.posting.money.amount) for one in posted if one.posting.type == kind
    ]


def capabilities(can: Capabilities) -> Callable[[Policy], Policy]:
    return lambda policy: replace(policy, capabilities={"sim": can})


# -- capture and void -------------------------------------------------------------------------------------------------


def test_an_authorization_moves_no_money_and_waits_to_be_captured() -> None:
    history = authorized()
    assert (history.payment.status, history.payment.amounts) == (Status.AUTHORIZED, Amounts(authorized=1000))
    assert history.books.wallets == {}


def test_a_capture_reserves_what_it_asks_for_and_credits_it_when_the_psp_has_done_it() -> None:
    history = authorized().ask(CAPTURE)
    assert (history.payment.status, history.payment.amounts.capturing) == (Status.AUTHORIZED, 1000)
    assert history.books.wallets == {}, "in doubt there is no credit"
    history.succeed()
    assert (history.payment.status, history.payment.amounts) == (
        Status.CAPTURED,
        Amounts(authorized=1000, captured=1000),
    )
    assert history.books.wallet("EUR").pending == 960


def test_captures_may_come_in_parts_until_nothing_is_left() -> None:
    history = authorized().ask(CAPTURE, amount=300).succeed()
    assert (history.payment.status, history.payment.amounts.capturable) == (Status.PARTIALLY_CAPTURED, 700)
    history.ask(CAPTURE, amount=300).ask(CAPTURE, amount=400)
    assert history.payment.amounts == Amounts(authorized=1000, captured=300, capturing=700)
    assert history.ask(CAPTURE, amount=1).refusal is Refusal.NOT_CAPTURABLE
    history.succeed(2).succeed(3)
    assert history.payment.amounts == Amounts(authorized=1000, captured=1000)
    assert history.payment.status is Status.CAPTURED
    assert [amount for *_, amount in lines(history, "capture")] == [300, 300, 400]


def test_a_final_capture_lets_go_of_the_rest() -> None:
    history = authorized().ask(CAPTURE, amount=300, is_final=True)
    assert history.payment.amounts == Amounts(authorized=1000, capturing=300, voiding=700), "reserved meanwhile"
    history.succeed()
    assert history.payment.amounts == Amounts(authorized=1000, captured=300, voided=700)
    assert history.payment.status is Status.PARTIALLY_CAPTURED
    assert history.ask(CAPTURE).refusal is Refusal.NOT_CAPTURABLE


def test_what_the_psp_will_not_capture_may_be_asked_for_again() -> None:
    history = authorized().ask(CAPTURE).happen(Outcome.DECLINED)
    assert history.payment.amounts == Amounts(authorized=1000)
    assert history.ask(CAPTURE).refusal is None


def test_nobody_captures_more_than_is_left() -> None:
    assert authorized().ask(CAPTURE, amount=1001).refusal is Refusal.EXCEEDS_AUTHORIZED
    assert sold().ask(CAPTURE).refusal is Refusal.NOT_CAPTURABLE
    assert History(payment=payment(kind=OperationKind.AUTHORIZE)).ask(CAPTURE).refusal is Refusal.NOT_AUTHORIZED


def test_a_void_lets_go_of_what_is_left_and_only_of_that() -> None:
    history = authorized().ask(VOID)
    assert history.ask(CAPTURE).refusal is Refusal.OPERATION_IN_FLIGHT
    assert history.ask(VOID).refusal is Refusal.OPERATION_IN_FLIGHT
    history.happen(Outcome.APPROVED)
    assert (history.payment.status, history.payment.amounts) == (Status.VOIDED, Amounts(authorized=1000, voided=1000))
    assert history.books.wallets == {}
    partly = authorized().ask(CAPTURE, amount=300).succeed().ask(VOID).happen(Outcome.APPROVED)
    assert partly.payment.amounts == Amounts(authorized=1000, captured=300, voided=700)
    assert authorized().ask(CAPTURE).ask(VOID).refusal is Refusal.OPERATION_IN_FLIGHT
    assert sold().ask(VOID).refusal is Refusal.NOT_VOIDABLE


def test_an_authorization_that_lapsed_is_expired() -> None:
    history = authorized().happen(Outcome.EXPIRED)
    assert (history.payment.status, history.payment.amounts.capturable) == (Status.EXPIRED, 0)
    assert history.ask(CAPTURE).refusal is Refusal.NOT_CAPTURABLE


@pytest.mark.parametrize("rival", [CAPTURE, VOID, REFUND])
def test_rivals_wait_while_an_outcome_is_unknown_and_nothing_is_shown_as_failed(rival: RequestKind) -> None:
    history = authorized().ask(CAPTURE, amount=500).happen(Outcome.UNKNOWN)
    assert history.payment.status is Status.UNKNOWN
    assert history.ask(rival).refusal is Refusal.OUTCOME_UNKNOWN
    assert history.payment.amounts.capturing == 500, "it keeps what it has reserved"


def test_both_a_capture_and_a_void_is_for_people() -> None:
    """The void was given up, and a capture was made of what it had reserved: then the void shows up after all."""
    history = authorized().ask(VOID).happen(Outcome.DECLINED).ask(CAPTURE).succeed(2).happen(Outcome.APPROVED, of=1)
    assert (history.payment.status, history.payment.review_reason) == (Status.REVIEW, "approved_and_denied")
    assert history.payment.amounts == Amounts(authorized=1000, captured=1000), "no evidence fails a CHECK"


# -- refunds ----------------------------------------------------------------------------------------------------------


def test_a_refund_holds_the_money_before_the_psp_is_asked() -> None:
    history = sold().with_wallet(available=200).ask(REFUND, amount=500)
    assert lines(history, "refund_hold") == [
        ("merchant:available", "merchant:held", 200),
        ("merchant:pending", "merchant:held", 300),
    ]
    assert (history.payment.amounts.refunding, history.payment.amounts.refund_status) == (500, RefundStatus.PENDING)
    history.succeed()
    assert lines(history, "refund") == [("merchant:held", "psp:sim:receivable", 500)]
    assert (history.payment.status, history.payment.amounts.refund_status) == (Status.CAPTURED, RefundStatus.PARTIAL)
    wallet = history.books.wallet("EUR")
    assert (wallet.available, wallet.pending, wallet.held) == (0, 660, 0)


@pytest.mark.parametrize("outcome", [Outcome.DECLINED, Outcome.ABSENT, Outcome.EXPIRED])
def test_a_refund_that_comes_to_nothing_gives_each_part_back_where_it_came_from(outcome: Outcome) -> None:
    before = sold().with_wallet(available=200).books.wallet("EUR")
    history = sold().with_wallet(available=200).ask(REFUND, amount=500).happen(outcome)
    after = history.books.wallet("EUR")
    assert (after.available, after.pending, after.held) == (before.available, before.pending, 0)
    assert history.payment.amounts.refund_status is RefundStatus.NONE


def test_a_refund_that_succeeds_after_it_was_given_up_is_paid_out_of_what_is_available() -> None:
    history = sold().ask(REFUND, amount=500).happen(Outcome.ABSENT).succeed()
    assert lines(history, "refund") == [("merchant:available", "psp:sim:receivable", 500)]
    assert (history.books.wallet("EUR").available, history.books.wallet("EUR").held) == (-500, 0)
    assert history.payment.amounts.refunded == 500


def test_a_refund_that_fails_after_it_succeeded_comes_back() -> None:
    history = sold().with_wallet(available=1000).ask(REFUND).succeed().take_back()
    assert lines(history, "refund_reversal") == [("psp:sim:receivable", "merchant:available", 1000)]
    assert history.payment.amounts.refundable == 1000
    assert history.books.wallet("EUR").available == 1000


def test_two_refunds_cannot_both_have_what_is_there_once() -> None:
    history = sold().with_wallet(available=5000).ask(REFUND, amount=600)
    assert history.ask(REFUND, amount=600).refusal is Refusal.EXCEEDS_CAPTURED
    assert history.ask(REFUND, amount=400).refusal is None
    assert history.payment.amounts == Amounts(authorized=1000, captured=1000, refunding=1000)
    assert history.ask(REFUND).refusal is Refusal.NOT_REFUNDABLE


def test_refunds_need_a_capture_and_funds() -> None:
    assert authorized().ask(REFUND).refusal is Refusal.NOT_REFUNDABLE
    assert sold().ask(REFUND, amount=1000).refusal is Refusal.INSUFFICIENT_FUNDS, "the fee is gone"
    assert sold().ask(REFUND, amount=960).refusal is None
    assert sold().with_wallet(available=-100).ask(REFUND, amount=961).refusal is Refusal.INSUFFICIENT_FUNDS
    assert sold().with_wallet(available=-100).ask(REFUND, amount=860).refusal is None


def test_a_charge_that_the_psp_takes_back_is_mirrored_to_the_last_unit() -> None:
    history = sold().take_back()
    assert (history.payment.status, history.payment.amounts.captured) == (Status.FAILED, 0)
    assert history.books.wallet("EUR").balance == 0
    late = sold().with_wallet(available=1000).ask(REFUND, amount=400).succeed().take_back(0)
    assert (late.payment.status, late.payment.review_reason) == (Status.REVIEW, "reversed_after_refund")
    assert late.payment.amounts.refundable == 0, "no evidence fails a CHECK"
    assert late.books.wallet("EUR").balance == 1000 - 400, "and the books say what happened"


# -- cancel -----------------------------------------------------------------------------------------------------------


def test_a_page_is_canceled_when_the_psp_has_closed_it() -> None:
    history = page().ask(CANCEL)
    assert (history.payment.status, history.refusal) == (Status.REQUIRES_ACTION, None)
    order = history.effects[-1].made[0].order
    assert (order.kind, order.charge_id, order.charge_reference) == (
        OperationKind.CANCEL,
        history.payment.charge.id,
        "cs_1",
    )
    assert history.ask(CANCEL).refusal is Refusal.OPERATION_IN_FLIGHT
    history.happen(Outcome.APPROVED)
    assert (history.payment.status, history.payment.keeps_order_slot) == (Status.CANCELED, False)
    assert history.ask(CANCEL).refusal is Refusal.NOT_CANCELABLE


def test_who_pays_while_it_is_being_canceled_has_paid() -> None:
    history = page().ask(CANCEL).succeed(0).happen(Outcome.DECLINED, of=1)
    assert (history.payment.status, len(history.payment.operations)) == (Status.CAPTURED, 2)


def test_who_pays_after_it_was_canceled_gets_it_back() -> None:
    history = page().ask(CANCEL).happen(Outcome.APPROVED).succeed(0)
    assert [one.kind for one in history.payment.operations] == [
        OperationKind.SALE,
        OperationKind.CANCEL,
        OperationKind.REFUND,
    ]
    history.succeed(2)
    assert history.payment.amounts.refund_status is RefundStatus.FULL
    assert history.books.wallet("EUR").balance == -40, "the fee was earned"


def test_only_an_open_page_is_canceled() -> None:
    assert History(payment=payment(method=Method.HOSTED_PAGE)).ask(CANCEL).refusal is Refusal.OPERATION_IN_FLIGHT
    assert sold().ask(CANCEL).refusal is Refusal.NOT_CANCELABLE


# -- in general -------------------------------------------------------------------------------------------------------


def test_whoever_has_seen_another_version_is_told() -> None:
    history = sold()
    assert history.ask(REFUND, amount=1, expected_version=1).refusal is Refusal.PAYMENT_CHANGED
    assert history.ask(REFUND, amount=1, expected_version=2).refusal is None


def test_nothing_is_done_about_a_payment_that_people_must_look_at() -> None:
    twice = sold().succeed(0, reference="ch_other").with_wallet(available=5000)
    assert twice.payment.review_reason == "charged_twice"
    assert twice.ask(REFUND).refusal is Refusal.UNDER_REVIEW
    assert lines(twice, "surplus") == [("psp:sim:receivable", "suspense:sim", 1000)]


def test_what_the_psp_cannot_do_is_not_asked_of_it() -> None:
    can = capabilities(POOR)
    assert authorized().given(can).ask(CAPTURE, amount=1).refusal is Refusal.NOT_SUPPORTED
    assert sold().given(can).ask(REFUND, amount=1).refusal is Refusal.NOT_SUPPORTED
    assert page().given(can).ask(CANCEL).refusal is Refusal.NOT_SUPPORTED
    once = capabilities(replace(POOR, can_capture_partially=True))
    history = authorized().given(once).ask(CAPTURE, amount=300)
    assert history.payment.amounts.voiding == 700, "it captures once: the rest is let go"


def test_a_request_raises_the_version_and_stands_on_the_timeline() -> None:
    history = authorized().ask(CAPTURE)
    effects = history.effects[-1]
    assert effects.event is not None
    assert (effects.event.type, effects.event.payment.version) == ("payment.capture_requested", 3)
    assert effects.decided is not None
    assert (effects.decided.refusal, effects.decided.version) == (None, 3)
    refused = history.ask(CAPTURE).effects[-1]
    assert (refused.event, refused.made) == (None, ())
    assert refused.payment is history.payment, "its version is compared: a mark may have come"
    assert refused.base_version == history.payment.version


def test_a_reversal_undoes_the_authorization_once() -> None:
    about = replace(authorized().payment, is_for_pos=True, is_reversed=True)
    history = History(payment=about).ask(RequestKind.REVERSE).ask(RequestKind.REVERSE)
    assert [one.kind for one in history.payment.operations] == [OperationKind.AUTHORIZE, OperationKind.VOID]
    assert history.ask(CAPTURE).refusal is Refusal.NOT_CAPTURABLE
    undecided = History(payment=replace(authorized().payment, is_for_pos=True))
    assert undecided.ask(CAPTURE).refusal is Refusal.NOT_CAPTURABLE, "nobody has been told yet"


def test_a_reversal_of_what_is_not_authorized_yet_waits_for_it() -> None:
    about = replace(payment(kind=OperationKind.AUTHORIZE), is_for_pos=True, is_reversed=True)
    history = History(payment=about).ask(RequestKind.REVERSE)
    assert history.payment.operations == about.operations
    history.succeed()
    assert [one.kind for one in history.payment.operations] == [OperationKind.AUTHORIZE, OperationKind.VOID]
    history.happen(Outcome.APPROVED, of=1)
    assert (history.payment.status, history.payment.charge.state) == (Status.VOIDED, OperationState.APPROVED)


def test_the_void_of_a_reversed_payment_is_tried_until_it_is_sent() -> None:
    about = replace(authorized().payment, is_for_pos=True, is_reversed=True)
    history = History(payment=about).ask(RequestKind.REVERSE).happen(Outcome.NOT_SENT)
    assert (history.payment.operations[1].state, history.payment.review_reason) == (OperationState.NEW, None)


def test_what_was_given_back_already_is_not_reversed_once_more() -> None:
    about = replace(payment(kind=OperationKind.AUTHORIZE), is_for_pos=True)
    history = History(payment=about).happen(Outcome.DECLINED).succeed(0)
    history.payment = replace(history.payment, is_reversed=True)
    history.ask(RequestKind.REVERSE)
    assert [one.kind for one in history.payment.operations] == [OperationKind.AUTHORIZE, OperationKind.VOID]


def test_a_reversed_payment_that_a_check_had_held_has_ended() -> None:
    about = replace(payment(kind=OperationKind.AUTHORIZE), is_for_pos=True)
    held = History(payment=about).happen(Outcome.HELD).payment
    assert held.status is Status.REVIEW
    assert History(payment=replace(held, is_reversed=True)).happen(Outcome.NOT_SENT).payment.status is Status.FAILED


def test_nothing_is_over_while_a_capture_is_under_way() -> None:
    history = authorized().ask(CAPTURE, amount=300).happen(Outcome.EXPIRED, of=0)
    assert (history.payment.status, history.payment.keeps_order_slot) == (Status.AUTHORIZED, True)
    history.succeed(1)
    assert history.payment.status is Status.PARTIALLY_CAPTURED
    gone = authorized().ask(VOID).happen(Outcome.APPROVED).happen(Outcome.EXPIRED, of=0)
    assert gone.payment.status is Status.VOIDED, "it lapsed because it was voided"


def test_an_authorization_that_is_taken_back_after_its_capture_is_for_people() -> None:
    history = authorized().ask(CAPTURE).succeed()
    charged = history.payment.charge
    taken = charge(charged.reference, amount=1000)
    history.tell(replace(taken, outcome=Outcome.REVERSED, operation_id=charged.id))
    assert (history.payment.status, history.payment.review_reason) == (Status.REVIEW, "reversed_after_capture")


@pytest.mark.parametrize(("amount", "reference"), [(300, "ref"), (1000, "another")])
def test_what_is_taken_back_in_another_amount_or_under_another_name_is_for_people(amount: int, reference: str) -> None:
    history = sold()
    said = charge(history.payment.charge.reference if reference == "ref" else reference, amount=amount)
    history.tell(replace(said, outcome=Outcome.REVERSED))
    assert history.payment.status is Status.REVIEW
    if amount != 1000:
        assert history.books.wallet("EUR").pending == 960, "the wallet is untouched"


def test_giving_back_that_fails_is_for_people() -> None:
    about = replace(authorized().payment, is_for_pos=True, is_reversed=True)
    history = History(payment=about).ask(RequestKind.REVERSE).happen(Outcome.DECLINED)
    assert (history.payment.status, history.payment.review_reason) == (Status.REVIEW, "giving_back_failed")
