"""Callbacks that were kept aside because they spoke of nothing we knew: looked at again until they do.

A PSP may be told of an operation before we remember it (a failover took the last seconds, a backup was restored). What
it said meanwhile is in the inbox; here it becomes what it would have been, in one transaction and under an id that is
always the same. Nothing is given up: what nobody looks for any more is still there.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Protocol

from paynode.domain.callbacks import Aside, fact_of, stream_of
from paynode.domain.errors import Transient
from paynode.domain.payment import Fact
from paynode.runtime.rounds import ANYBODY, Rounds
from paynode.runtime.stopping import Stop


class Inbox(Protocol):
    """What was kept aside. Raises: Unavailable."""

    async def take_aside(self, count: int, *, look_for_s: float, look_max_s: float) -> Sequence[Aside]:
        """Those whose turn it is, at most so many; their next turn comes later, twice as late each time."""

    async def match(self, aside: Aside, fact: Fact, stream: str) -> bool:
        """It is evidence now; False when somebody else was faster."""

    async def match_by_asking(self, aside: Aside) -> bool:
        """The PSP is asked instead of being believed; False when somebody else was faster."""


class MatchingObserver(Protocol):
    """Hears of what was found."""

    def matched(self, callbacks: int) -> None: ...
    def matching_failed(self, error: Exception) -> None: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class MatchingRules:
    """Seconds between rounds, callbacks of a round, seconds after which nobody looks for one any more, and seconds
    between two looks at most."""

    interval_s: float
    page_size: int
    look_for_s: float
    look_max_s: float


class Matcher:
    """Makes rounds. Any number may: a row is one's alone. `unsigned` are PSPs whose callbacks are hints and no more."""

    def __init__(
        self,
        inbox: Inbox,
        observer: MatchingObserver,
        rules: MatchingRules,
        *,
        partitions: int,
        unsigned: Collection[str],
    ) -> None:
        self._inbox = inbox
        self._observer = observer
        self._rules = rules
        self._rounds = Rounds(ANYBODY, observer.matching_failed, interval_s=rules.interval_s, transient=Transient)
        self._partitions = partitions
        self._unsigned = frozenset(unsigned)

    async def run(self, stop: Stop) -> None:
        """Make rounds until `stop`."""
        await self._rounds.run(self.run_once, stop)

    async def run_once(self) -> None:
        """One round: tells how many callbacks have found their payment, if any."""
        rules, matched = self._rules, 0
        taken = await self._inbox.take_aside(rules.page_size, look_for_s=rules.look_for_s, look_max_s=rules.look_max_s)
        for aside in taken:
            matched += await self._match(aside)
        if matched:
            self._observer.matched(matched)

    async def _match(self, aside: Aside) -> bool:
        if aside.operated is None:
            return False
        if aside.psp in self._unsigned:
            return await self._inbox.match_by_asking(aside)
        # The inbox row's own id: whoever does this again does the same.
        fact = fact_of(aside.claim, aside.operated, event_id=aside.inbox_id)
        return await self._inbox.match(aside, fact, stream_of(aside.operated, self._partitions))
