"""At a point of sale somebody waits: a payment is kept in time, or it is reversed, once and for ever."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum


class Mark(StrEnum):
    """What was decided. It stays, whatever evidence comes later."""

    KEPT = "kept"
    REVERSED = "reversed"


@dataclass(frozen=True, slots=True, kw_only=True)
class Marking:
    """What a mark needs if it is made now: the ids of the timeline's event and of the request that follows from it.

    `stream` is the lane of the merchant's partition that is read first; `at` is the payment's new time of change.
    """

    payment_id: str
    merchant_id: str
    event_id: str
    request_id: str
    stream: str
    at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Marked:
    """How it stands after the attempt: None is undecided, with `left_s` seconds to go. `is_new`: decided by it."""

    mark: Mark | None
    is_new: bool
    left_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Overdue:
    """A payment that nobody waits for any more, and about which nothing is decided."""

    payment_id: str
    merchant_id: str
