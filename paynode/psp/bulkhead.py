"""So many calls at once, and a bounded wait for whoever finds no place.

The last places are reserved: a flood of new charges, or a PSP that answers slowly, must not keep back what is about
money that has moved already, or a customer who stands at a till.
"""

from __future__ import annotations

from collections import deque
from enum import IntEnum

import anyio


class Rank(IntEnum):
    """Who may take the last places, and is served first."""

    RESERVED = 0
    ORDINARY = 1


class _Waiter:
    __slots__ = ("has_place", "told")

    def __init__(self) -> None:
        self.told = anyio.Event()
        self.has_place = False


class Bulkhead:
    """Places, and those who wait for one. What is taken is given back by `leave`."""

    def __init__(self, *, places: int, reserved: int, waiting_max: int) -> None:
        assert 0 <= reserved < places
        self._places = places
        self._limits = {Rank.RESERVED: places, Rank.ORDINARY: places - reserved}
        self._waiting_max = waiting_max
        self._taken = 0
        self._queues: dict[Rank, deque[_Waiter]] = {rank: deque() for rank in Rank}

    @property
    def taken(self) -> int:
        """Places that are taken."""
        return self._taken

    @property
    def waiting(self) -> int:
        """How many wait for one."""
        return sum(len(queue) for queue in self._queues.values())

    async def enter(self, rank: Rank, *, within_s: float) -> bool:
        """Take a place, at once or within so many seconds; False when too many wait, or for too long."""
        queue = self._queues[rank]
        if not queue and self._taken < self._limits[rank]:
            self._taken += 1
            return True
        if len(queue) >= self._waiting_max:
            return False
        waiter = _Waiter()
        queue.append(waiter)
        try:
            with anyio.move_on_after(within_s):
                await waiter.told.wait()
        except BaseException:
            self._take_back(waiter, queue)
            raise
        if not waiter.has_place:
            queue.remove(waiter)
        return waiter.has_place

    def leave(self) -> None:
        """Give a place back; whoever has waited longest takes it, the reserved rank first."""
        assert self._taken > 0
        self._taken -= 1
        for rank, queue in self._queues.items():
            while queue and self._taken < self._limits[rank]:
                waiter = queue.popleft()
                waiter.has_place = True
                waiter.told.set()
                self._taken += 1

    def _take_back(self, waiter: _Waiter, queue: deque[_Waiter]) -> None:
        """Cancelled: perhaps in the moment in which it was given a place."""
        if waiter.has_place:
            self.leave()
        else:
            queue.remove(waiter)
