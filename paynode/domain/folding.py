"""From operations and a set of facts to a payment.

Nothing here remembers in which order facts came (`evidence.py`); only which operations there are was decided once, by
requests and rules (`granting.py`, `deciding.py`), and is kept.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Final

from paynode.domain.evidence import Limits, contradiction, is_denied, own, placed, weighed
from paynode.domain.payment import (
    FREES_ORDER,
    Amounts,
    Fact,
    Method,
    Operation,
    OperationKind,
    OperationState,
    Origin,
    Payment,
    Status,
)
from paynode.domain.psp import Outcome

_OF_CHARGE: Final = {
    OperationState.PENDING: Status.REQUIRES_ACTION,
    OperationState.UNKNOWN: Status.UNKNOWN,
    OperationState.REVIEW: Status.REVIEW,
    OperationState.DECLINED: Status.DECLINED,
    OperationState.EXPIRED: Status.EXPIRED,
    OperationState.FAILED: Status.FAILED,
    OperationState.REVERSED: Status.FAILED,
}

# What a later word of the fraud check is worth more than: a charge is held, let go, and may turn out to be a thief's.
_FRAUD_WORDS: Final = ("rejected", "passed", "bypassed", "review")

# Left by a later capture, by a void, or when the authorization lapses.
CAPTURE_REFUSED: Final = "capture_refused"

_Facts = Mapping[str, Sequence[Fact]]


def absorb(payment: Payment, fact: Fact, limits: Limits) -> Payment:
    """The payment with one more fact; the very same object when the fact is known already."""
    operation = payment.operation(fact.operation_id)
    if operation is None:
        raise ValueError("a fact about another payment's operation")
    fact = placed(operation, fact, payment.facts_of(operation), payment.route)
    if any(known.identity == fact.identity for known in payment.facts):
        return payment
    return fold(replace(payment, facts=(*payment.facts, fact), version=payment.version + 1), limits)


def with_operation(payment: Payment, operation: Operation, limits: Limits) -> Payment:
    """The payment with one more operation; the version is the caller's to raise."""
    return fold(replace(payment, operations=(*payment.operations, operation)), limits)


def fold(payment: Payment, limits: Limits) -> Payment:
    """Everything that follows from operations and facts."""
    # Of a payment that nobody waits for, the charge need not be sent; what undoes it must be.
    of_charge = replace(limits, is_unwanted=True) if payment.is_reversed else limits
    facts = {one.id: payment.facts_of(one) for one in payment.operations}
    operations = tuple(
        weighed(one, facts[one.id], payment.route, of_charge if one.is_charge else limits) for one in payment.operations
    )
    payment = replace(payment, operations=(_closed(operations), *operations[1:]))
    proper = _without_surplus(payment)
    amounts, breach = _amounts(proper, facts)
    reason = _review_reason(payment, facts) or breach
    if reason is None and _is_left_uncaptured(proper, amounts):
        reason = CAPTURE_REFUSED
    status = Status.REVIEW if reason else _status(proper, amounts, facts)
    return replace(
        payment,
        amounts=amounts,
        status=status,
        review_reason=reason,
        psp_reference=payment.charge.reference,
        # Opening again with the same key gives the same page; the least one, should a PSP ever give two.
        page_url=min((fact.page_url for fact in own(payment.facts) if fact.page_url), default=None),
        fraud_check=_fraud_check(payment),
        is_given_up=payment.is_given_up or status in FREES_ORDER,
    )


def status_at_first(method: Method) -> Status:
    """How a payment reads before anything is known about it."""
    return Status.CREATED if method is Method.HOSTED_PAGE else Status.PROCESSING


def has_lapsed(payment: Payment, facts: Sequence[Fact]) -> bool:
    """Whether the PSP has let go of the authorization by itself."""
    is_authorized = payment.charge.state is OperationState.APPROVED
    is_over = any(fact.outcome is Outcome.EXPIRED for fact in facts)
    return payment.charge.kind is OperationKind.AUTHORIZE and is_authorized and is_over


def _without_surplus(payment: Payment) -> Payment:
    """As if what gives a surplus back were not there: that money never was the payment's."""
    if all(one.origin is not Origin.SURPLUS for one in payment.operations):
        return payment
    operations = tuple(one for one in payment.operations if one.origin is not Origin.SURPLUS)
    return replace(payment, operations=operations)


def _closed(operations: Sequence[Operation]) -> Operation:
    """The charge; its page is over when the PSP has closed it for us, whether or not it says so once more."""
    charge, *others = operations
    is_canceled = any(one.kind is OperationKind.CANCEL and one.state is OperationState.APPROVED for one in others)
    if is_canceled and charge.state in (OperationState.NEW, OperationState.PENDING):
        return replace(charge, state=OperationState.EXPIRED)
    return charge


# -- status -----------------------------------------------------------------------------------------------------------


def _status(payment: Payment, amounts: Amounts, facts: _Facts) -> Status:
    charge = payment.charge
    is_canceled = any(
        one.kind is OperationKind.CANCEL and one.state is OperationState.APPROVED for one in payment.operations
    )
    is_capturing = charge.state is OperationState.REVERSED and bool(amounts.captured or amounts.capturing)
    if charge.state is OperationState.APPROVED or is_capturing:
        return _status_of_success(payment, amounts, facts[charge.id])
    if is_canceled and charge.state is OperationState.EXPIRED:
        return Status.CANCELED
    if charge.state is OperationState.NEW and payment.is_reversed:
        return Status.UNKNOWN
    if charge.state is OperationState.NEW:
        return status_at_first(payment.method)
    return _OF_CHARGE[charge.state]


def _status_of_success(payment: Payment, amounts: Amounts, facts: Sequence[Fact]) -> Status:
    if payment.charge.kind is OperationKind.SALE:
        return Status.CAPTURED
    # A refund in doubt shows in the refund status: the payment stays what it is.
    doubted = (OperationKind.CAPTURE, OperationKind.VOID)
    if any(one.state is OperationState.UNKNOWN for one in payment.operations if one.kind in doubted):
        return Status.UNKNOWN
    if amounts.captured:
        return Status.CAPTURED if amounts.captured == amounts.authorized else Status.PARTIALLY_CAPTURED
    if amounts.capturing or amounts.voiding:
        return Status.AUTHORIZED  # it is not over before these are
    if any(one.state is OperationState.REVERSED for one in payment.operations):
        return Status.FAILED
    if any(one.kind is OperationKind.VOID and one.state is OperationState.APPROVED for one in payment.operations):
        return Status.VOIDED  # also where the PSP says that it lapsed, because it was voided
    if has_lapsed(payment, facts):
        return Status.EXPIRED
    return Status.VOIDED if amounts.voided == amounts.authorized else Status.AUTHORIZED


def _review_reason(payment: Payment, facts: _Facts) -> str | None:
    operations = payment.operations
    # Or was tried to be, in vain, which is said below.
    given_back = {(one.psp, one.target) for one in operations if one.origin is Origin.SURPLUS and not one.is_open}
    for one in operations:
        if found := contradiction(one, facts[one.id], given_back):
            return found
    # What came too late and is being given back is explained.
    is_explained = any(one.origin is Origin.LATE_SUCCESS for one in operations)
    for one in operations:
        if is_denied(one, facts[one.id]) and not (one.is_charge and is_explained):
            return "charged_and_denied" if one.is_charge else "approved_and_denied"
    if any(one.state is OperationState.REVIEW for one in operations):
        return "outcome_unresolved"
    ours = [one for one in operations if one.origin is not Origin.REQUEST]
    if any(one.state is OperationState.REVERSED or _came_to_nothing(one) for one in ours):
        return "giving_back_failed"
    is_held = any(fact.outcome is Outcome.HELD for fact in own(payment.facts))
    if payment.charge.state is OperationState.NEW and is_held and _fraud_check(payment) in ("none", "review"):
        return "fraud_check"
    return None


def _is_left_uncaptured(payment: Payment, amounts: Amounts) -> bool:
    """Whether the capture that nobody had to ask for came to nothing, and nothing has been done about it since."""
    is_untouched = amounts.authorized > 0 and amounts.capturable == amounts.authorized
    captures = [one for one in payment.operations if one.kind is OperationKind.CAPTURE]
    return payment.is_automatic and is_untouched and any(_came_to_nothing(one) for one in captures)


def _came_to_nothing(operation: Operation) -> bool:
    return operation.state in (OperationState.DECLINED, OperationState.FAILED, OperationState.EXPIRED)


def _fraud_check(payment: Payment) -> str:
    """The last word of whoever checked, in whatever order the words came."""
    said = {fact.fraud_check for fact in payment.facts}
    return next((word for word in _FRAUD_WORDS if word in said), "none")


# -- amounts ----------------------------------------------------------------------------------------------------------


def _amounts(payment: Payment, facts: _Facts) -> tuple[Amounts, str | None]:
    """The amounts, and the law that the evidence breaks.

    No evidence may ever fail a CHECK: what no legal state holds is left out of the amounts, stands in the ledger all
    the same, and people look at it.
    """
    charge = payment.charge
    if charge.state not in (OperationState.APPROVED, OperationState.REVERSED):
        return Amounts(), None
    refunding, refunded = _sum_open(payment, OperationKind.REFUND), _sum(payment, OperationKind.REFUND)
    authorized = charge.money.amount
    if charge.kind is OperationKind.SALE:
        captured, capturing, voiding, voided = _net(charge), 0, 0, 0
    else:
        captures = [one for one in payment.operations if one.kind is OperationKind.CAPTURE]
        captured, capturing = sum(_net(one) for one in captures), _sum_open(payment, OperationKind.CAPTURE)
        voiding, voided = _sum_open(payment, OperationKind.VOID), _sum(payment, OperationKind.VOID)
        rest = authorized - captured - capturing - voiding - voided
        taken_back = sum(one.money.amount for one in captures if one.state is OperationState.REVERSED)
        is_over = has_lapsed(payment, facts[charge.id]) or charge.state is OperationState.REVERSED
        if is_over or any(one.is_final and one.state is OperationState.APPROVED for one in captures):
            voided += max(rest, 0)
        elif any(one.is_final and one.is_open for one in captures):
            voiding += max(rest, 0)
        else:
            voided += max(min(taken_back, rest), 0)
    is_gone = charge.kind is OperationKind.AUTHORIZE and charge.state is OperationState.REVERSED
    breach = "reversed_after_capture" if is_gone and captured else None
    if refunded + refunding > captured:
        captured, breach = refunded + refunding, "reversed_after_refund"
    if captured + capturing > authorized:
        capturing, breach = max(authorized - captured, 0), "captured_too_much"
    if captured > authorized:
        # Shown as far as a legal state goes.
        refunded = min(refunded, authorized)
        refunding = min(refunding, authorized - refunded)
        too_much = Amounts(authorized=authorized, captured=authorized, refunding=refunding, refunded=refunded)
        return too_much, "captured_too_much"
    if captured + capturing + voiding + voided > authorized:
        breach = breach or "captured_and_voided"
        voided = min(voided, authorized - captured - capturing)
        voiding = authorized - captured - capturing - voided if voiding else 0
    amounts = Amounts(
        authorized=authorized,
        capturing=capturing,
        captured=captured,
        voiding=voiding,
        voided=voided,
        refunding=refunding,
        refunded=refunded,
    )
    return amounts, breach


def _net(operation: Operation) -> int:
    return operation.money.amount if operation.state is OperationState.APPROVED else 0


def _sum(payment: Payment, kind: OperationKind) -> int:
    return sum(_net(one) for one in payment.operations if one.kind is kind)


def _sum_open(payment: Payment, kind: OperationKind) -> int:
    return sum(one.money.amount for one in payment.operations if one.kind is kind and one.is_open)
