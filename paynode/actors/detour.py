"""The way round while Redis is away: the same messages, read from the outbox, through the same actors.

Nothing needs to know which way a message came. Claiming a row is deleting it, so that whatever is left in the streams
when Redis is back is found to be processed. Messages of outside publishers are in Redis alone, and wait for it.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Sequence
from contextlib import AbstractAsyncContextManager, AbstractContextManager, asynccontextmanager
from typing import Final, NoReturn, Protocol, TypeVar

import anyio

from paynode.actors.ahead import Feed, Feeds
from paynode.actors.committer import Outcomes
from paynode.domain.detour import DueRow
from paynode.domain.errors import Unavailable
from paynode.domain.message import DeadLetter
from paynode.domain.publishing import Verdict
from paynode.domain.road import Change, Entry, Pointer, events_stream

# Seconds after its return in which we still look into the outbox. Others may learn of it later than we do, and until
# then put nothing on the streams: what they leave there would wait for the relay. Not longer, or we never go back.
_HANDING_BACK_S: Final = (0.5, 3.0)

# Rows in hand, in pages of one read: how far ahead merchants that have much to do can be told from their neighbours.
_PAGES_MAX: Final = 10


Answer = TypeVar("Answer")


class Reach(Protocol):
    """Whether Redis answers."""

    @property
    def is_away(self) -> bool: ...
    @property
    def here_for_s(self) -> float: ...
    def needed(self) -> AbstractContextManager[None]: ...


class DueRows(Protocol):
    """What is due in the outbox. Raises: Unavailable."""

    async def page(self, stream: str, after: DueRow | None, count: int) -> Sequence[DueRow]: ...


class Road(Protocol):
    """Tells the world what is committed. Raises: Unavailable."""

    async def publish(self, pointers: Sequence[Pointer]) -> None: ...
    async def announce(self, changes: Sequence[Change]) -> None: ...
    async def bury(self, letters: Sequence[DeadLetter]) -> None: ...


async def while_here(reach: Reach, answer: Awaitable[Answer]) -> Answer:
    """What Redis answers. Raises: Unavailable, as soon as it is away."""
    with reach.needed():
        return await answer
    raise Unavailable("redis is away")


def may_go_back(reach: Reach, *, is_idle: bool) -> bool:
    """Whether to leave the detour: Redis is back, and nothing, or for a while too much, is left to do here."""
    soon_s, late_s = _HANDING_BACK_S
    return reach.here_for_s >= (soon_s if is_idle else late_s)


class PassableRoad:
    """A road that nobody waits for while it is closed.

    What was to be published or announced is found without it: rows in the outbox, waiters by polling.
    """

    def __init__(self, road: Road, reach: Reach) -> None:
        self._road = road
        self._reach = reach

    async def publish(self, pointers: Sequence[Pointer]) -> None:
        """Put pointers on their streams. Raises: Unavailable when Redis leaves meanwhile."""
        if pointers and not self._reach.is_away:
            await while_here(self._reach, self._road.publish(pointers))

    async def announce(self, changes: Sequence[Change]) -> None:
        """Tell whoever waits. Raises: Unavailable when Redis leaves meanwhile."""
        if changes and not self._reach.is_away:
            await while_here(self._reach, self._road.announce(changes))

    async def bury(self, letters: Sequence[DeadLetter]) -> None:
        """Show dead letters. Raises: Unavailable, also when Redis is away already: somebody must show them later."""
        if letters:
            await while_here(self._reach, self._road.bury(letters))


class PassableOutcomes:
    """Where publishers hear what became of their events; one that hears nothing asks again."""

    def __init__(self, outcomes: Outcomes, reach: Reach) -> None:
        self._outcomes = outcomes
        self._reach = reach

    async def tell(self, verdicts: Sequence[Verdict]) -> None:
        """Tell them. Raises: Unavailable when Redis leaves meanwhile."""
        if verdicts and not self._reach.is_away:
            await while_here(self._reach, self._outcomes.tell(verdicts))


class PassableFeed:
    """A feed of Redis that fails as soon as Redis is away, however long its own time-outs are."""

    def __init__(self, feed: Feed, reach: Reach) -> None:
        self._feed = feed
        self._reach = reach

    @property
    def in_hand(self) -> int:
        """Entries read and not yet acknowledged."""
        return self._feed.in_hand

    @property
    def is_behind(self) -> bool:
        """Whether what is read may have been in an earlier owner's hand."""
        return self._feed.is_behind

    async def read(self) -> Sequence[Entry]:
        """The next entries. Raises: Unavailable."""
        return await while_here(self._reach, self._feed.read())

    async def read_pos(self) -> Sequence[Entry]:
        """The next entries of the lane that is read first. Raises: Unavailable."""
        return await while_here(self._reach, self._feed.read_pos())

    async def fetch(self, ids: Sequence[str]) -> Sequence[Entry]:
        """Entries in hand once more. Raises: Unavailable."""
        return await while_here(self._reach, self._feed.fetch(ids))

    async def acknowledge(self, ids: Sequence[str]) -> None:
        """Say that these are processed. Raises: Unavailable."""
        await while_here(self._reach, self._feed.acknowledge(ids))


class DetourFeed:
    """A partition's due rows, in order, until Redis is back and what nobody has put on it is processed."""

    def __init__(self, rows: DueRows, reach: Reach, partition: int, *, count: int, poll_s: float) -> None:
        self._rows = rows
        self._reach = reach
        self._stream = events_stream(partition)
        self._count = count
        self._poll_s = poll_s
        self._in_hand: dict[str, Entry] = {}
        self._last: DueRow | None = None
        self._is_behind = True
        self._settled = anyio.Event()

    @property
    def in_hand(self) -> int:
        """Entries read and not yet acknowledged."""
        return len(self._in_hand)

    @property
    def is_behind(self) -> bool:
        """Until the first pass is over: what was there before us is in it."""
        return self._is_behind

    async def read(self) -> Sequence[Entry]:
        """The next entries; none when nothing came for a while.

        Raises: Unavailable, of the database, or when it is time to go back to Redis and nothing is in hand.
        """
        if may_go_back(self._reach, is_idle=False):
            await self._go_back()
        await self._wait_until(_PAGES_MAX * self._count)
        page = await self._rows.page(self._stream, self._last, self._count)
        # The end of a pass: the next one begins at the first row, whatever was passed over. The lane that is read first
        # is in every page, from its beginning.
        ordinary = [row for row in page if not row.is_pos]
        self._last = ordinary[-1] if len(ordinary) == self._count else None
        self._is_behind = self._is_behind and self._last is not None
        fresh = [entry for entry in (row.entry for row in page) if entry.id not in self._in_hand]
        self._in_hand |= {entry.id: entry for entry in fresh}
        if not fresh and self._last is None:
            if may_go_back(self._reach, is_idle=True):
                await self._go_back()
            await anyio.sleep(self._poll_s)
        return fresh

    async def read_pos(self) -> Sequence[Entry]:
        """The next entries, since every page has both lanes."""
        return await self.read()

    async def _go_back(self) -> NoReturn:
        # What is decided upon and not committed would be thrown away with the run, and wait for the relay.
        await self._wait_until(1)
        raise Unavailable("redis is back")

    async def _wait_until(self, fewer_than: int) -> None:
        while len(self._in_hand) >= fewer_than:
            self._settled = anyio.Event()
            await self._settled.wait()

    async def fetch(self, ids: Sequence[str]) -> Sequence[Entry]:
        """Entries in hand once more."""
        return [self._in_hand[entry_id] for entry_id in ids if entry_id in self._in_hand]

    async def acknowledge(self, ids: Sequence[str]) -> None:
        """Forget these: the row itself went with the commit."""
        for entry_id in ids:
            self._in_hand.pop(entry_id, None)
        self._settled.set()


class DetourFeeds:
    """Opens the feed of Redis while it answers, and else the one of the outbox."""

    def __init__(self, feeds: Feeds, rows: DueRows, reach: Reach, *, count: int, poll_s: float) -> None:
        self._feeds = feeds
        self._rows = rows
        self._reach = reach
        self._count = count
        self._poll_s = poll_s

    def open(self, partition: int) -> AbstractAsyncContextManager[Feed]:
        """A feed at the first message that is not processed."""
        return self._open(partition)

    @asynccontextmanager
    async def _open(self, partition: int) -> AsyncIterator[Feed]:
        if self._reach.is_away:
            yield DetourFeed(self._rows, self._reach, partition, count=self._count, poll_s=self._poll_s)
        else:
            async with self._feeds.open(partition) as feed:
                yield PassableFeed(feed, self._reach)
