"""From a set of facts to a payment.

The state is a function of the *set* of facts: each rule below asks "is there a fact that ...", never "was the last
fact ...". So any order and any repetition of the same evidence give the same payment, and there is nothing to undo
when the PSP's callback overtakes its answer.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from paynode.domain.payment import (
    Amounts,
    Fact,
    Method,
    Operation,
    OperationState,
    Payment,
    Status,
)
from paynode.domain.psp import Outcome

# The first outcome that some fact has decides: evidence of a charge beats evidence of none, which beats doubt.
# A page that is known to be open beats a call whose outcome was lost: that call was the one that opened it.
_PRECEDENCE = (
    (Outcome.APPROVED, OperationState.APPROVED),
    (Outcome.DECLINED, OperationState.DECLINED),
    (Outcome.EXPIRED, OperationState.EXPIRED),
    (Outcome.PENDING, OperationState.PENDING),
    (Outcome.UNKNOWN, OperationState.UNKNOWN),
)

_STATUS = {
    OperationState.PENDING: Status.REQUIRES_ACTION,
    OperationState.UNKNOWN: Status.UNKNOWN,
    OperationState.APPROVED: Status.CAPTURED,
    OperationState.DECLINED: Status.DECLINED,
    OperationState.EXPIRED: Status.EXPIRED,
    OperationState.FAILED: Status.FAILED,
}


def absorb(payment: Payment, fact: Fact, *, tries_max: int) -> Payment:
    """The payment with one more fact; the very same object when the fact is known already.

    `tries_max` bounds the calls that provably never left before the payment is given up as failed.
    """
    if fact.operation_id != payment.operation.id:
        raise ValueError("a fact about another payment's operation")
    if any(known.identity == fact.identity for known in payment.facts):
        return payment
    folded = _fold(payment, (*payment.facts, fact), tries_max)
    return replace(folded, version=payment.version + 1)


def _fold(payment: Payment, facts: tuple[Fact, ...], tries_max: int) -> Payment:
    operation = _operation(payment.operation, facts, tries_max)
    contradiction = _contradiction(payment, facts)
    captured = payment.money.amount if operation.state is OperationState.APPROVED else 0
    return replace(
        payment,
        facts=facts,
        operation=operation,
        status=Status.REVIEW if contradiction else status_of(payment.method, operation.state),
        amounts=Amounts(authorized=captured, captured=captured),
        psp_reference=operation.reference,
        # Opening again with the same key gives the same page; the least one, should a PSP ever give two.
        page_url=min((fact.page_url for fact in facts if fact.page_url), default=None),
        review_reason=contradiction,
    )


def status_of(method: Method, state: OperationState) -> Status:
    """How the state of a sale reads to the merchant."""
    if state is OperationState.NEW:
        return Status.CREATED if method is Method.HOSTED_PAGE else Status.PROCESSING
    return _STATUS[state]


def _operation(operation: Operation, facts: Iterable[Fact], tries_max: int) -> Operation:
    charge = booked_charge(operation, facts)
    if charge is not None:
        return replace(operation, state=OperationState.APPROVED, reference=charge.reference)
    outcomes = [fact.outcome for fact in facts]
    for outcome, state in _PRECEDENCE:
        # A charge that is not as asked is in `outcomes` and not booked: the operation is in doubt, not approved.
        if outcome in outcomes:
            doubtful = state is OperationState.APPROVED
            return replace(operation, state=OperationState.UNKNOWN if doubtful else state)
    is_given_up = outcomes.count(Outcome.NOT_SENT) >= tries_max
    return replace(operation, state=OperationState.FAILED if is_given_up else OperationState.NEW)


def booked_charge(operation: Operation, facts: Iterable[Fact]) -> Fact | None:
    """The first charge that is exactly as asked: the one that is posted.

    "First" is the one place where order shows: when a PSP charged twice, one of two equal charges carries the
    posting. Which one makes no difference to any amount, and the payment goes to review either way.
    """
    return next((fact for fact in facts if fact.outcome is Outcome.APPROVED and is_as_asked(operation, fact)), None)


def is_as_asked(operation: Operation, fact: Fact) -> bool:
    """Whether a charge has the amount and currency that were asked for, and a reference to find it by."""
    return (
        fact.amount == operation.money.amount
        and fact.currency == operation.money.currency
        and fact.reference is not None
    )


def _contradiction(payment: Payment, facts: Iterable[Fact]) -> str | None:
    """Why people must look, in a fixed order of precedence; None when the evidence agrees."""
    charges = [fact for fact in facts if fact.outcome is Outcome.APPROVED]
    if any(fact.currency != payment.money.currency for fact in charges):
        return "currency_mismatch"
    if any(fact.amount != payment.money.amount for fact in charges):
        return "amount_mismatch"
    if any(fact.reference is None for fact in charges):
        return "reference_missing"
    if len({fact.reference for fact in charges}) > 1:
        return "charged_twice"
    denials = {Outcome.DECLINED, Outcome.EXPIRED}
    if charges and any(fact.outcome in denials for fact in facts):
        return "charged_and_denied"
    return None
