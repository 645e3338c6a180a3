"""Who is in a hurry goes first: the others of the same event loop begin nothing new meanwhile, for a bounded time."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

import anyio

# Seconds after somebody urgent came in which the next one is expected.
_EXPECTED_S: Final = 2.0


class Precedence:
    """Counts who is in a hurry and under way.

    An event loop has no priorities: each step of somebody urgent waits for whatever is being done. So the others hold
    back before their next piece of work, but never for longer than `patience_s` seconds, however many hurry.
    """

    def __init__(self, *, patience_s: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._patience_s = patience_s
        self._clock = clock
        self._last_came = -math.inf
        self._urgent = 0
        self._clear = anyio.Event()

    @property
    def is_taken(self) -> bool:
        """Whether somebody urgent is under way."""
        return self._urgent > 0

    @property
    def is_expected(self) -> bool:
        """Whether somebody urgent is under way, or was a moment ago: the next one comes soon."""
        return self.is_taken or self._clock() - self._last_came < _EXPECTED_S

    def came(self, count: int) -> None:
        """So many urgent ones have come."""
        if count:
            self._urgent += count
            self._last_came = self._clock()

    def went(self, count: int) -> None:
        """So many of them are through."""
        if not count:
            return
        self._urgent -= count
        assert self._urgent >= 0, "nobody goes who has not come"
        if not self._urgent:
            self._clear.set()
            self._clear = anyio.Event()

    @contextmanager
    def hurrying(self) -> Iterator[None]:
        """Somebody urgent is under way, for as long as the block lasts."""
        self.came(1)
        try:
            yield
        finally:
            self.went(1)

    @contextmanager
    def resting(self) -> Iterator[None]:
        """Somebody who hurries waits for the outside meanwhile, and needs nobody to hold back."""
        self.went(1)
        try:
            yield
        finally:
            self.came(1)

    async def hold_back(self, rest_s: float) -> None:
        """Give way, and while somebody urgent is expected let `rest_s` seconds go by, in which one may come."""
        await self.give_way()
        if self.is_expected:
            await anyio.sleep(rest_s)
            await self.give_way()

    async def give_way(self) -> None:
        """Wait until nobody is in a hurry, or the patience is at its end."""
        if self._urgent:
            with anyio.move_on_after(self._patience_s):
                await self._clear.wait()
