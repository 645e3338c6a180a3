"""A PSP's settlement report against operations and ledger: three ways, line by line, in exact integers."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

from paynode.domain.money import AMOUNT_MAX
from paynode.domain.payment import OperationKind, OperationState
from paynode.domain.psp import SettlementKind, SettlementLine
from paynode.domain.reconciling import BreakKind, Difference

# Characters; the last millisecond of the year 9999.
_REFERENCE_MAX: Final = 500
_AT_MS_MAX: Final = 253_402_300_799_999
_CURRENCY: Final = re.compile(r"[A-Z]{3}", re.ASCII)

# What a line of each kind can be about. A line may name the authorization whose captures it pays out.
_ABOUT: Final = {
    SettlementKind.CHARGE: (OperationKind.SALE, OperationKind.CAPTURE, OperationKind.AUTHORIZE),
    SettlementKind.REFUND: (OperationKind.REFUND,),
    SettlementKind.REVERSAL: (OperationKind.SALE, OperationKind.CAPTURE, OperationKind.REFUND),
}
# What the ledger calls that.
_POSTED_AS: Final = {
    SettlementKind.CHARGE: ("capture", "surplus"),
    SettlementKind.REFUND: ("refund", "surplus", "surplus_return"),
    SettlementKind.REVERSAL: ("reversal", "refund_reversal", "surplus_return_reversal"),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class KeptLine:
    """A line of a report under the id that recognises it. `is_posted`: its actor has booked it."""

    id: str
    psp: str
    line: SettlementLine
    is_posted: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Booked:
    """What the ledger has of an operation: `amount` is what the PSP owes us by it, in minor units with its sign."""

    type: str
    reference: str
    amount: int
    currency: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Known:
    """The operation that a line means, and what is booked of it."""

    operation_id: str
    payment_id: str
    merchant_id: str
    kind: OperationKind
    state: OperationState
    amount: int
    currency: str
    booked: tuple[Booked, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Unreported:
    """Something booked of which no report has a line. `at_ms`: when it was booked, in milliseconds since 1970."""

    operation_id: str
    payment_id: str
    merchant_id: str
    psp: str
    at_ms: int
    booked: Booked


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """A line with what our books have of it; `first_amount` and `first_currency`: as it was told the first time."""

    kept: KeptLine
    known: Known | None
    first_amount: int | None = None
    first_currency: str | None = None


def examine(told: Told) -> Difference | None:
    """What a line says otherwise: than our books, or than when it was first told, which is what was posted."""
    line = told.kept.line
    if told.first_amount is None or told.first_currency is None:
        return compare(told.kept, told.known)
    if (told.first_amount, told.first_currency) != (line.amount, line.currency):
        return changed(told.kept, told.first_amount, told.first_currency)
    return compare(told.kept, told.known)


def compare(kept: KeptLine, known: Known | None) -> Difference | None:
    """What a line says otherwise than our books; None when they agree. Fees are nowhere but in reports."""
    line = kept.line
    if line.kind is SettlementKind.FEE:
        return None
    found = _signed(line, known)
    if known is None or known.kind not in _ABOUT[line.kind]:
        return _difference(BreakKind.UNEXPLAINED, kept, known, 0, found)
    if line.currency != known.currency:
        return _difference(BreakKind.CURRENCY_DIFFERS, kept, known, 0, found)
    fitting = [one for one in known.booked if one.type in _POSTED_AS[line.kind] and one.currency == line.currency]
    meant = [one for one in fitting if _is_meant(line, known, one)]
    expected = sum(one.amount for one in meant)
    if meant:
        is_same = expected == found
        return None if is_same else _difference(BreakKind.AMOUNT_DIFFERS, kept, known, expected, found)
    return _difference(_kind_of_unbooked(line, known, fitting), kept, known, 0, found)


def _kind_of_unbooked(line: SettlementLine, known: Known, fitting: Sequence[Booked]) -> BreakKind:
    if fitting:
        return BreakKind.CHARGED_TWICE
    if line.amount != known.amount and known.kind is not OperationKind.AUTHORIZE:
        return BreakKind.AMOUNT_DIFFERS
    is_done = known.state is OperationState.REVERSED or (
        known.state is OperationState.APPROVED and line.kind is not SettlementKind.REVERSAL
    )
    is_charge = known.kind is not OperationKind.AUTHORIZE
    return BreakKind.UNPOSTED if is_done and is_charge else BreakKind.MISSING_IN_BOOKS


def _is_meant(line: SettlementLine, known: Known, booked: Booked) -> bool:
    """A reversal has a name of its own in a report, and so has the payout of an authorization's captures."""
    is_named = line.kind is not SettlementKind.REVERSAL and known.kind is not OperationKind.AUTHORIZE
    return not is_named or booked.reference == line.reference


def _signed(line: SettlementLine, known: Known | None) -> int:
    """What the PSP owes us by a line; of a refund that it took back, more."""
    is_of_refund = known is not None and known.kind is OperationKind.REFUND
    is_incoming = line.kind is SettlementKind.CHARGE or (line.kind is SettlementKind.REVERSAL and is_of_refund)
    return line.amount if is_incoming else -line.amount


def _is_repaired_by_the_line(kind: BreakKind, kept: KeptLine, known: Known | None) -> bool:
    """Whether posting the line books what is missing: it is then proof of exactly what was asked."""
    if known is None or kept.is_posted or (kept.line.amount, kept.line.currency) != (known.amount, known.currency):
        return False
    if kept.line.kind is SettlementKind.REVERSAL:
        return kind is BreakKind.MISSING_IN_BOOKS and known.state is OperationState.APPROVED
    is_exact = known.kind is not OperationKind.AUTHORIZE
    return is_exact and kind in (BreakKind.MISSING_IN_BOOKS, BreakKind.CHARGED_TWICE)


def _difference(kind: BreakKind, kept: KeptLine, known: Known | None, expected: int, found: int) -> Difference:
    line = kept.line
    difference = Difference(
        kind=kind,
        subject=kept.id,
        expected=expected,
        found=found,
        size=abs(found - expected),
        currency=line.currency,
        psp=kept.psp,
        reference=line.reference,
        at_ms=line.at_ms,
        evidence={"line": line.kind, "our_reference": line.our_reference},
        is_repairing=_is_repaired_by_the_line(kind, kept, known),
    )
    return difference if known is None else _about(known, difference)


def _about(known: Known, difference: Difference) -> Difference:
    return replace(
        difference,
        merchant_id=known.merchant_id,
        payment_id=known.payment_id,
        operation_id=known.operation_id,
        evidence={
            **difference.evidence,
            "operation": known.kind,
            "state": known.state,
            "asked_amount": known.amount,
            "asked_currency": known.currency,
            "booked_as": ", ".join(f"{one.type} {one.reference} {one.amount}" for one in known.booked),
        },
    )


def accounted_for(told: Told) -> frozenset[str]:
    """What a line accounts for, in words that `accounts` of what is booked knows."""
    known, line = told.known, told.kept.line
    if known is None:
        return frozenset()
    if line.kind is SettlementKind.REVERSAL:
        return frozenset({f"{known.operation_id} reversed"})
    named = {f"{known.operation_id} {line.reference}"}
    return frozenset(named | ({known.payment_id} if known.kind is OperationKind.AUTHORIZE else set()))


def accounts(unreported: Unreported) -> frozenset[str]:
    """What would account for something booked: a reversal by whichever name, a capture also by its authorization's."""
    booked = unreported.booked
    if booked.type.endswith("reversal"):
        return frozenset({f"{unreported.operation_id} reversed"})
    named = {f"{unreported.operation_id} {booked.reference}"}
    return frozenset(named | ({unreported.payment_id} if booked.type == "capture" else set()))


def missing_in_report(unreported: Unreported) -> Difference:
    """Something booked, long enough ago, that the PSP does not know of."""
    booked = unreported.booked
    return Difference(
        kind=BreakKind.MISSING_IN_REPORT,
        subject=f"{unreported.operation_id}/{booked.type}/{booked.reference}",
        expected=booked.amount,
        found=0,
        size=abs(booked.amount),
        currency=booked.currency,
        merchant_id=unreported.merchant_id,
        payment_id=unreported.payment_id,
        operation_id=unreported.operation_id,
        psp=unreported.psp,
        reference=booked.reference,
        at_ms=unreported.at_ms,
        evidence={"booked_as": booked.type},
    )


def changed(kept: KeptLine, amount: int, currency: str) -> Difference:
    """A line that says another thing than when it was first told: `amount` of `currency`, which is what was posted."""
    line = kept.line
    is_comparable = line.currency == currency
    return Difference(
        kind=BreakKind.REPORT_CHANGED,
        subject=kept.id,
        expected=amount if is_comparable else 0,
        found=line.amount,
        size=abs(line.amount - amount) if is_comparable else line.amount,
        currency=line.currency,
        psp=kept.psp,
        reference=line.reference,
        at_ms=line.at_ms,
        evidence={"line": line.kind, "first_amount": amount, "first_currency": currency},
    )


def is_readable(line: SettlementLine) -> bool:
    """Whether a line can be kept and posted: whatever a PSP writes, it stops at most its own report."""
    is_text = 0 < len(line.reference) <= _REFERENCE_MAX and line.reference.isprintable()
    is_money = 0 <= line.amount <= AMOUNT_MAX and _CURRENCY.fullmatch(line.currency) is not None
    return is_text and is_money and 0 <= line.at_ms <= _AT_MS_MAX


def digested(line: SettlementLine) -> bytes:
    """A line as the bytes that a run's digest is made of."""
    fields = (line.kind, line.reference, line.our_reference or "", line.amount, line.currency, line.at_ms)
    return ("|".join(map(str, fields)) + "\n").encode()
