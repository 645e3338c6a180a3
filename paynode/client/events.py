"""Events as a publisher makes them: complete, signed, and seen through paynode's own eyes before they leave."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from hashlib import sha256
from typing import Final

from uuid_utils import uuid7

from paynode.client.credentials import name_of, secret_of
from paynode.client.errors import EventRefused
from paynode.domain.errors import Poison
from paynode.domain.ids import MERCHANT, PAYMENT, parse
from paynode.domain.money import Money
from paynode.domain.partition import partition_of
from paynode.domain.publishing import OutsideData, OutsideEvent, OutsideType, PublisherKey
from paynode.streams import codec
from paynode.streams.signing import EVENT_FIELD, claim

# Any number would do for the look at our own event: it is put on the right partition, whatever their number.
_ONE: Final = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """A signed event: the same bytes each time it is published, by which it is recognised."""

    id: str
    merchant_id: str
    fields: Mapping[str, str] = field(repr=False)

    @property
    def content_sha256(self) -> bytes:
        """What tells its outcome from that of another event under the same id."""
        return sha256(self.fields[EVENT_FIELD].encode()).digest()

    def partition(self, partitions: int) -> int:
        """Where it is published."""
        return partition_of(self.merchant_id, partitions)


class Signer:
    """Makes events of one publisher. The same id and arguments give the same bytes, today and after a restart.

    Raises: InvalidCredentials.
    """

    def __init__(self, *, name: str, secret: str, source: str | None = None) -> None:
        self.name = name_of(name)
        self.key = PublisherKey(secret=secret_of(secret), types=frozenset(OutsideType))
        self._source = source or f"/{name}"

    def sign(
        self,
        event_type: OutsideType,
        merchant_id: str,
        data: OutsideData,
        *,
        event_id: str | None = None,
        traceparent: str | None = None,
        correlation_id: str | None = None,
    ) -> Event:
        """A signed event about a merchant (`mer_…`); `event_id` is a UUIDv7, a fresh one when none is given.

        Raises: EventRefused.
        """
        chosen = str(uuid7()) if event_id is None else event_id
        merchant = parse(MERCHANT, merchant_id)
        if merchant is None:
            raise EventRefused("shape_invalid", "merchant_id is not mer_…")
        event = OutsideEvent(
            id=chosen,
            source=self._source,
            type=event_type,
            at=_time_in(chosen),
            merchant_id=merchant,
            data=data,
            traceparent=traceparent,
            correlation_id=correlation_id,
        )
        try:
            fields = codec.encode(event, self.name, self.key.secret)
        except (TypeError, ValueError) as error:  # a lone surrogate, a number that no JSON holds
            raise EventRefused("shape_invalid", "not to be written as JSON") from error
        self._look_at(fields)
        return Event(id=chosen, merchant_id=merchant_id, fields=fields)

    def _look_at(self, fields: Mapping[str, str]) -> None:
        """What paynode would refuse is refused here, where the caller can still mend it."""
        try:
            codec.decode(claim(fields), self.key, now_ms=time.time_ns() // 1_000_000, partition=0, partitions=_ONE)
        except Poison as poison:
            raise EventRefused(poison.reason, poison.detail) from poison


def money_of(amount: int, currency: str) -> Money:
    """Minor units of a currency.

    Raises: EventRefused.
    """
    try:
        return Money(amount=amount, currency=currency)
    except (TypeError, ValueError) as error:
        raise EventRefused("shape_invalid", str(error)) from error


def payment_of(payment_id: str) -> str:
    """The UUID behind `pay_…`.

    Raises: EventRefused.
    """
    payment = parse(PAYMENT, payment_id)
    if payment is None:
        raise EventRefused("shape_invalid", "payment_id is not pay_…")
    return payment


def _time_in(event_id: str) -> datetime:
    """The time that a UUIDv7 was made at. Not the clock's: who asks again with an id must say the same bytes."""
    if codec.UUID7.fullmatch(event_id) is None:
        raise EventRefused("event_id_invalid", "not a UUIDv7 in its canonical form")
    try:
        return datetime.fromtimestamp(int(event_id[:8] + event_id[9:13], 16) / 1000, UTC)
    except (ValueError, OverflowError, OSError) as error:
        raise EventRefused("event_id_invalid", "its time is beyond all calendars") from error
