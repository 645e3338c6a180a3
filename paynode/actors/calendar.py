"""What the calendar brings: captures that become available, and what is held back and is released.

The merchant's actor does it; here it is only told that the time has come, by a row whose id follows from what has come.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from paynode.domain.errors import Transient
from paynode.domain.maturing import Due
from paynode.runtime.rounds import Rounds, Singleton
from paynode.runtime.stopping import Stop


class Diary(Protocol):
    """What is due, and where the actors are told. Raises: Unavailable."""

    async def due(self, count: int) -> Sequence[Due]: ...
    async def tell(self, due: Sequence[Due]) -> None: ...


class CalendarObserver(Protocol):
    """Hears of rounds that failed."""

    def calendar_failed(self, error: Exception) -> None: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class CalendarRules:
    """Seconds between rounds; what is told in one statement."""

    interval_s: float
    sweep_size: int


class Calendar:
    """Rounds. Whoever tells twice says nothing new."""

    def __init__(self, diary: Diary, singleton: Singleton, observer: CalendarObserver, rules: CalendarRules) -> None:
        self._diary = diary
        self._rounds = Rounds(singleton, observer.calendar_failed, interval_s=rules.interval_s, transient=Transient)
        self._sweep_size = rules.sweep_size

    async def run(self, stop: Stop) -> None:
        """Tell what has come until `stop`."""
        await self._rounds.run(self.run_once, stop)

    async def run_once(self) -> bool:
        """Tell what is due now; says whether there may be more."""
        due = await self._diary.due(self._sweep_size)
        if due:
            await self._diary.tell(due)
        return len(due) == self._sweep_size
