"""Accepting a payment: what the ingress hands to the database, and what may have become of it."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import TypeAlias

from paynode.domain.errors import PaynodeError
from paynode.domain.payment import Fact, PspOrder
from paynode.domain.reading import PaymentView
from paynode.domain.road import commands_stream, pos_lane


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyUse:
    """One use of an Idempotency-Key; the first three name the key, `fingerprint` is sha256 of the canonical body."""

    merchant_id: str
    path: str
    key: str
    fingerprint: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredAnswer:
    """An answer that every retry gets again, to the byte."""

    status: int
    headers: Mapping[str, str]
    body: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class NewPayment:
    """Version 1 of a payment with its first operation, the command about it, and the key that brought it.

    `view` is what the merchant is shown; `order` what the PSP will be asked, `route` who else may be; `command_id` and
    `event_id` are the ids of its outbox row and of its timeline's first event. The first request counts as being worked
    on for `in_flight_s` after the commit, unless `answer` is stored at once. At a point of sale it is reversed
    `reverse_after_s` after the commit, unless it is kept before; None: it is not at one.
    """

    view: PaymentView
    order: PspOrder
    route: tuple[str, ...] = ()
    use: KeyUse
    command_id: str
    event_id: str
    customer: Mapping[str, str] | None
    description: str | None
    in_flight_s: float
    answer: StoredAnswer | None
    reverse_after_s: float | None = None

    @property
    def stream(self) -> str:
        """Where its command goes: what somebody waits for goes first."""
        stream = commands_stream(self.order.psp)
        return stream if self.reverse_after_s is None else pos_lane(stream)


@dataclass(frozen=True, slots=True, kw_only=True)
class Accepted:
    """The payment is committed."""

    payment_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Abandoned:
    """An earlier request with this key made the payment and is over without a stored answer: adopt it."""

    payment_id: str


# An error stands for one payment of a group: Rejected is about this request, Transient about the servers.
Verdict: TypeAlias = Accepted | StoredAnswer | Abandoned | PaynodeError


@dataclass(frozen=True, slots=True, kw_only=True)
class MerchantKey:
    """Who an API key speaks for, and the PSPs in the order in which that merchant wants them tried."""

    merchant_id: str
    psps: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Operated:
    """Whose operation it is: what a PSP's callback names by the operation's id. `is_pos`: somebody waits at a till."""

    operation_id: str
    payment_id: str
    merchant_id: str
    is_pos: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Spoken:
    """What a callback names: an operation of a PSP's, of one of the kinds that it can be about."""

    operation_id: str
    psp: str
    kinds: Collection[str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Received:
    """A verified callback on its way into the inbox; `at` by the ingress's clock."""

    inbox_id: str
    psp: str
    event_id: str
    our_reference: str
    raw: bytes
    claim: str
    at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Heard:
    """A callback that is evidence, and the stream that it goes by."""

    received: Received
    operated: Operated
    fact: Fact
    stream: str
