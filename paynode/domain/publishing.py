"""What publishers outside paynode may say: about wallets, payments and payouts, signed by their key."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import TypeAlias

from paynode.domain.money import Money
from paynode.domain.record import record


class OutsideType(StrEnum):
    """The event types that others may publish; each has one shape of data, for ever (a new shape is a `.v2`)."""

    WALLET_CREDIT = "paynode.wallet.credit.v1"
    WALLET_DEBIT = "paynode.wallet.debit.v1"
    REFUND_REQUEST = "paynode.refund.request.v1"
    CAPTURE_REQUEST = "paynode.capture.request.v1"
    WALLET_WRITE_OFF = "paynode.wallet.write_off.v1"
    PAYOUT_CREATE = "paynode.payout.create.v1"
    PAYOUT_PAID = "paynode.payout.paid.v1"
    PAYOUT_FAILED = "paynode.payout.failed.v1"


@record
class WalletMovement:
    """Data of a credit, a debit or a write-off. `reference` is the publisher's own; `reason` is for people."""

    money: Money
    reason: str
    reference: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RefundRequest:
    """Give back this much of a payment, or all that is left of it. `amount` in minor units of its currency."""

    payment_id: str
    amount: int | None = None
    reason: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class CaptureRequest:
    """Capture this much of what is authorized, or all of it; `is_final` lets go of the rest."""

    payment_id: str
    amount: int | None = None
    is_final: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class PayoutOrder:
    """Pay this much of what is available to the merchant. `reference` is the publisher's own."""

    money: Money
    reference: str


@dataclass(frozen=True, slots=True, kw_only=True)
class PayoutEnd:
    """The bank has paid a payout, or could not; `payout_id` is the id of the event that asked for it."""

    payout_id: str
    reason: str = ""


OutsideData: TypeAlias = WalletMovement | RefundRequest | CaptureRequest | PayoutOrder | PayoutEnd


@record
class OutsideEvent:
    """A verified event about one merchant; `id`, a UUIDv7, recognises it for ever.

    `at` is the publisher's time of it; `content_sha256` tells a repetition from another event under the same id.
    `publisher` is whose key signed it, `content` the JSON text as it was signed.
    """

    id: str
    publisher: str = ""
    source: str
    type: OutsideType
    at: datetime
    merchant_id: str
    data: OutsideData
    traceparent: str | None = None
    correlation_id: str | None = None
    causation_id: str | None = None
    content: str = ""
    content_sha256: bytes = b""


@dataclass(frozen=True, slots=True, kw_only=True)
class PublisherKey:
    """The secret that a publisher signs with, and the types that it may say."""

    secret: bytes = field(repr=False)
    types: frozenset[OutsideType]


class Result(StrEnum):
    """What became of an outside event."""

    APPLIED = "applied"
    REFUSED = "refused"
    DEAD_LETTER = "dead_letter"


@record
class Verdict:
    """What became of an outside event, remembered for ever; `code` says why it was refused or died."""

    event_id: str
    content_sha256: bytes
    merchant_id: str
    publisher: str
    type: str  # of an OutsideType, or of one that only a newer paynode knows
    result: Result
    code: str | None = None
    content: str = ""

    @classmethod
    def of(cls, event: OutsideEvent, result: Result, code: str | None = None) -> Verdict:
        """The verdict upon an event."""
        return cls(
            event_id=event.id,
            content_sha256=event.content_sha256,
            merchant_id=event.merchant_id,
            publisher=event.publisher,
            type=event.type,
            result=result,
            code=code,
            content=event.content,
        )
