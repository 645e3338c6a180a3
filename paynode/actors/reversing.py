"""Reversing what nobody waits for any more: payments at points of sale whose ingress died before it had decided.

One process at a time does it, but nothing depends on that: the mark is made once, whoever comes first.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from paynode.domain import ids
from paynode.domain.errors import Transient
from paynode.domain.point_of_sale import Marked, Marking, Overdue
from paynode.domain.road import Pointer
from paynode.runtime.rounds import Rounds, Singleton
from paynode.runtime.stopping import Stop


class Desk(Protocol):
    """Where marks are made. Raises: Unavailable."""

    async def overdue(self, *, grace_s: float, count: int) -> Sequence[Overdue]: ...
    async def reverse(self, marking: Marking) -> Marked: ...


class Road(Protocol):
    """The streams. Raises: Unavailable."""

    async def publish(self, pointers: Sequence[Pointer]) -> None: ...


class ReversingObserver(Protocol):
    """Hears of sweeps."""

    def reversed_overdue(self, count: int) -> None: ...
    def reversing_failed(self, error: Exception) -> None: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class ReversingRules:
    """Seconds between sweeps; seconds that the ingress has to decide for itself; payments of one sweep."""

    interval_s: float
    grace_s: float
    sweep_size: int


class Reversing:
    """Sweeps. `mark` makes the ids and the stream of a payment's mark."""

    def __init__(
        self,
        desk: Desk,
        road: Road,
        singleton: Singleton,
        observer: ReversingObserver,
        rules: ReversingRules,
        *,
        mark: Callable[[Overdue], Marking],
    ) -> None:
        self._desk = desk
        self._road = road
        self._rounds = Rounds(singleton, observer.reversing_failed, interval_s=rules.interval_s, transient=Transient)
        self._observer = observer
        self._rules = rules
        self._mark = mark

    async def run(self, stop: Stop) -> None:
        """Sweep until `stop`."""
        await self._rounds.run(self.run_once, stop)

    async def run_once(self) -> None:
        """Reverse what is overdue now; with Redis away the relay brings what follows from it."""
        count = 0
        for overdue in await self._desk.overdue(grace_s=self._rules.grace_s, count=self._rules.sweep_size):
            marking = self._mark(overdue)
            if (await self._desk.reverse(marking)).is_new:
                count += 1
                await self._road.publish([_pointer(marking)])
        if count:
            self._observer.reversed_overdue(count)


def _pointer(marking: Marking) -> Pointer:
    merchant = ids.public(ids.MERCHANT, marking.merchant_id)
    return Pointer(stream=marking.stream, ref=marking.request_id, merchant=merchant)
