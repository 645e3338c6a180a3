"""What arrives for a merchant's actor, and what becomes of that which cannot be read."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final, TypeAlias

from paynode.domain.maturing import Maturity
from paynode.domain.mending import BooksAdjustment
from paynode.domain.payment import Fact
from paynode.domain.publishing import CaptureRequest, OutsideEvent, RefundRequest
from paynode.domain.record import record
from paynode.domain.report import ReportLine
from paynode.domain.requesting import Request

# What outbox rows for merchants' actors are called.
EVIDENCE: Final = "psp.evidence"
REQUEST: Final = "payment.request"
REPORT_LINE: Final = "settlement.line"
ADJUSTMENT: Final = "books.adjustment"

Content: TypeAlias = Fact | Request | OutsideEvent | Maturity | ReportLine | BooksAdjustment


@record
class Message:
    """Evidence about a payment, a merchant's request about one, what an outside publisher says, or what follows from
    the calendar, a PSP's report or an operator.

    `ref` is the outbox row that a pointer led to, and claiming its effect is deleting that row; an outside event has
    none, unless it was requeued. `fields` is what an outside event came as, for its dead letter.
    """

    ref: str | None
    merchant_id: str
    content: Content
    fields: Mapping[str, str] = field(default_factory=dict)

    @property
    def key(self) -> str:
        """What recognises it while it is in hand."""
        return self.ref or self.event_id

    @property
    def event_id(self) -> str:
        """What recognises its effect, for ever."""
        return self.content.id if isinstance(self.content, OutsideEvent) else self.content.event_id

    @property
    def payment_id(self) -> str | None:
        """The payment that it is about; None for one about a wallet."""
        match self.content:
            case OutsideEvent(data=RefundRequest() | CaptureRequest() as asked):
                return asked.payment_id
            case Fact() | Request() | Maturity() | ReportLine() as about:
                return about.payment_id
            case _:
                return None


@record
class Unread:
    """What an outside publisher has put on a stream, or a requeued row of it: nobody has looked into it yet."""

    ref: str | None
    fields: Mapping[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Unreadable:
    """A row or an entry that nothing can be done with.

    `ref` is the outbox row, if there is one; `reason` and `detail` say why; `fields` is what came, as text. Of what
    could be read that far, `event_id`, `type`, `merchant_id` and `payment_id` say what it was about.
    """

    ref: str | None
    reason: str
    detail: str
    fields: Mapping[str, str] = field(default_factory=dict)
    event_id: str | None = None
    type: str | None = None
    merchant_id: str | None = None
    payment_id: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class DeadLetter:
    """A message that never worked, with the place it came from: kept in the database, shown on the dead-letter stream.

    `attempts` counts the tries; `first_failed_at_ms` in milliseconds since 1970.
    """

    id: str
    stream: str
    entry_id: str
    what: Unreadable
    attempts: int = 1
    first_failed_at_ms: int = 0


def letter_of(
    message: Message,
    *,
    letter_id: str,
    stream: str,
    entry_id: str,
    reason: str,
    detail: str,
    now_ms: int,
) -> DeadLetter:
    """The dead letter of a message that could be read and still can never work."""
    content = message.content
    what = Unreadable(
        ref=message.ref,
        reason=reason,
        detail=detail,
        fields=message.fields or {"ref": message.key},
        event_id=message.event_id,
        type=type_of(content),
        merchant_id=message.merchant_id,
        payment_id=message.payment_id,
    )
    return DeadLetter(id=letter_id, stream=stream, entry_id=entry_id, what=what, first_failed_at_ms=now_ms)


def type_of(content: Content) -> str:
    """What a message is called, on a stream and on a dead letter."""
    match content:
        case Fact():
            return EVIDENCE
        case Request():
            return REQUEST
        case OutsideEvent():
            return content.type
        case Maturity():
            return content.kind
        case ReportLine():
            return REPORT_LINE
        case BooksAdjustment():
            return ADJUSTMENT
