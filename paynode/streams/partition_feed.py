"""Reading one partition's stream as its only owner."""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Final

from paynode.config import Settings
from paynode.domain.road import MERCHANTS_GROUP, Entry, events_stream
from paynode.streams.client import GroupMissing, Redis, reader_client, translated
from paynode.streams.entries import EntryId, Member, entry_id

# One consumer name for whoever owns the partition: the pending list of the owner before is found without looking for
# it, and no dead consumers pile up.
_OWNER: Final = "owner"


class PartitionFeed:
    """Entries of a partition in order: first those that were delivered before and not acknowledged, then new ones.

    A feed lives as long as one undisturbed run over the partition. After any error a new one begins at the pending
    list's start again, which puts everything unacknowledged back in its order.
    """

    def __init__(self, reader: Redis, commands: Redis, partition: int, *, count: int, block_ms: int) -> None:
        self._reader = reader
        self._commands = commands
        self._member = Member(events_stream(partition), MERCHANTS_GROUP, _OWNER)
        self._count = count
        self._block_ms = block_ms
        self._in_hand: deque[str] = deque()
        self._acknowledged: set[str] = set()
        self._last: EntryId = (0, 0)
        self._pending_after: str | None = "0"

    async def read(self) -> Sequence[Entry]:
        """The next entries; none when nothing came for a while.

        Raises: Unavailable.
        """
        try:
            entries = await (self._read_new() if self._pending_after is None else self._read_pending())
        except GroupMissing:
            # Whatever was in hand is in PostgreSQL and will be published again if it has not been processed. Where it
            # stood says nothing of the new stream, whose ids may be lower: trimming by it would take the unread.
            self._in_hand.clear()
            self._acknowledged.clear()
            self._last = (0, 0)
            await self._member.make_group(self._commands)
            return []
        known = set(self._in_hand)
        fresh = [entry for entry in entries if entry.id not in known]
        self._remember(fresh)
        return fresh

    def _remember(self, fresh: Sequence[Entry]) -> None:
        if not fresh:
            return
        is_late = entry_id(fresh[0].id) < self._last
        self._in_hand.extend(entry.id for entry in fresh)
        if is_late:  # found in the pending list after newer ones: the oldest must stand first, trimming goes by it
            self._in_hand = deque(sorted(self._in_hand, key=entry_id))
        self._last = max(self._last, entry_id(fresh[-1].id))

    async def _read_pending(self) -> list[Entry]:
        assert self._pending_after is not None
        entries = await self._member.read(self._reader, after=self._pending_after, count=self._count, block_ms=None)
        self._pending_after = entries[-1].id if entries else None
        return entries

    async def _read_new(self) -> list[Entry]:
        entries = await self._member.read(self._reader, after=">", count=self._count, block_ms=self._block_ms)
        if not entries:
            # Nothing new: look for what a connection of the owner before may have swallowed after we had looked. It
            # was waiting in its own blocking read when it lost the partition.
            self._pending_after = "0"
        return entries

    async def acknowledge(self, ids: Sequence[str]) -> None:
        """Say that these are processed and committed, and trim what nobody needs any more.

        Trimming by the oldest id still in hand is ten times faster than deleting one by one, and leaves no holes.
        Raises: Unavailable; then they may be delivered again, and are recognised.
        """
        self._acknowledged.update(ids)
        while self._in_hand and self._in_hand[0] in self._acknowledged:
            self._acknowledged.discard(self._in_hand.popleft())
        with translated():
            async with self._commands.pipeline(transaction=False) as pipeline:
                pipeline.xack(self._member.stream, self._member.group, *ids)
                pipeline.xtrim(self._member.stream, minid=self._floor(), approximate=False)
                await pipeline.execute()

    def _floor(self) -> str:
        if self._in_hand:
            return self._in_hand[0]
        milliseconds, number = self._last
        return f"{milliseconds}-{number + 1}"

    @property
    def in_hand(self) -> int:
        """Entries read and not yet acknowledged."""
        return len(self._in_hand)


class RedisFeeds:
    """Opens feeds for partitions."""

    def __init__(self, settings: Settings, commands: Redis) -> None:
        self._settings = settings
        self._commands = commands

    @asynccontextmanager
    async def open(self, partition: int) -> AsyncIterator[PartitionFeed]:
        """A feed with a connection of its own."""
        streams = self._settings.streams
        async with reader_client(self._settings) as reader:
            yield PartitionFeed(reader, self._commands, partition, count=streams.read_count, block_ms=streams.block_ms)
