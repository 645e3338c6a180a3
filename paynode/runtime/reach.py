"""Whether a server that one can do without answers: one judgement, shared by all who would else find out each alone."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Protocol

import anyio


class ReachObserver(Protocol):
    """Hears when the judgement changes."""

    def is_away(self, is_away: bool, /) -> None: ...


class Reach:
    """Asks again and again, and cancels whatever waits for the server as soon as it is away.

    `probe` says whether the server answers, in bounded time; it is asked every `interval_s`.
    """

    def __init__(self, probe: Callable[[], Awaitable[bool]], observer: ReachObserver, *, interval_s: float) -> None:
        self._probe = probe
        self._observer = observer
        self._interval_s = interval_s
        self._is_away = False
        self._since: float | None = None
        self._waiting: set[anyio.CancelScope] = set()

    @property
    def is_away(self) -> bool:
        """The judgement; at most as old as a probe and the pause before it."""
        return self._is_away

    @property
    def here_for_s(self) -> float:
        """Seconds since it came back; 0 while it is away."""
        if self._is_away:
            return 0.0
        return float("inf") if self._since is None else anyio.current_time() - self._since

    async def run(self) -> None:
        """Ask until cancelled."""
        while True:
            await anyio.sleep(self._interval_s)
            await self.look()

    async def look(self) -> None:
        """Ask once, and once more before believing that it has gone.

        The first silence may be our own (a loop that was held up while the answer lay there), and one connection that
        was cut says nothing of the server.
        """
        is_here = await self._probe() or (not self._is_away and await self._probe())
        if is_here is self._is_away:
            self._is_away, self._since = not is_here, anyio.current_time()
            self._observer.is_away(self._is_away)
        if self._is_away:
            for scope in list(self._waiting):
                scope.cancel()

    @contextmanager
    def needed(self) -> Iterator[None]:
        """What runs in it needs the server: it is given up as soon as the server is away, at once if it is already.

        Given up means that the block ends early and without an error: return from within it, and raise behind it.
        """
        with anyio.CancelScope() as scope:
            self._waiting.add(scope)
            try:
                if self._is_away:
                    scope.cancel()
                yield
            finally:
                self._waiting.discard(scope)
