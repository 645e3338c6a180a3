"""Whether a merchant's request about a payment can be, and the operation that it becomes.

The payment's own actor asks, one request after the other: what one has reserved the next one cannot have. The database
checks the same sums once more.
"""

from __future__ import annotations

from paynode.domain.folding import CAPTURE_REFUSED, has_lapsed
from paynode.domain.money import Money
from paynode.domain.payment import Operation, OperationKind, OperationState, Payment
from paynode.domain.psp import Capabilities
from paynode.domain.requesting import Refusal, Request, RequestKind
from paynode.domain.wallet import Wallet


def grant(payment: Payment, request: Request, wallet: Wallet, can: Capabilities | None) -> Operation | Refusal:
    """The operation that the request becomes, or why it cannot be. `can`: what the charge's PSP does, None: all."""
    if request.expected_version not in (None, payment.version):
        return Refusal.PAYMENT_CHANGED
    if any(one.state is OperationState.UNKNOWN for one in payment.operations):
        return Refusal.OUTCOME_UNKNOWN
    # Of a capture that was refused everything is known: what is left is to try again, or to let go.
    is_open = payment.review_reason == CAPTURE_REFUSED and request.kind in (RequestKind.CAPTURE, RequestKind.VOID)
    if payment.review_reason is not None and not is_open:
        return Refusal.UNDER_REVIEW
    match request.kind:
        case RequestKind.CAPTURE:
            return _capture(payment, request, can)
        case RequestKind.VOID:
            return _void(payment, request)
        case RequestKind.CANCEL:
            return _cancel(payment, request, can)
        case RequestKind.REFUND:
            return _refund(payment, request, wallet, can)
        case RequestKind.REVERSE:
            raise ValueError("nobody grants a reversal: it is a rule")


def _capture(payment: Payment, request: Request, can: Capabilities | None) -> Operation | Refusal:
    if refusal := _not_authorized(payment, Refusal.NOT_CAPTURABLE):
        return refusal
    left = payment.amounts.capturable
    amount = request.amount or left
    # The last capture ends the authorization, also under others that are still under way.
    if payment.amounts.voiding or (request.is_final and payment.amounts.capturing):
        return Refusal.OPERATION_IN_FLIGHT
    if left == 0:
        return Refusal.NOT_CAPTURABLE
    if amount > left:
        return Refusal.EXCEEDS_AUTHORIZED
    if can is not None and amount < left and not can.can_capture_partially:
        return Refusal.NOT_SUPPORTED
    # A PSP that captures once captures for the last time: the rest cannot be had later.
    is_rest = amount == left and not payment.amounts.capturing
    is_final = request.is_final or is_rest or (can is not None and not can.can_capture_repeatedly)
    return _operation(payment, request, OperationKind.CAPTURE, amount, is_final=is_final)


def _void(payment: Payment, request: Request) -> Operation | Refusal:
    if refusal := _not_authorized(payment, Refusal.NOT_VOIDABLE):
        return refusal
    if payment.amounts.capturing or payment.amounts.voiding:
        return Refusal.OPERATION_IN_FLIGHT
    left = payment.amounts.capturable
    return _operation(payment, request, OperationKind.VOID, left) if left else Refusal.NOT_VOIDABLE


def _cancel(payment: Payment, request: Request, can: Capabilities | None) -> Operation | Refusal:
    if payment.charge.state is not OperationState.PENDING:
        # Before the page is there, its opening may be under way: the PSP cannot be asked to close it yet.
        is_beginning = payment.charge.state is OperationState.NEW and not payment.is_given_up
        return Refusal.OPERATION_IN_FLIGHT if is_beginning else Refusal.NOT_CANCELABLE
    cancels = [one for one in payment.operations if one.kind is OperationKind.CANCEL]
    if any(one.state is OperationState.APPROVED for one in cancels):
        return Refusal.NOT_CANCELABLE
    if any(one.is_open for one in cancels):
        return Refusal.OPERATION_IN_FLIGHT
    if can is not None and not can.can_cancel_page:
        return Refusal.NOT_SUPPORTED
    return _operation(payment, request, OperationKind.CANCEL, payment.money.amount)


def _refund(payment: Payment, request: Request, wallet: Wallet, can: Capabilities | None) -> Operation | Refusal:
    left = payment.amounts.refundable
    amount = request.amount or left
    if payment.amounts.captured == 0 or left == 0:
        return Refusal.NOT_REFUNDABLE
    if amount > left:
        return Refusal.EXCEEDS_CAPTURED
    if can is not None and amount < payment.amounts.captured and not can.can_refund_partially:
        return Refusal.NOT_SUPPORTED
    from_available = min(max(wallet.available, 0), amount)
    # A debt in one bucket is not paid out of the other behind its back.
    if amount - from_available > wallet.pending or amount > wallet.available + wallet.pending:
        return Refusal.INSUFFICIENT_FUNDS
    return _operation(
        payment,
        request,
        OperationKind.REFUND,
        amount,
        hold_available=from_available,
        hold_pending=amount - from_available,
    )


def _not_authorized(payment: Payment, refusal: Refusal) -> Refusal | None:
    charge = payment.charge
    if charge.kind is not OperationKind.AUTHORIZE or payment.is_reversed:
        return refusal
    if charge.state is not OperationState.APPROVED:
        return Refusal.NOT_AUTHORIZED
    # At a point of sale nothing is captured before somebody has been told that it was authorized.
    is_undecided = payment.is_for_pos and not payment.is_kept
    return refusal if is_undecided or has_lapsed(payment, payment.facts_of(charge)) else None


def _operation(
    payment: Payment,
    request: Request,
    kind: OperationKind,
    amount: int,
    *,
    is_final: bool = False,
    hold_available: int = 0,
    hold_pending: int = 0,
) -> Operation:
    return Operation(
        id=request.id,
        kind=kind,
        money=Money(amount=amount, currency=payment.money.currency),
        psp=payment.charge.psp,
        is_final=is_final,
        hold_available=hold_available,
        hold_pending=hold_pending,
        reason=request.reason,
    )
