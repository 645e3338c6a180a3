"""PayU's JSON, read strictly, and the outcome that each of its words means."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Final, Literal, TypeVar

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, TypeAdapter, ValidationError
from pydantic.alias_generators import to_camel

from paynode.domain.payment import OperationKind
from paynode.domain.psp import Answer, Outcome

_AMOUNT: Final = re.compile(r"[0-9]{1,18}", re.ASCII)
_REFERENCE: Final = re.compile(r"[A-Za-z0-9_-]{1,64}", re.ASCII)

SUCCESS: Final = "SUCCESS"
NOT_UNIQUE: Final = "ERROR_ORDER_NOT_UNIQUE"

# The order is there, and the customer must go on at PayU: what a POS does that asks for more than a plain payment.
_OPENED: Final = frozenset({SUCCESS, "WARNING_CONTINUE_REDIRECT", "WARNING_CONTINUE_3DS", "WARNING_CONTINUE_CVV"})

# Refusals of an order that PayU documents as final when they come with status 400: nothing was opened. The last one is
# its check against fraud. Any other, those that say "try again later" among them, may hide an order.
_NEVER_OPENED: Final = frozenset(
    {"ERROR_SYNTAX", "ERROR_VALUE_INVALID", "ERROR_VALUE_MISSING", "ERROR_INCONSISTENT_CURRENCIES", "BUSINESS_ERROR"}
)

# Refusals of a capture, a void, a cancel or a refund that PayU documents as final, those about refunds with a prefix.
_NEVER_DONE: Final = _NEVER_OPENED | {"DATA_NOT_FOUND"}
_PREFIX: Final = "OPENPAYU_"

# Trouble of PayU's own, whatever the status it comes with: what was asked for may have been done.
_IN_DOUBT: Final = frozenset(
    {"ERROR_INTERNAL", "OPENPAYU_ERROR_INTERNAL", "GENERAL_ERROR", "WARNING", "SERVICE_NOT_AVAILABLE", "TIMEOUT"}
)


def is_reference(text: str | None) -> bool:
    """Whether it can be a name that PayU gave, and stand in a path."""
    return text is not None and _REFERENCE.fullmatch(text) is not None


def _reference(text: str) -> str:
    if not is_reference(text):
        raise ValueError("not a name of PayU's")
    return text


def _minor_units(value: object) -> object:
    """Amounts are strings of digits; in answers about refunds some are numbers."""
    return int(value) if isinstance(value, str) and _AMOUNT.fullmatch(value) else value


_Model = TypeVar("_Model", bound=BaseModel)
_Reference = Annotated[str, AfterValidator(_reference)]
_Ours = Annotated[str, Field(pattern=r"^[\x21-\x7e]{1,100}$")]
_Amount = Annotated[int, BeforeValidator(_minor_units), Field(ge=0, lt=2**63)]
_Currency = Annotated[str, Field(pattern=r"^[A-Z]{3}$")]
_Word = Annotated[str, Field(pattern=r"^[A-Za-z0-9_ -]{1,64}$")]
_Url = Annotated[str, Field(pattern=r"^https?://[\x21-\x7e]{1,2000}$")]
_Time = Annotated[str, Field(max_length=64)]


class _Said(BaseModel):
    """Something PayU said. Strict: a float or a bool is no amount. New fields are passed over."""

    model_config = ConfigDict(strict=True, frozen=True, extra="ignore", alias_generator=to_camel)


class _Status(_Said):
    status_code: _Word
    code_literal: _Word | None = None


class Verdict(_Said):
    """The part that every answer to a request has."""

    status: _Status
    order_id: _Reference | None = None
    ext_order_id: _Ours | None = None
    redirect_uri: _Url | None = None

    @property
    def code(self) -> str:
        """PayU's word for what came of it."""
        return self.status.status_code

    @property
    def reason(self) -> str:
        """The most telling word, as our own stable one."""
        return (self.status.code_literal or self.code).lower().replace(" ", "_")

    def is_done(self, status: int) -> bool:
        """Whether, with this status, it says yes."""
        return 200 <= status < 300 and self.code == SUCCESS

    def is_refused(self, status: int) -> bool:
        """Whether, with this status, it says for certain that what was asked of an order was not done and never is."""
        return status in (400, 404) and self.code.removeprefix(_PREFIX) in _NEVER_DONE

    @property
    def is_in_doubt(self) -> bool:
        """Whether it says that PayU itself does not know."""
        return self.code in _IN_DOUBT


class Order(_Said):
    """An order, from an inquiry or a notification. `extOrderId` is missing where it was not made by us."""

    order_id: _Reference
    ext_order_id: _Ours | None = None
    order_create_date: _Time | None = None
    currency_code: _Currency
    total_amount: _Amount
    status: Literal["NEW", "PENDING", "WAITING_FOR_CONFIRMATION", "COMPLETED", "CANCELED"]

    def answer(self, outcome: Outcome, reason: str = "") -> Answer:
        """What it claims, with the outcome that its status means for whoever asked."""
        return Answer(
            outcome=outcome,
            reference=self.order_id,
            amount=self.total_amount,
            currency=self.currency_code,
            reason=reason,
            psp_at_ms=_milliseconds(self.order_create_date),
        )


class Orders(_Said):
    """The answer to an inquiry about an order."""

    orders: Annotated[list[Order], Field(min_length=1, max_length=1)]


class Refund(_Said):
    """A refund. `extRefundId` is missing where somebody made it in PayU's panel."""

    refund_id: _Reference
    ext_refund_id: _Ours | None = None
    amount: _Amount
    currency_code: _Currency
    status: Literal["PENDING", "FINALIZED", "CANCELED"]
    status_date_time: _Time | None = None

    def answer(self) -> Answer:
        """PayU gives money back when it is its bank's turn: until then the refund is pending."""
        outcome = {
            "PENDING": Outcome.PENDING,
            "FINALIZED": Outcome.APPROVED,
            "CANCELED": Outcome.DECLINED,
        }[self.status]
        return Answer(
            outcome=outcome,
            reference=self.refund_id,
            amount=self.amount,
            currency=self.currency_code,
            reason="refund_canceled" if outcome is Outcome.DECLINED else "",
            psp_at_ms=_milliseconds(self.status_date_time),
        )


class Refunded(_Said):
    """The answer to a request for a refund."""

    refund: Refund


class _Refunds(_Said):
    refunds: Annotated[list[Refund], Field(max_length=1000)]


# PayU's reference shows the list inside an object, and clients that are in use read it bare.
REFUNDS: Final = TypeAdapter[_Refunds | list[Refund]](_Refunds | list[Refund])


class OrderNotice(_Said):
    """A notification about an order."""

    order: Order


class RefundNotice(_Said):
    """A notification about a refund."""

    order_id: _Reference
    refund: Refund


@dataclass(frozen=True, slots=True, kw_only=True)
class Charging:
    """What an order's status means for the sale or authorization that it is.

    `is_auto_receive`: PayU takes the money as soon as the customer has paid. Where it does not, an order that waits
    for confirmation is an authorization.
    """

    is_auto_receive: bool

    def answer(self, order: Order) -> Answer:
        """CANCELED is all that PayU says of a page that lapsed, of a customer who gave up and of a void alike: the
        page is closed, and nothing was charged. After a mere decline the customer may still try again.
        """
        match order.status:
            case "NEW" | "PENDING":
                return order.answer(Outcome.PENDING)
            case "WAITING_FOR_CONFIRMATION":
                return order.answer(Outcome.PENDING if self.is_auto_receive else Outcome.APPROVED)
            case "COMPLETED":
                return order.answer(Outcome.APPROVED)
            case "CANCELED":
                return order.answer(Outcome.EXPIRED, "canceled")


def opened(status: int, said: Verdict, our_reference: str) -> Answer | None:
    """The answer to a request for an order; None: there was one already, and what became of it must be looked up."""
    if said.is_in_doubt or status not in (200, 201, 302, 400):
        return unknown(said.reason if said.is_in_doubt else f"http_{status}")
    if status == 400:
        if said.code == NOT_UNIQUE:
            return None
        is_final = said.code in _NEVER_OPENED
        return Answer(outcome=Outcome.DECLINED, reason=said.reason) if is_final else unknown(said.reason)
    is_ours = said.ext_order_id in (None, our_reference)
    if said.code not in _OPENED or not is_ours or said.order_id is None or said.redirect_uri is None:
        return unknown("answer_invalid")
    return Answer(outcome=Outcome.PENDING, reference=said.order_id, page_url=said.redirect_uri)


def done(kind: OperationKind, order: Order) -> Answer | None:
    """What an order's status says of a capture, void or cancel of it. None: it has not happened.

    All three are about the whole order, so that it does not matter whether it was this one that did it: what had been
    captured or canceled already is as it was asked for.
    """
    match kind, order.status:
        case (OperationKind.CAPTURE, "COMPLETED") | (OperationKind.VOID | OperationKind.CANCEL, "CANCELED"):
            return order.answer(Outcome.APPROVED)
        case OperationKind.CAPTURE, "CANCELED":
            return order.answer(Outcome.DECLINED, "order_canceled")
        case OperationKind.VOID, "COMPLETED":
            return order.answer(Outcome.DECLINED, "already_captured")
        case OperationKind.CANCEL, "COMPLETED" | "WAITING_FOR_CONFIRMATION":
            return order.answer(Outcome.DECLINED, "already_paid")
        case _:
            return None


def unknown(reason: str) -> Answer:
    return Answer(outcome=Outcome.UNKNOWN, reason=reason, is_psp_failure=True)


def parsed(model: type[_Model], body: bytes) -> _Model | None:
    """None: it is not what PayU documents."""
    try:
        return model.model_validate_json(body)
    except ValidationError:
        return None


def _milliseconds(text: str | None) -> int | None:
    """A time without its zone is nobody's; none at all is better than one an hour off."""
    try:
        at = datetime.fromisoformat(text or "")
    except ValueError:
        return None
    return int(at.timestamp() * 1000) if at.tzinfo is not None else None
