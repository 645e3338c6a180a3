"""Order among competing consumers: what is in hand does not count as forgotten, and who has died leaves the group."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

import anyio

from paynode.domain.errors import Transient


class Membership(Protocol):
    """This process among the consumers of a stream. Raises: Unavailable."""

    async def renew(self, ids: Sequence[str], *, idle_ms: int) -> None: ...
    async def clear_out(self, *, idle_ms: int) -> Sequence[str]: ...


class UpkeepObserver(Protocol):
    """Hears of upkeep."""

    def cleared_out(self, consumers: Sequence[str]) -> None: ...
    def upkeep_failed(self, error: Exception) -> None: ...


class Upkeep:
    """Renews what is in hand four times within the time after which others may take it."""

    def __init__(
        self,
        member: Membership,
        in_hand: Callable[[], Sequence[str]],
        observer: UpkeepObserver,
        *,
        reclaim_idle_ms: int,
        consumer_idle_s: float,
    ) -> None:
        self._member = member
        self._in_hand = in_hand
        self._observer = observer
        self._idle_ms = reclaim_idle_ms // 4
        self._consumer_idle_s = consumer_idle_s

    async def run(self) -> None:
        """Keep up until cancelled."""
        next_clearing = anyio.current_time()
        while True:
            try:
                if ids := self._in_hand():
                    await self._member.renew(ids, idle_ms=self._idle_ms)
                if anyio.current_time() >= next_clearing:
                    next_clearing = anyio.current_time() + self._consumer_idle_s / 4
                    await self._clear_out()
            except Transient as error:
                self._observer.upkeep_failed(error)
            await anyio.sleep(self._idle_ms / 1000)

    async def _clear_out(self) -> None:
        gone = await self._member.clear_out(idle_ms=round(self._consumer_idle_s * 1000))
        if gone:
            self._observer.cleared_out(gone)
