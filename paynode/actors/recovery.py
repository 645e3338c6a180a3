"""What an owner that died has left in hand: tried one by one when owners keep dying over it.

One death says little: a deploy, an OOM killer, a power cut, and a thousand innocent messages in hand. So after the
first everything is taken in as usual. When the next owner dies too before it was through, one of them may be deadly:
from then on each is tried alone, and that it is tried is committed before. What was tried so often that three processes
have died over it is a dead letter, untried.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Final, Protocol

import anyio

from paynode.domain.batch import Lease
from paynode.domain.errors import Transient

# Owners in a row that died, from which on messages are tried one by one.
_ALONE_FROM: Final = 2
# Seconds that taking a try back may take while everything is being cancelled.
_TAKE_BACK_S: Final = 1.0


class Suspects(Protocol):
    """Counts tries. Raises: Unavailable."""

    async def count(self, stream: str, entry: str) -> int: ...
    async def uncount(self, stream: str, entry: str) -> None: ...
    async def tries(self, stream: str, entry: str) -> int: ...
    async def is_waiting(self, ref: str, stream: str) -> bool: ...
    async def acquit(self, lease: Lease, stream: str) -> None: ...


class Turnstile:
    """Lets one suspect at a time through in a whole process: else innocent ones would be tried beside a deadly one."""

    def __init__(self) -> None:
        self._lock = anyio.Lock()

    @asynccontextmanager
    async def alone(self) -> AsyncIterator[None]:
        """Until it is settled, no other suspect is tried."""
        async with self._lock:
            yield


class Recovery:
    """One tenure's view of what it has inherited.

    `deaths` is the number of owners in a row that died before they were through with it.
    """

    def __init__(
        self, lease: Lease, stream: str, deaths: int, suspects: Suspects, turnstile: Turnstile, *, attempts_max: int
    ) -> None:
        self._lease = lease
        self._stream = stream
        self._deaths = deaths
        self._suspects = suspects
        self._turnstile = turnstile
        self._attempts_max = attempts_max
        self._counted: set[str] = set()

    @property
    def is_needed(self) -> bool:
        """Whether the owner before has died."""
        return self._deaths > 0

    @property
    def is_one_by_one(self) -> bool:
        """Whether each message is to be tried alone."""
        return self._deaths >= _ALONE_FROM

    @asynccontextmanager
    async def trying(self, entry: str) -> AsyncIterator[int | None]:
        """Try one message alone; gives None, or how often it was tried when that is enough.

        A try is counted before, and taken back when we have lived through it, however it ended: a lease that was lost
        or a database that went away is nobody's death.
        """
        async with self._turnstile.alone():
            tries = await self._suspects.tries(self._stream, entry)
            if tries >= self._attempts_max:
                yield tries
                return
            if entry not in self._counted:
                await self._suspects.count(self._stream, entry)
                self._counted.add(entry)
            try:
                yield None
            finally:
                await self._take_back(entry)

    async def _take_back(self, entry: str) -> None:
        with anyio.move_on_after(_TAKE_BACK_S, shield=True):
            with suppress(Transient):  # then it stays counted, once in a tenure
                await self._suspects.uncount(self._stream, entry)
                self._counted.discard(entry)

    async def end(self) -> None:
        """All that was inherited is through: nobody is suspected any more."""
        await self._suspects.acquit(self._lease, self._stream)
        self._deaths = 0
