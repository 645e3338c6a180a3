"""The coming months of the ledger are made ahead: an installation may run for years without anybody migrating it.

What no month holds goes into a table for all the rest, so that none is ever urgent; but what is in there cannot be
retired, and every reader of the ledger looks there too.
"""

from __future__ import annotations

from typing import Protocol

from paynode.domain.errors import Transient
from paynode.domain.months import MonthsMade
from paynode.runtime.rounds import ANYBODY, Rounds
from paynode.runtime.stopping import Stop


class Calendar(Protocol):
    """The months of the ledger. Raises: Unavailable."""

    async def make_months(self) -> MonthsMade:
        """Make those that are missing of this month and the next twelve; of two at once the second finds them made."""


class MonthsObserver(Protocol):
    """Hears of what was missing."""

    def months_made(self, months: MonthsMade) -> None: ...
    def months_failed(self, error: Exception) -> None: ...


class MonthMaker:
    """Makes rounds. Any number may."""

    def __init__(self, calendar: Calendar, observer: MonthsObserver, *, interval_s: float) -> None:
        self._calendar = calendar
        self._observer = observer
        self._rounds = Rounds(ANYBODY, observer.months_failed, interval_s=interval_s, transient=Transient)

    async def run(self, stop: Stop) -> None:
        """Make rounds until `stop`."""
        await self._rounds.run(self.run_once, stop)

    async def run_once(self) -> None:
        """One round: tells what was missing, if anything was."""
        months = await self._calendar.make_months()
        if months.made or months.held_up:
            self._observer.months_made(months)
