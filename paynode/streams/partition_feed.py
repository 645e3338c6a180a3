"""Reading one partition's stream as its only owner."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any, Final

import anyio

from paynode.config import Settings
from paynode.domain.road import MERCHANTS_GROUP, Entry, events_stream
from paynode.streams.client import GroupMissing, Redis, reader_client, translated
from paynode.streams.entries import EntryId, Member, entries, entry_id

# One consumer name for whoever owns the partition: the pending list of the owner before is found without looking for
# it, and no dead consumers pile up.
_OWNER: Final = "owner"
# Seconds between two looks for what is pending and not in hand, while new entries never end.
_LOOK_S: Final = 1.0
_NUMBER_MAX: Final = 2**64 - 1


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
        self._in_hand: set[str] = set()
        self._last: EntryId = (0, 0)
        self._pending_after: str | None = "0"
        self._is_behind = True
        self._look_at = 0.0

    @property
    def in_hand(self) -> int:
        """Entries read and not yet acknowledged."""
        return len(self._in_hand)

    @property
    def is_behind(self) -> bool:
        """Whether what an owner before had in hand has not all been read yet."""
        return self._is_behind

    async def read(self) -> Sequence[Entry]:
        """The next entries; none when nothing came for a while.

        Raises: Unavailable.
        """
        try:
            found = await (self._read_new() if self._pending_after is None else self._read_pending())
        except GroupMissing:
            # Whatever was in hand is in PostgreSQL and will be published again if it has not been processed. Where it
            # stood says nothing of the new stream, whose ids may be lower: trimming by it would take the unread.
            self._in_hand.clear()
            self._last = (0, 0)
            await self._member.make_group(self._commands)
            return []
        fresh = [entry for entry in found if entry.id not in self._in_hand]
        self._remember(fresh)
        return fresh

    def _remember(self, fresh: Sequence[Entry]) -> None:
        if not fresh:
            return
        self._in_hand.update(entry.id for entry in fresh)
        self._last = max(self._last, entry_id(fresh[-1].id))

    async def _read_pending(self) -> list[Entry]:
        assert self._pending_after is not None
        found = await self._member.read(self._reader, after=self._pending_after, count=self._count, block_ms=None)
        self._pending_after = found[-1].id if found else None
        if not found:
            self._is_behind = False
        return found

    async def _read_new(self) -> list[Entry]:
        found = await self._member.read(self._reader, after=">", count=self._count, block_ms=self._block_ms)
        # Now and then also while there is always something new: what is swallowed is the oldest that is pending.
        if not found or anyio.current_time() >= self._look_at:
            self._look_at = anyio.current_time() + _LOOK_S
            seen = len(self._in_hand | {entry.id for entry in found})
            if await self._member.count_pending(self._commands) > seen:
                # Something is pending that we have not seen: a connection of the owner before has swallowed it after we
                # had looked. It was waiting in its own blocking read when it lost the partition.
                self._pending_after = "0"
        return found

    async def fetch(self, ids: Sequence[str]) -> Sequence[Entry]:
        """Read entries in hand once more, in their order; one that is not there any more has no fields.

        Raises: Unavailable.
        """
        with translated():
            async with self._commands.pipeline(transaction=False) as pipeline:
                for number in ids:
                    pipeline.xrange(self._member.stream, min=number, max=number)
                answers: Any = await pipeline.execute()
        found = {entry.id: entry for answer in answers for entry in entries(answer)}
        return [found.get(number) or Entry(id=number, fields={}) for number in ids]

    async def acknowledge(self, ids: Sequence[str]) -> None:
        """Say that these are processed and committed, and trim what nobody needs any more.

        Trimming by the oldest id still pending is ten times faster than deleting one by one, and leaves no holes. By
        what Redis counts as pending, not by what is in hand: a blocked read of the owner before may have swallowed
        entries that we have not seen yet.
        Raises: Unavailable; then they may be delivered again, and are recognised.
        """
        last = self._last
        with translated():
            async with self._commands.pipeline(transaction=False) as pipeline:
                pipeline.xack(self._member.stream, self._member.group, *ids)
                pipeline.xpending(self._member.stream, self._member.group)
                _, pending = await pipeline.execute()
            self._in_hand.difference_update(ids)
            await self._commands.xtrim(self._member.stream, minid=_floor(pending, last), approximate=False)


def _floor(pending: Any, last: EntryId) -> str:
    """The oldest id that somebody still needs: the oldest pending one, else what comes after the last that was read."""
    if pending["pending"]:
        return str(pending["min"].decode())
    milliseconds, number = last
    # Anybody may choose an id, and the highest number there is has none after it.
    return f"{milliseconds}-{number + 1}" if number < _NUMBER_MAX else f"{milliseconds + 1}-0"


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
