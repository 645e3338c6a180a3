"""The table of a report's differences, without a server."""

from __future__ import annotations

import pytest

from paynode.domain.comparing import (
    Booked,
    KeptLine,
    Known,
    Told,
    Unreported,
    accounted_for,
    accounts,
    compare,
    examine,
    missing_in_report,
)
from paynode.domain.payment import OperationKind, OperationState
from paynode.domain.psp import SettlementKind, SettlementLine
from paynode.domain.reconciling import BreakKind, Tally

CHARGE, REFUND, REVERSAL, FEE = SettlementKind
SALE, AUTHORIZE, CAPTURE = OperationKind.SALE, OperationKind.AUTHORIZE, OperationKind.CAPTURE
BACK, VOID = OperationKind.REFUND, OperationKind.VOID
APPROVED, UNKNOWN, REVERSED = OperationState.APPROVED, OperationState.UNKNOWN, OperationState.REVERSED
DECLINED = OperationState.DECLINED


def _kept(
    kind: SettlementKind = CHARGE,
    reference: str = "ch_1",
    amount: int = 1000,
    currency: str = "EUR",
    *,
    is_posted: bool = False,
) -> KeptLine:
    line = SettlementLine(kind=kind, reference=reference, our_reference="op", amount=amount, currency=currency, at_ms=1)
    return KeptLine(id="line", psp="sim", line=line, is_posted=is_posted)


def _known(kind: OperationKind, state: OperationState, *booked: tuple[str, str, int]) -> Known:
    return Known(
        operation_id="op",
        payment_id="pay",
        merchant_id="mer",
        kind=kind,
        state=state,
        amount=1000,
        currency="EUR",
        booked=tuple(Booked(type=kind, reference=name, amount=amount, currency="EUR") for kind, name, amount in booked),
    )


_SALE = ("capture", "ch_1", 1000)
_PAID_BACK = ("refund", "re_1", -1000)


@pytest.mark.parametrize(
    ("line", "known"),
    [
        (_kept(), _known(SALE, APPROVED, _SALE)),
        (_kept(), _known(CAPTURE, APPROVED, _SALE)),
        (_kept(), _known(SALE, REVERSED, _SALE, ("reversal", "ch_1", -1000))),
        (_kept(REVERSAL, "rv_1"), _known(SALE, REVERSED, _SALE, ("reversal", "ch_1", -1000))),
        (_kept(REFUND, "re_1"), _known(BACK, APPROVED, _PAID_BACK)),
        (_kept(REVERSAL, "rv_2"), _known(BACK, REVERSED, _PAID_BACK, ("refund_reversal", "re_1", 1000))),
        (_kept(reference="ch_2"), _known(SALE, APPROVED, _SALE, ("surplus", "ch_2", 1000))),
        (_kept(REFUND, "re_2"), _known(BACK, APPROVED, ("surplus_return", "re_2", -1000))),
        # Of an authorization the captures are paid out under its name, all in one.
        (_kept(reference="pi_1"), _known(AUTHORIZE, APPROVED, ("capture", "ca_1", 400), ("capture", "ca_2", 600))),
        (_kept(FEE, "fee_1", 12), None),
        (_kept(FEE, "fee_1", 12), _known(SALE, APPROVED, _SALE)),
    ],
)
def test_what_agrees_is_silent(line: KeptLine, known: Known | None) -> None:
    assert compare(line, known) is None


@pytest.mark.parametrize(
    ("line", "known", "kind", "expected", "found", "is_repairing"),
    [
        (_kept(), None, BreakKind.UNEXPLAINED, 0, 1000, False),
        (_kept(REFUND, "re_1"), None, BreakKind.UNEXPLAINED, 0, -1000, False),
        (_kept(REVERSAL, "rv_1"), None, BreakKind.UNEXPLAINED, 0, -1000, False),
        (_kept(REFUND), _known(SALE, APPROVED, _SALE), BreakKind.UNEXPLAINED, 0, -1000, False),
        (_kept(), _known(VOID, APPROVED), BreakKind.UNEXPLAINED, 0, 1000, False),
        (_kept(currency="USD"), _known(SALE, APPROVED, _SALE), BreakKind.CURRENCY_DIFFERS, 0, 1000, False),
        (_kept(amount=999), _known(SALE, APPROVED, _SALE), BreakKind.AMOUNT_DIFFERS, 1000, 999, False),
        (_kept(REFUND, "re_1", 1), _known(BACK, APPROVED, _PAID_BACK), BreakKind.AMOUNT_DIFFERS, -1000, -1, False),
        (_kept(amount=999), _known(SALE, UNKNOWN), BreakKind.AMOUNT_DIFFERS, 0, 999, False),
        (_kept(), _known(SALE, UNKNOWN), BreakKind.MISSING_IN_BOOKS, 0, 1000, True),
        (_kept(), _known(SALE, DECLINED), BreakKind.MISSING_IN_BOOKS, 0, 1000, True),
        (_kept(REFUND, "re_1"), _known(BACK, UNKNOWN), BreakKind.MISSING_IN_BOOKS, 0, -1000, True),
        (_kept(is_posted=True), _known(SALE, UNKNOWN), BreakKind.MISSING_IN_BOOKS, 0, 1000, False),
        (_kept(REVERSAL, "rv_1"), _known(SALE, APPROVED, _SALE), BreakKind.MISSING_IN_BOOKS, 0, -1000, True),
        (_kept(REVERSAL, "rv_1"), _known(SALE, UNKNOWN), BreakKind.MISSING_IN_BOOKS, 0, -1000, False),
        (_kept(REVERSAL, "rv_1"), _known(BACK, APPROVED, _PAID_BACK), BreakKind.MISSING_IN_BOOKS, 0, 1000, True),
        (_kept(REVERSAL, "rv_1", 300), _known(SALE, APPROVED, _SALE), BreakKind.AMOUNT_DIFFERS, 0, -300, False),
        (_kept(reference="ch_2"), _known(SALE, APPROVED, _SALE), BreakKind.CHARGED_TWICE, 0, 1000, True),
        (_kept(), _known(SALE, APPROVED), BreakKind.UNPOSTED, 0, 1000, False),
        (_kept(REVERSAL, "rv_1"), _known(SALE, REVERSED, _SALE), BreakKind.UNPOSTED, 0, -1000, False),
        (_kept(), _known(AUTHORIZE, APPROVED), BreakKind.MISSING_IN_BOOKS, 0, 1000, False),
        (
            _kept(reference="pi_1"),
            _known(AUTHORIZE, APPROVED, ("capture", "ca_1", 400)),
            BreakKind.AMOUNT_DIFFERS,
            400,
            1000,
            False,
        ),
    ],
)
def test_each_difference_has_its_kind_its_sign_and_its_repair(
    line: KeptLine, known: Known | None, kind: BreakKind, expected: int, found: int, is_repairing: bool
) -> None:
    difference = compare(line, known)
    assert difference is not None
    assert (difference.kind, difference.expected, difference.found) == (kind, expected, found)
    assert difference.drift == found - expected
    assert difference.size == abs(difference.drift)
    assert difference.is_repairing is is_repairing
    assert (difference.subject, difference.psp) == ("line", "sim")


def test_a_line_is_held_against_what_it_said_first() -> None:
    known = _known(SALE, APPROVED, _SALE)
    same = Told(kept=_kept(), known=known, first_amount=1000, first_currency="EUR")
    assert examine(same) is None
    later = examine(Told(kept=_kept(amount=900), known=known, first_amount=1000, first_currency="EUR"))
    assert later is not None
    assert (later.kind, later.drift, later.size) == (BreakKind.REPORT_CHANGED, -100, 100)
    other = examine(Told(kept=_kept(currency="USD"), known=known, first_amount=1000, first_currency="EUR"))
    assert other is not None
    assert (other.kind, other.expected, other.found, other.size) == (BreakKind.REPORT_CHANGED, 0, 1000, 1000)


def test_what_no_report_has_is_missing_with_its_sign() -> None:
    refund = Unreported(
        operation_id="op",
        payment_id="pay",
        merchant_id="mer",
        psp="sim",
        at_ms=1,
        booked=Booked(type="refund", reference="re_1", amount=-700, currency="EUR"),
    )
    difference = missing_in_report(refund)
    assert (difference.expected, difference.found, difference.drift, difference.size) == (-700, 0, 700, 700)


@pytest.mark.parametrize(
    ("line", "known", "booked", "is_one"),
    [
        (_kept(), _known(SALE, APPROVED), _SALE, True),
        (_kept(amount=1, currency="USD"), _known(SALE, APPROVED), _SALE, True),
        (_kept(reference="ch_2"), _known(SALE, APPROVED), _SALE, False),
        (_kept(REVERSAL, "rv_1"), _known(SALE, APPROVED), _SALE, False),
        (_kept(REVERSAL, "rv_1"), _known(SALE, REVERSED), ("reversal", "ch_1", -1000), True),
        (_kept(reference="pi_1"), _known(AUTHORIZE, APPROVED), ("capture", "ca_1", 400), True),
        (_kept(), None, _SALE, False),
    ],
)
def test_a_dry_run_knows_what_its_report_accounts_for(
    line: KeptLine, known: Known | None, booked: tuple[str, str, int], is_one: bool
) -> None:
    kind, reference, amount = booked
    unreported = Unreported(
        operation_id="op",
        payment_id="pay",
        merchant_id="mer",
        psp="sim",
        at_ms=1,
        booked=Booked(type=kind, reference=reference, amount=amount, currency="EUR"),
    )
    assert bool(accounted_for(Told(kept=line, known=known)) & accounts(unreported)) is is_one


def test_a_tally_has_one_digest_for_the_same_findings_in_whichever_order() -> None:
    one, other = compare(_kept(), None), compare(_kept(reference="ch_2"), _known(SALE, APPROVED, _SALE))
    assert one is not None
    assert other is not None
    first, second = Tally(), Tally()
    first.count([one, other])
    second.count([other])
    assert first.digest != second.digest
    second.count([one])
    assert first.digest == second.digest
    assert (first.drift, first.money, first.differing) == ({"EUR": 2000}, 2, 2)
