"""A line of a PSP's settlement report: the bank has it, and what the PSP owes us has become less.

Every line is posted as it was reported, whatever our books say about it: the difference between the two is what people
look at, and stands in `psp:…:receivable` until they have. Where the line proves what we did not know, a capture or a
refund that is exactly as asked, it is booked first, like any other evidence.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Final

from paynode.domain.booking import (
    Effects,
    Lines,
    MerchantBooks,
    Scheduled,
    Surroundings,
    TimelineEvent,
    book,
    make_available,
    post,
)
from paynode.domain.payment import Fact, Operation, OperationKind, OperationState, Payment, Source
from paynode.domain.postings import BANK, PSP_FEES, BusinessFact, Posting, receivable, suspense
from paynode.domain.psp import Outcome, SettlementKind
from paynode.domain.report import ReportLine

_CHARGING: Final = (OperationKind.SALE, OperationKind.CAPTURE)


def settle(
    books: MerchantBooks, payment: Payment | None, line: ReportLine, around: Surroundings
) -> tuple[MerchantBooks, Payment | None, Effects]:
    """Post a line, after what it proves; what is available by settlement becomes so with it."""
    if line.is_posted:
        return books, payment, Effects(claim=line.id)
    effects, operation = Effects(claim=line.id), _operation(payment, line)
    if payment is not None and operation is not None:
        if _is_news(payment, operation, line):
            books, payment, effects = book(books, payment, _fact(payment, operation, line), around)
        books, payment, effects = _made_available(books, payment, line, effects, around)
    books, lines = post(books, _business_fact(operation, line), around)
    effects = replace(
        effects, entries=effects.entries + lines.entries, adjustments=effects.adjustments + lines.adjustments
    )
    return books, payment, effects


def _operation(payment: Payment | None, line: ReportLine) -> Operation | None:
    if payment is None or line.operation_id is None:
        return None
    return payment.operation(line.operation_id)


def _is_news(payment: Payment, operation: Operation, line: ReportLine) -> bool:
    """Whether it proves something that is exactly as asked and that the books do not have."""
    if line.money != operation.money:
        return False
    match line.kind:
        case SettlementKind.CHARGE:
            return operation.kind in _CHARGING and _is_new_success(payment, operation, line)
        case SettlementKind.REFUND:
            return operation.kind is OperationKind.REFUND and _is_new_success(payment, operation, line)
        case SettlementKind.REVERSAL:
            return operation.state is OperationState.APPROVED and operation.kind in (*_CHARGING, OperationKind.REFUND)
        case SettlementKind.FEE:
            return False


def _is_new_success(payment: Payment, operation: Operation, line: ReportLine) -> bool:
    """Also a second one beside that which is booked: the charge that nobody asked for is given back."""
    return all(
        fact.reference != line.reference or fact.outcome not in (Outcome.APPROVED, Outcome.REVERSED)
        for fact in payment.facts_of(operation)
    )


def _fact(payment: Payment, operation: Operation, line: ReportLine) -> Fact:
    is_reversal = line.kind is SettlementKind.REVERSAL
    return Fact(
        event_id=line.id,
        payment_id=payment.id,
        operation_id=operation.id,
        outcome=Outcome.REVERSED if is_reversal else Outcome.APPROVED,
        source=Source.REPORT,
        # A reversal has a name of its own in a report; what is taken back is what was booked.
        reference=operation.reference if is_reversal else line.reference,
        amount=line.money.amount,
        currency=line.money.currency,
        psp_at_ms=line.at_ms,
        psp=line.psp,
    )


def _made_available(
    books: MerchantBooks, payment: Payment, line: ReportLine, effects: Effects, around: Surroundings
) -> tuple[MerchantBooks, Payment, Effects]:
    """A capture that waited for its settlement has it. The version is raised once, by whatever comes first."""
    before, lines = payment, Lines()
    for operation in _settled(payment, line):
        books, payment, more = make_available(books, payment, operation, around)
        lines += more
    if payment is before:
        return books, payment, effects
    if effects.payment is None:
        payment = replace(payment, version=payment.version + 1)
        cause = Scheduled(operation_id=line.operation_id or "", source=Source.REPORT)
        told = TimelineEvent(id=around.new_id(), payment=payment, type="payment.available", cause=cause)
        effects = replace(effects, base_version=before.version, event=told)
    effects = replace(
        effects,
        payment=payment,
        entries=effects.entries + lines.entries,
        adjustments=effects.adjustments + lines.adjustments,
    )
    return books, payment, effects


def _settled(payment: Payment, line: ReportLine) -> Iterator[Operation]:
    """What the line pays out: the capture itself; where it names the authorization, all that was captured of it."""
    if line.kind is not SettlementKind.CHARGE:
        return
    for one in payment.operations:
        is_meant = one.id == line.operation_id or (
            payment.charge.kind is OperationKind.AUTHORIZE and (line.operation_id == payment.charge.id)
        )
        if one.is_maturing and one.matures_at_ms is None and is_meant:
            yield one


def _business_fact(operation: Operation | None, line: ReportLine) -> BusinessFact:
    is_refund = operation is not None and operation.kind is OperationKind.REFUND
    return BusinessFact(
        operation_id=line.id,
        kind="settlement",
        payment_id=None if operation is None else line.payment_id,
        reference=line.reference,
        postings=tuple(_postings(line, is_refund=is_refund, is_ours=operation is not None)),
    )


def _postings(line: ReportLine, *, is_refund: bool, is_ours: bool) -> Iterator[Posting]:
    owed = receivable(line.psp)
    match line.kind:
        case SettlementKind.FEE:
            yield Posting(type="psp_fee", debit=PSP_FEES, credit=owed, money=line.money)
            yield Posting(type="settlement", debit=owed, credit=BANK, money=line.money)
            return
        case SettlementKind.CHARGE:
            is_incoming = True
        case SettlementKind.REFUND:
            is_incoming = False
        case SettlementKind.REVERSAL:
            is_incoming = is_refund  # a refund that did not arrive comes back to us
    debit, credit = (BANK, owed) if is_incoming else (owed, BANK)
    yield Posting(type="settlement", debit=debit, credit=credit, money=line.money)
    if not is_ours:
        debit, credit = (owed, suspense(line.psp)) if is_incoming else (suspense(line.psp), owed)
        yield Posting(type="unexplained", debit=debit, credit=credit, money=line.money)
