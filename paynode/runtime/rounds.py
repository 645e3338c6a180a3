"""Rounds: what one process at a time does again and again. Hold the lease, do it once, pause; drop it at the stop."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Final, Protocol

from paynode.runtime.stopping import Stop


class Singleton(Protocol):
    """The lease on making the rounds. It may fail like a round."""

    async def hold(self) -> bool: ...
    async def drop(self) -> None: ...


class Anybody:
    """No lease: any number may make the rounds at once."""

    async def hold(self) -> bool:
        """Whoever asks may."""
        return True

    async def drop(self) -> None:
        """There is nothing to leave."""


ANYBODY: Final = Anybody()


class Rounds:
    """One every `interval_s` seconds. A `transient` failure is told to `failed`, and the next round begins anew."""

    def __init__(
        self,
        singleton: Singleton,
        failed: Callable[[Exception], None],
        *,
        interval_s: float,
        transient: type[Exception],
    ) -> None:
        self._singleton = singleton
        self._failed = failed
        self._interval_s = interval_s
        self._transient = transient

    async def run(self, run_once: Callable[[], Awaitable[bool | None]], stop: Stop) -> None:
        """Make rounds until `stop`; the one under way is finished. After one that returns True there is no pause.

        Raises: whatever a round raises that is not transient; the lease then ends by itself.
        """
        while not stop.is_set:
            is_more = None
            try:
                if await self._singleton.hold():
                    is_more = await run_once()
            except self._transient as error:
                self._failed(error)
            if not is_more:
                await stop.pause(self._interval_s)
        try:
            await self._singleton.drop()
        except self._transient as error:
            self._failed(error)  # the lease ends by itself
