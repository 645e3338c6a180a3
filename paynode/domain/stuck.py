"""What has not ended against what is under way for it."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from paynode.domain.payment import OperationKind, OperationState
from paynode.domain.psp import Outcome
from paynode.domain.reconciling import BreakKind, Difference


class Cure(StrEnum):
    """What puts an operation back on its way; the words are those of the messages."""

    SUBMIT = "psp.submit"  # its command anew: what may have been sent is not sent again, and ends in doubt
    INQUIRE = "psp.inquire"  # the PSP is asked
    TELL = "psp.evidence"  # what the PSP has said stands in the attempt


# What an attempt says of money that did not move is all there is to say; of money that did, the amount is missing.
_TELLS_ALL = (Outcome.DECLINED, Outcome.EXPIRED)


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenOperation:
    """An operation that has not ended, some time after it was made (`created_ms`, since 1970).

    `is_stuck`: nothing is on its way. `has_attempt`: one that may have been sent; `outcome` is what came of it, None
    while nobody knows. `amount` in minor units.
    """

    id: str
    payment_id: str
    merchant_id: str
    psp: str
    kind: OperationKind
    state: OperationState
    amount: int
    currency: str
    created_ms: int
    is_pos: bool
    is_in_review: bool
    is_stuck: bool
    has_attempt: bool
    outcome: Outcome | None

    @property
    def is_charge(self) -> bool:
        """Whether its payment began with it."""
        return self.kind in (OperationKind.SALE, OperationKind.AUTHORIZE)


def examine(operation: OpenOperation) -> Difference | None:
    """What is wrong with it; None when somebody is at it."""
    if operation.is_stuck:
        return _difference(BreakKind.STUCK, operation)
    if operation.is_in_review or operation.state is OperationState.REVIEW:
        return _difference(BreakKind.IN_REVIEW, operation)
    return None


def cure(operation: OpenOperation) -> Cure:
    """What would end it."""
    if not operation.has_attempt or operation.outcome is None:
        return Cure.SUBMIT
    return Cure.TELL if operation.outcome in _TELLS_ALL else Cure.INQUIRE


def _difference(kind: BreakKind, operation: OpenOperation) -> Difference:
    return Difference(
        kind=kind,
        subject=operation.id,
        currency=operation.currency,
        merchant_id=operation.merchant_id,
        payment_id=operation.payment_id,
        operation_id=operation.id,
        psp=operation.psp,
        at_ms=operation.created_ms,
        evidence={
            "operation": operation.kind,
            "state": operation.state,
            "amount": operation.amount,
            "attempt": (operation.outcome or "open") if operation.has_attempt else None,
        },
    )
