"""Stripe's JSON, read strictly, and the outcome that each of its states means for an operation."""

from __future__ import annotations

import re
from typing import Annotated, Final, Literal

from pydantic import BaseModel, ConfigDict, Field

from paynode.domain.payment import Method, OperationKind
from paynode.domain.psp import Answer, Outcome
from paynode.psp import stripe_requests as asked
from paynode.psp.stripe_money import from_stripe

_Int64 = Annotated[int, Field(ge=0, lt=2**63)]
_Currency = Annotated[str, Field(pattern=r"^[a-z]{3}$")]
_Text = Annotated[str, Field(max_length=500)]
_Code = Annotated[str, Field(max_length=200)]
IntentId = Annotated[str, Field(pattern=r"^pi_[A-Za-z0-9_]{1,200}$")]

_WORD: Final = re.compile(r"[a-z0-9_]{1,64}", re.ASCII)


class Said(BaseModel):
    """Something that Stripe said. Strict: a float, a bool or a numeral is no amount. New fields are passed over."""

    model_config = ConfigDict(strict=True, frozen=True, extra="ignore")


class _Marked(Said):
    metadata: dict[str, _Text] = Field(max_length=50)
    created: _Int64

    @property
    def operation_id(self) -> str | None:
        """Which of our operations it is of."""
        return self.metadata.get(asked.OPERATION)


class PaymentError(Said):
    """Why a card was declined."""

    code: _Code | None = None
    decline_code: _Code | None = None

    @property
    def reason(self) -> str:
        """The bank's word, else Stripe's."""
        return word(self.decline_code or self.code, "payment_failed")


class Intent(_Marked):
    """A PaymentIntent: a charge, an authorization or the try of one."""

    id: IntentId
    object: Literal["payment_intent"]
    status: Literal[
        "requires_payment_method",
        "requires_confirmation",
        "requires_action",
        "processing",
        "requires_capture",
        "canceled",
        "succeeded",
    ]
    amount: _Int64
    amount_capturable: _Int64
    amount_received: _Int64
    currency: _Currency
    canceled_at: _Int64 | None = None
    cancellation_reason: _Code | None = None
    last_payment_error: PaymentError | None = None

    @property
    def is_on_page(self) -> bool:
        """Whether the customer pays on a page, where a declined card is not the end."""
        return self.metadata.get(asked.METHOD) == Method.HOSTED_PAGE.value

    @property
    def is_authorization(self) -> bool:
        """Whether it was made to be captured later."""
        return self.metadata.get(asked.KIND) == OperationKind.AUTHORIZE.value

    def charged(self) -> Answer:
        """What it says of the sale or authorization that made it."""
        match self.status:
            case "succeeded" if self.is_authorization:
                return self._answer(Outcome.APPROVED, self.amount)
            case "succeeded":
                return self._answer(Outcome.APPROVED, self.amount_received)
            case "requires_capture" if self.is_authorization:
                return self._answer(Outcome.APPROVED, self.amount_capturable + self.amount_received)
            case "canceled":
                reason = word(self.cancellation_reason, "by_somebody")
                return self._answer(Outcome.EXPIRED, self.amount, f"canceled_{reason}", self.canceled_at)
            case "requires_payment_method" | "requires_action" if self.is_on_page:
                # The customer is at it; his page says how long he may be.
                return unsettled("page_in_use")
            case "requires_payment_method":
                error = self.last_payment_error
                return self._answer(Outcome.DECLINED, self.amount, error.reason if error else "payment_failed")
            case "requires_action":
                # Only the card's holder could go on, and nobody will show him this: it never becomes a charge.
                return self._answer(Outcome.DECLINED, self.amount, "authentication_required")
            case _:
                return unsettled(self.status)

    def captured(self, operation_id: str) -> Answer | None:
        """What it says of a capture. None: of none so far. One that somebody else made is none of ours."""
        match self.status:
            case "succeeded" if self.metadata.get(asked.CAPTURE) == operation_id:
                return self._answer(Outcome.APPROVED, self.amount_received, at_s=None)
            case "succeeded":
                return declined("already_captured")
            case "canceled":
                return declined("authorization_canceled")
            case "requires_capture":
                return None
            case _:
                return unsettled(self.status)

    def voided(self) -> Answer | None:
        """What it says of a void. None: the money is still held. Whoever let it go, it is let go."""
        match self.status:
            case "canceled":
                return self._answer(Outcome.APPROVED, self.amount - self.amount_received, at_s=self.canceled_at)
            case "succeeded":
                return declined("already_captured")
            case "processing":
                return unsettled(self.status)
            case _:
                return None

    def _answer(self, outcome: Outcome, amount: int, reason: str = "", at_s: int | None = -1) -> Answer:
        at_s = self.created if at_s == -1 else at_s
        return claimed(outcome, self.id, amount, self.currency, at_s=at_s, reason=reason)


class Session(_Marked):
    """A Checkout Session: the page on which a customer pays."""

    id: Annotated[str, Field(pattern=r"^cs_[A-Za-z0-9_]{1,200}$")]
    object: Literal["checkout.session"]
    status: Literal["open", "complete", "expired"]
    payment_status: Literal["paid", "unpaid", "no_payment_required"]
    amount_total: _Int64
    currency: _Currency
    client_reference_id: _Code | None
    expires_at: _Int64
    payment_intent: IntentId | Intent | None = None
    url: Annotated[str, Field(pattern=r"^https?://[\x21-\x7e]{1,4000}$")] | None = None

    @property
    def intent_id(self) -> str | None:
        """The charge that was tried on it."""
        return self.payment_intent.id if isinstance(self.payment_intent, Intent) else self.payment_intent

    def opened(self) -> Answer:
        """What it says of the sale or authorization that opened it."""
        is_sale = self.metadata.get(asked.KIND) == OperationKind.SALE.value
        match self.status:
            case "open" if self.url is not None:
                return claimed(
                    Outcome.PENDING, self.id, self.amount_total, self.currency, at_s=self.created, page_url=self.url
                )
            case "expired":
                return claimed(
                    Outcome.EXPIRED,
                    self.id,
                    self.amount_total,
                    self.currency,
                    at_s=self.expires_at,
                    reason="session_expired",
                )
            case "complete" if is_sale and self.payment_status == "paid" and self.intent_id is not None:
                return claimed(Outcome.APPROVED, self.intent_id, self.amount_total, self.currency, at_s=self.created)
            case _:
                # What was authorized, or is on its way, only the PaymentIntent says.
                return unsettled("session_complete")

    def closed(self) -> Answer | None:
        """What it says of the wish to close it. None: it is open still."""
        match self.status:
            case "expired":
                return claimed(Outcome.APPROVED, self.id, self.amount_total, self.currency, at_s=None)
            case "complete":
                return declined("already_paid")
            case _:
                return None


class Refund(_Marked):
    """Money on its way back to a card."""

    id: Annotated[str, Field(pattern=r"^(re|pyr)_[A-Za-z0-9_]{1,200}$")]
    object: Literal["refund"]
    status: Literal["pending", "requires_action", "succeeded", "failed", "canceled"]
    amount: _Int64
    currency: _Currency
    failure_reason: _Code | None = None

    @property
    def has_failed(self) -> bool:
        """Whether the money stays with us, or came back."""
        return self.status in ("failed", "canceled")

    def refunded(self) -> Answer:
        """What it says of our refund, which nobody has seen succeed."""
        match self.status:
            case "succeeded":
                return self._answer(Outcome.APPROVED)
            case "failed" | "canceled":
                return self._answer(Outcome.DECLINED, self._failure)
            case _:
                return self._answer(Outcome.PENDING)

    def given_back(self) -> Answer:
        """What it says when it has failed after it had succeeded."""
        return self._answer(Outcome.REVERSED, self._failure)

    @property
    def _failure(self) -> str:
        return word(self.failure_reason, f"refund_{self.status}")

    def _answer(self, outcome: Outcome, reason: str = "") -> Answer:
        return claimed(outcome, self.id, self.amount, self.currency, at_s=self.created, reason=reason)


class Sessions(Said):
    """A page of a list; `has_more` asks for the next."""

    has_more: bool
    data: list[Session] = Field(max_length=100)


class Intents(Said):
    """A page of a list, or of what a search found."""

    has_more: bool
    data: list[Intent] = Field(max_length=100)


class Refunds(Said):
    """A page of the refunds of a charge."""

    has_more: bool
    data: list[Refund] = Field(max_length=100)


class _Error(PaymentError):
    type: _Code
    payment_intent: Intent | None = None


class Refusal(Said):
    """The body of every error."""

    error: _Error


def word(text: str | None, default: str) -> str:
    """A stable word: what is none is not passed on."""
    return text if text is not None and _WORD.fullmatch(text) else default


def claimed(
    outcome: Outcome,
    reference: str,
    amount: int,
    currency: str,
    *,
    at_s: int | None,
    reason: str = "",
    page_url: str | None = None,
) -> Answer:
    """An answer with what Stripe claims, in our units. Raises: ValueError, when the amount is none of ours."""
    money = from_stripe(amount, currency)
    return Answer(
        outcome=outcome,
        reference=reference,
        amount=money.amount,
        currency=money.currency,
        page_url=page_url,
        reason=reason,
        psp_at_ms=None if at_s is None else at_s * 1000,
    )


def declined(reason: str) -> Answer:
    """A definite no, of which nothing moved."""
    return Answer(outcome=Outcome.DECLINED, reason=reason)


def unsettled(reason: str) -> Answer:
    """Stripe has it in hand, or cannot say yet: no failure of Stripe's, and no outcome."""
    return Answer(outcome=Outcome.UNKNOWN, reason=reason)


def unknown(reason: str) -> Answer:
    """Stripe failed us, and what became of it must be asked."""
    return Answer(outcome=Outcome.UNKNOWN, reason=reason, is_psp_failure=True)
