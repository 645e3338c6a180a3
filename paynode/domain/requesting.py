"""What a merchant asks about a payment that is there already: capture, void, cancel, refund."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class RequestKind(StrEnum):
    """What is asked. `REVERSE` is paynode's own: nobody waits for this payment's authorization any longer."""

    CAPTURE = "capture"
    VOID = "void"
    CANCEL = "cancel"
    REFUND = "refund"
    REVERSE = "reverse"


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """One request; its id is its outbox row's, and that of the operation that it becomes.

    `amount` in minor units, None: all that is left. `is_final`: no further capture will come. `expected_version`: the
    payment's version that the merchant had seen, None: any.
    """

    id: str
    payment_id: str
    kind: RequestKind
    amount: int | None = None
    is_final: bool = False
    reason: str = ""
    expected_version: int | None = None

    @property
    def event_id(self) -> str:
        """What recognises its effect, for ever."""
        return self.id


class Refusal(StrEnum):
    """Why a request cannot be: the `code` that the merchant is told, in order of precedence."""

    PAYMENT_CHANGED = "payment_changed"  # 412: not the version that the merchant had seen
    OUTCOME_UNKNOWN = "operation_outcome_unknown"
    UNDER_REVIEW = "payment_under_review"
    NOT_AUTHORIZED = "payment_not_authorized"
    NOT_CAPTURABLE = "payment_not_capturable"
    NOT_VOIDABLE = "payment_not_voidable"
    NOT_CANCELABLE = "payment_not_cancelable"
    NOT_REFUNDABLE = "payment_not_refundable"
    OPERATION_IN_FLIGHT = "operation_in_flight"
    EXCEEDS_AUTHORIZED = "amount_exceeds_authorized"
    EXCEEDS_CAPTURED = "amount_exceeds_captured"
    INSUFFICIENT_FUNDS = "insufficient_funds"
    NOT_SUPPORTED = "not_supported_by_psp"


@dataclass(frozen=True, slots=True, kw_only=True)
class Decided:
    """What became of a request; `refusal` None: the operation is there. `version` is the payment's, after it."""

    request_id: str
    refusal: Refusal | None
    version: int
