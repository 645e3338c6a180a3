"""Publishing what was committed, beside the answers and not before them.

An answer needs the commit and nothing else: a Redis that hangs must not hold it up. What is lost here (Redis away, too
much waiting, this process killed) is in the outbox, and the relay brings it within seconds.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Sequence
from typing import Final, Protocol

import anyio

from paynode.domain.errors import Transient
from paynode.domain.road import Pointer

# Pointers that wait for Redis; beyond it they are the relay's. About three seconds of a full ingress.
_WAITING_MAX: Final = 30_000
# Pointers in one pipeline: large enough for a whole group, small enough not to be a hiccup for Redis.
_PIPELINE_MAX: Final = 500
# Seconds granted at the stop to what is still waiting.
_LAST_WORDS_S: Final = 2.0


class Publisher(Protocol):
    """Who puts entries on streams."""

    async def publish(self, pointers: Sequence[Pointer]) -> None:
        """Raises: Unavailable (some may have been published)."""


class Announcer:
    """Publishes in the order of announcement, many at once."""

    def __init__(self, publisher: Publisher) -> None:
        self._publisher = publisher
        self._waiting: deque[Pointer] = deque()
        self._arrived = anyio.Event()

    def announce(self, pointers: Iterable[Pointer]) -> None:
        """Publish soon; never waits and never fails."""
        for pointer in pointers:
            if len(self._waiting) < _WAITING_MAX:
                self._waiting.append(pointer)
        self._arrived.set()

    async def run(self) -> None:
        """Publish until cancelled, then once more what still waits."""
        try:
            while True:
                await self._arrived.wait()
                await self._publish()
        finally:
            with anyio.move_on_after(_LAST_WORDS_S, shield=True):
                while self._waiting:
                    await self._publish()

    async def _publish(self) -> None:
        count = min(len(self._waiting), _PIPELINE_MAX)
        pointers = [self._waiting.popleft() for _ in range(count)]
        if not self._waiting:
            self._arrived = anyio.Event()
        try:
            await self._publisher.publish(pointers)
        except Transient:
            return  # the relay's, from now on
