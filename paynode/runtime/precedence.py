"""Who is in a hurry goes first: the others of the same event loop begin nothing new meanwhile, for a bounded time."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import anyio


class Precedence:
    """Counts who is in a hurry and under way.

    An event loop has no priorities: each step of somebody urgent waits for whatever is being done. So the others hold
    back before their next piece of work, but never for longer than `patience_s` seconds, however many hurry.
    """

    def __init__(self, *, patience_s: float) -> None:
        self._patience_s = patience_s
        self._urgent = 0
        self._clear = anyio.Event()

    @property
    def is_taken(self) -> bool:
        """Whether somebody urgent is under way."""
        return self._urgent > 0

    def came(self, count: int) -> None:
        """So many urgent ones have come."""
        self._urgent += count

    def went(self, count: int) -> None:
        """So many of them are through."""
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

    async def give_way(self) -> None:
        """Wait until nobody is in a hurry, or the patience is at its end."""
        if self._urgent:
            with anyio.move_on_after(self._patience_s):
                await self._clear.wait()
