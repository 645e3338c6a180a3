"""A partition read ahead of what is being worked on, in its two lanes, for one run after the other."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Final, Protocol

import anyio

from paynode.actors.backlog import Backlog
from paynode.actors.room import Room
from paynode.domain.errors import Transient
from paynode.domain.road import Entry
from paynode.runtime.precedence import Precedence
from paynode.runtime.stopping import Stop

# Turns that a partition may always have read ahead: one is taken while the next one is read.
_ALWAYS: Final = 2


class Feed(Protocol):
    """One partition's entries, in order. Raises: Unavailable.

    `is_behind` while what is read may have been in an earlier owner's hand; `read_pos` reads only the lane that is read
    first, for who has no room for others; `fetch` reads entries in hand once more.
    """

    @property
    def in_hand(self) -> int: ...
    @property
    def is_behind(self) -> bool: ...
    async def read(self) -> Sequence[Entry]: ...
    async def read_pos(self) -> Sequence[Entry]: ...
    async def fetch(self, ids: Sequence[str]) -> Sequence[Entry]: ...
    async def acknowledge(self, ids: Sequence[str]) -> None: ...


class Feeds(Protocol):
    """Opens a feed at the first entry that is not acknowledged."""

    def open(self, partition: int) -> AbstractAsyncContextManager[Feed]: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Bounds:
    """Messages: in one turn; of one merchant begun at once; in a mailbox. Actors that are kept. Tries of a suspect."""

    turn: int
    share: int
    mailbox: int
    actors: int
    attempts: int


class Ahead:
    """What was read of one feed and not begun, so that those behind a hot merchant's backlog are seen.

    It outlives a run that ended in a conflict: what that one had begun goes back to the front. To read a hundred
    thousand entries once more took three seconds, in which everybody waited. Any other error ends it with the run.
    """

    def __init__(self, feed: Feed, bounds: Bounds, precedence: Precedence, room: Room) -> None:
        self.feed = feed
        self.pos, self.ordinary = Backlog(room, share=bounds.share), Backlog(room, share=bounds.share)
        self._room = room
        self._bounds = bounds
        self._precedence = precedence
        self._has_begun = anyio.Event()
        self._moved = anyio.Event()
        self._is_closed = False
        self._error: Transient | None = None
        self._fail: Callable[[Exception], None] | None = None

    @property
    def has_begun(self) -> bool:
        """Whether what an earlier owner had left is through, and everything is read by turns."""
        return self._has_begun.is_set()

    @property
    def moved(self) -> anyio.Event:
        """Set at the next thing that happens: something was read, or settled."""
        return self._moved

    def move(self) -> None:
        """Something has happened."""
        self._moved.set()
        self._moved = anyio.Event()

    def serve(self, fail: Callable[[Exception], None]) -> None:
        """Tell this run when the reading breaks off, also when it has already."""
        self._fail = fail
        if self._error is not None:
            fail(self._error)

    def break_off(self, error: Transient) -> None:
        """Nothing more comes of this feed: whoever runs now must begin with another one."""
        self._error = self._error or error
        if self._fail is not None:
            self._fail(error)

    # -- reading --------------------------------------------------------------------------------------------------

    def begin(self) -> None:
        """Read ahead from now on."""
        self._has_begun.set()

    async def read_on(self, drain: Stop) -> None:
        """Read as far ahead as there is room, until `drain`."""
        await self._has_begun.wait()
        try:
            while not drain.is_set:
                await self._read()
        except Transient as error:
            self.break_off(error)
        self.move()

    async def _read(self) -> None:
        self._count()
        moved = self._moved
        # Whoever has little reads on however much the others have.
        is_full = self._room.is_full() and self.feed.in_hand >= _ALWAYS * self._bounds.turn
        if is_full and len(self.pos) >= self._bounds.turn:
            await moved.wait()
            return
        if is_full:
            self._add(await self.feed.read_pos())
            return
        if self._precedence.is_expected and len(self.ordinary) >= self._bounds.turn:
            # There is enough to do, and a page keeps the event loop for milliseconds. But one is read in the end.
            self._add(await self.feed.read_pos())
        self._add(await self.feed.read())

    def _count(self) -> None:
        if not self._is_closed:  # nobody would take back what is told after that
            self._room.tell(self, self.feed.in_hand)

    def _add(self, entries: Sequence[Entry]) -> None:
        if self._is_closed:
            return
        pos = [entry for entry in entries if entry.is_pos]
        self._precedence.came(len(pos))
        self.pos.add(pos)
        self.ordinary.add(entry for entry in entries if not entry.is_pos)
        if entries:
            self.move()

    # -- what was begun -------------------------------------------------------------------------------------------

    def settle(self, entry_ids: Sequence[str]) -> None:
        """These are done with, or will be by whoever acknowledges them."""
        settled = self.pos.settle(entry_ids)
        self.ordinary.settle(entry_ids)
        if not self._is_closed:  # a commit may end after us
            self._precedence.went(settled)

    async def acknowledge(self, entry_ids: Sequence[str]) -> None:
        """Say that these are processed.

        Raises: Unavailable; then the reading breaks off, for they are in nobody's hand any more.
        """
        try:
            await self.feed.acknowledge(entry_ids)
            self._count()
        except Transient as error:
            self.break_off(error)
            raise

    def put_back(self) -> None:
        """What was begun and not settled is to be begun again, in its order."""
        self.pos.put_back()
        self.ordinary.put_back()
        self.move()

    def close(self) -> None:
        """Nobody hurries for our sake any more."""
        self._precedence.went(self.pos.in_hand)
        self._is_closed = True
        self._room.tell(self, 0)
        self.pos.close()
        self.ordinary.close()
