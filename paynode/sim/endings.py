"""What ends by itself: pages that nobody pays, authorizations that nobody captures."""

from __future__ import annotations

import asyncio
import heapq

from paynode.sim.acquirer import Acquirer
from paynode.sim.records import Session, now_ms
from paynode.sim.standing import Standing

# Milliseconds. Not longer: what was opened meanwhile may be the next, and a set clock is noticed.
_TICK_MAX_MS = 1000


class Endings:
    """Looks at what is open, the oldest first, and ends what is due."""

    def __init__(self, acquirer: Acquirer, *, authorization_ttl_s: float) -> None:
        self._acquirer = acquirer
        self._authorization_ttl_ms = int(authorization_ttl_s * 1000)
        self._due: list[tuple[int, int, Session | Standing]] = []
        self._count = 0

    async def run(self) -> None:
        """End them, for ever."""
        while True:
            self._take_in()
            while self._due and self._due[0][0] <= now_ms():
                _, _, one = heapq.heappop(self._due)
                await (self._acquirer.expire(one) if isinstance(one, Session) else self._acquirer.lapse(one))
            until_next_ms = self._due[0][0] - now_ms() if self._due else _TICK_MAX_MS
            await asyncio.sleep(min(max(until_next_ms, 1), _TICK_MAX_MS) / 1000)

    def _take_in(self) -> None:
        """Those that were opened since the last look."""
        opened = self._acquirer.memory.opened
        while opened:
            one = opened.popleft()
            ends_ms = one.expires_ms if isinstance(one, Session) else one.charge.created_ms + self._authorization_ttl_ms
            self._count += 1  # two of the same instant are not compared any further
            heapq.heappush(self._due, (ends_ms, self._count, one))
