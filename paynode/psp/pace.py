"""So many calls a second, evenly: this process's share of what an account may be called.

aiolimiter keeps the time. Its bucket holds one call, or it would let a whole second's calls through at once, and one
more second's while it empties.
"""

from __future__ import annotations

from typing import Final

import anyio
from aiolimiter import AsyncLimiter

from paynode.psp.bulkhead import Rank

_BUCKET: Final = 1


class Pace:
    """The turns of calls. `per_s` of all processes together; 0: as they come."""

    def __init__(self, per_s: float) -> None:
        self._per_s = per_s
        self._processes = 1
        self._held_to: float | None = None
        self._limiter = _limiter(self.per_s)
        # One of each rank stands before the limiter, which serves in order: the reserved rank never waits behind more
        # than one ordinary call.
        self._first = {rank: anyio.Lock() for rank in Rank}

    @property
    def per_s(self) -> float | None:
        """This process's share, or less while it is held to less; None: no limit."""
        limits = [self._per_s / self._processes] if self._per_s else []
        return min([*limits, *([self._held_to] if self._held_to else [])], default=None)

    @property
    def is_free(self) -> bool:
        """Whether nobody waits for anything: calls are made as they come."""
        return self._limiter is None

    def share(self, processes: int) -> None:
        """The limit is for so many processes now, this one among them."""
        before, self._processes = self.per_s, max(1, processes)
        self._change(before)

    def hold_to(self, per_s: float | None) -> None:
        """For the time being no more than so many; None: no longer."""
        before, self._held_to = self.per_s, per_s
        self._change(before)

    def _change(self, before: float | None) -> None:
        # A new limiter lets one call through at once; those who wait at the old one are served at its pace.
        if self.per_s != before:
            self._limiter = _limiter(self.per_s)

    async def turn(self, rank: Rank) -> None:
        """Wait until a call may be made."""
        if self._limiter is None:
            return
        async with self._first[rank]:
            await self._limiter.acquire()


def _limiter(per_s: float | None) -> AsyncLimiter | None:
    return AsyncLimiter(_BUCKET, _BUCKET / per_s) if per_s else None
