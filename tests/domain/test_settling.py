"""Lines of a PSP's report: posted as they are, once, after what they prove."""

from __future__ import annotations

from typing import Final

import pytest

from paynode.domain.booking import Effects, MerchantBooks
from paynode.domain.ids import HOUSE
from paynode.domain.money import FeePlan, Money
from paynode.domain.payment import OperationKind, OperationState, Payment, Status
from paynode.domain.psp import SettlementKind
from paynode.domain.report import ReportLine, line_id
from paynode.domain.requesting import RequestKind
from paynode.domain.settling import settle
from paynode.domain.terms import Availability, Terms
from tests.domain.making import History, around, payment

CHARGE, REFUND, REVERSAL, FEE = SettlementKind
BY_SETTLEMENT: Final = Terms(fees=FeePlan(fixed=0, basis_points=150), availability=Availability.SETTLEMENT)
OWED, SUSPENSE = "psp:sim:receivable", "suspense:sim"


def line(
    kind: SettlementKind,
    about: Payment | None,
    *,
    of: int = 0,
    reference: str = "ch_1",
    amount: int = 1000,
    is_posted: bool = False,
) -> ReportLine:
    return ReportLine(
        id=line_id("sim", kind, reference),
        psp="sim",
        kind=kind,
        reference=reference,
        operation_id=about.operations[of].id if about else None,
        payment_id=about.id if about else None,
        money=Money(amount=amount, currency="EUR"),
        at_ms=1_700_000_000_000,
        is_posted=is_posted,
    )


def told(history: History, one: ReportLine) -> Effects:
    books, after, effects = settle(history.books, history.payment, one, around())
    assert after is not None
    history.books, history.payment = books, after
    return effects


def lines(effects: Effects) -> list[tuple[str, str, str, int]]:
    postings = [entry.posting for entry in effects.entries]
    return [(one.type, one.debit, one.credit, one.money.amount) for one in postings]


def test_a_line_is_recognised_by_what_it_tells_of() -> None:
    assert line_id("sim", CHARGE, "ch_1") == line_id("sim", CHARGE, "ch_1")
    others = {line_id("sim", REFUND, "ch_1"), line_id("other", CHARGE, "ch_1"), line_id("sim", CHARGE, "ch_2")}
    assert len(others | {line_id("sim", CHARGE, "ch_1")}) == 4


def test_a_charge_that_is_known_is_settled() -> None:
    history = History().succeed(0, "ch_1")
    effects = told(history, line(CHARGE, history.payment))
    assert lines(effects) == [("settlement", "bank", OWED, 1000)]
    assert (effects.payment, effects.fact, effects.event) == (None, None, None)


def test_of_a_line_that_was_had_before_only_the_message_is_claimed() -> None:
    history = History().succeed(0, "ch_1")
    before = history.books
    one = line(CHARGE, history.payment, is_posted=True)
    assert told(history, one) == Effects(claim=one.id)
    assert history.books == before


def test_a_missed_charge_is_booked_before_it_is_settled() -> None:
    history = History()
    effects = told(history, line(CHARGE, history.payment))
    assert lines(effects)[0] == ("capture", OWED, "merchant:pending", 1000)
    assert lines(effects)[-1] == ("settlement", "bank", OWED, 1000)
    assert (history.payment.status, history.payment.version) == (Status.CAPTURED, 2)
    assert effects.fact is not None
    assert (effects.fact.source, effects.fact.reference) == ("report", "ch_1")


def test_a_missed_refund_is_booked_before_it_is_settled() -> None:
    history = History().succeed(0, "ch_1").with_wallet(available=1000).ask(RequestKind.REFUND)
    effects = told(history, line(REFUND, history.payment, of=1, reference="re_1"))
    assert lines(effects) == [
        ("refund", "merchant:held", OWED, 1000),
        ("settlement", OWED, "bank", 1000),
    ]
    assert history.payment.amounts.refunded == 1000


def test_a_missed_reversal_is_booked_by_the_name_of_what_it_takes_back() -> None:
    history = History().succeed(0, "ch_1")
    effects = told(history, line(REVERSAL, history.payment, reference="rev_1"))
    assert lines(effects)[-1] == ("settlement", OWED, "bank", 1000)
    assert history.payment.charge.state is OperationState.REVERSED
    assert history.payment.status is Status.FAILED


def test_a_refund_that_did_not_arrive_comes_back_to_the_bank() -> None:
    history = History().succeed(0, "ch_1").with_wallet(available=1000).ask(RequestKind.REFUND).succeed()
    effects = told(history, line(REVERSAL, history.payment, of=1, reference="rev_1"))
    assert lines(effects) == [
        ("refund_reversal", OWED, "merchant:available", 1000),
        ("settlement", "bank", OWED, 1000),
    ]


@pytest.mark.parametrize("is_known", [True, False])
def test_another_amount_proves_nothing_and_is_settled_as_reported(is_known: bool) -> None:
    """The difference stays in what the PSP owes, with its sign, until people have looked."""
    history = History().succeed(0, "ch_1") if is_known else History()
    status = history.payment.status
    effects = told(history, line(CHARGE, history.payment, amount=990))
    assert lines(effects) == [("settlement", "bank", OWED, 990)]
    assert history.payment.status is status


def test_a_fee_is_an_expense_and_is_kept_by_the_psp() -> None:
    history = History().succeed(0, "ch_1")
    effects = told(history, line(FEE, history.payment, reference="fee_ch_1", amount=12))
    assert lines(effects) == [("psp_fee", "psp_fee_expense", OWED, 12), ("settlement", OWED, "bank", 12)]


@pytest.mark.parametrize(
    ("kind", "posted"),
    [
        (CHARGE, [("settlement", "bank", OWED, 1000), ("unexplained", OWED, SUSPENSE, 1000)]),
        (REFUND, [("settlement", OWED, "bank", 1000), ("unexplained", SUSPENSE, OWED, 1000)]),
        (REVERSAL, [("settlement", OWED, "bank", 1000), ("unexplained", SUSPENSE, OWED, 1000)]),
    ],
)
def test_what_is_nobodys_waits_in_suspense(kind: SettlementKind, posted: list[tuple[str, str, str, int]]) -> None:
    books, payment_, effects = settle(MerchantBooks(merchant_id=HOUSE), None, line(kind, None), around())
    assert lines(effects) == posted
    assert (payment_, books.wallet("EUR").balance) == (None, 0)


def test_a_second_charge_of_one_operation_is_given_back() -> None:
    history = History().succeed(0, "ch_1")
    effects = told(history, line(CHARGE, history.payment, reference="ch_2"))
    assert lines(effects) == [("surplus", OWED, SUSPENSE, 1000), ("settlement", "bank", OWED, 1000)]
    assert [made.operation.target for made in effects.made] == ["ch_2"]


def test_what_waits_for_its_settlement_becomes_available_by_it() -> None:
    history = History(payment=payment(terms=BY_SETTLEMENT)).succeed(0, "ch_1")
    effects = told(history, line(CHARGE, history.payment))
    assert lines(effects) == [
        ("available", "merchant:pending", "merchant:available", 985),
        ("settlement", "bank", OWED, 1000),
    ]
    assert effects.event is not None
    assert (effects.event.type, effects.base_version, history.payment.version) == ("payment.available", 2, 3)


def test_of_an_authorization_that_is_settled_all_captures_become_available() -> None:
    """Some PSPs report the authorization's own name."""
    about = payment(terms=BY_SETTLEMENT, kind=OperationKind.AUTHORIZE)
    history = History(payment=about).succeed(0, "ch_1")
    for amount in (400, 600):
        history.ask(RequestKind.CAPTURE, amount=amount).succeed()
    effects = told(history, line(CHARGE, history.payment))
    assert [one[3] for one in lines(effects) if one[0] == "available"] == [394, 591]
    assert history.books.wallet("EUR").pending == 0


def test_a_missed_charge_by_settlement_is_one_version_and_one_event() -> None:
    history = History(payment=payment(terms=BY_SETTLEMENT))
    effects = told(history, line(CHARGE, history.payment))
    assert [one[0] for one in lines(effects)] == ["capture", "fee", "available", "settlement"]
    assert (effects.base_version, history.payment.version, effects.payment) == (1, 2, history.payment)
    assert effects.event is not None
    assert effects.event.type == "payment.captured"
