"""What the guards of a PSP tell of themselves, and what an operator tells them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from paynode.domain.payment import OperationKind

# The question what became of an operation of any kind.
INQUIRY: Final = "inquiry"

# Each has a breaker of its own.
CALL_KINDS: Final = (*(str(kind) for kind in OperationKind), INQUIRY)


@dataclass(frozen=True, slots=True, kw_only=True)
class BreakerVitals:
    """A breaker: closed, half_open or open; `is_held` open by an operator; calls and failures within its window."""

    state: str
    is_held: bool
    calls: int
    failures: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Vitals:
    """The guards of one PSP in one process: breakers by kind of call, calls under way, those that wait for a place or
    for their turn, the calls a second that are this process's share (None: no limit), and the retries a second."""

    breakers: Mapping[str, BreakerVitals]
    in_flight: int
    waiting: int
    pace_per_s: float | None
    retries_per_s: float


class BreakerAction(StrEnum):
    """What an operator does to a breaker: open it until he resets it, or close it and forget what was counted."""

    TRIP = "trip"
    RESET = "reset"


@dataclass(frozen=True, slots=True, kw_only=True)
class BreakerOrder:
    """The last thing that was said of a breaker; `number` rises with each."""

    operation: str
    action: BreakerAction
    number: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Company:
    """What a process hears of the others: how many live that call this PSP, itself among them, and what operators
    have said."""

    live: int
    orders: Sequence[BreakerOrder]
