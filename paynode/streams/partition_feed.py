"""Reading one partition's stream, in its two lanes, as its only owner."""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any, Final

import anyio

from paynode.config import Settings
from paynode.domain.road import (
    MERCHANTS_GROUP,
    Entry,
    entry_on_pos_lane,
    events_stream,
    is_on_pos_lane,
    place_of,
    pos_lane,
)
from paynode.streams.client import GroupMissing, Redis, reader_client, translated
from paynode.streams.entries import EntryId, Member, entries, entry_id

# One consumer name for whoever owns the partition: the pending list of the owner before is found without looking for
# it, and no dead consumers pile up.
_OWNER: Final = "owner"
# Seconds between two looks for what is pending and not in hand, while new entries never end.
_LOOK_S: Final = 1.0
# Milliseconds that a read of the first lane alone waits.
_GLANCE_MS: Final = 100
_NUMBER_MAX: Final = 2**64 - 1
# In a few fetches that were not of a row, one is tried as a row again.
_DENSE_EVERY: Final = 16
# One round trip, of which every batch needs one. A command takes no more values than Lua's stack.
ACKNOWLEDGE: Final = """
for first = 3, #ARGV, 1000 do
    redis.call('XACK', KEYS[1], ARGV[1], unpack(ARGV, first, math.min(first + 999, #ARGV)))
end
local pending = redis.call('XPENDING', KEYS[1], ARGV[1])
redis.call('XTRIM', KEYS[1], 'MINID', pending[1] > 0 and pending[2] or ARGV[2])
"""
# Entries that lie anywhere on a stream, in one command: a command for each cost the client ten times as much.
FETCH: Final = """
local found = {}
for number, id in ipairs(ARGV) do
    local entry = redis.call('XRANGE', KEYS[1], id, id)[1]
    found[number] = entry and entry[2] or false
end
return found
"""


class _Lane:
    """One of a partition's two streams, as far as it has been read. `name` is how its entries are called outside."""

    def __init__(self, stream: str, name: Callable[[str], str]) -> None:
        self.member = Member(stream, MERCHANTS_GROUP, _OWNER)
        self.in_hand: set[str] = set()
        self.last: EntryId = (0, 0)
        self.pending_after: str | None = "0"
        self.is_behind = True
        self.is_dense = True  # what was fetched last stood in a row
        self.name = name

    def take(self, found: list[Entry]) -> list[Entry]:
        """Those of them that are not in hand already, from now on in hand."""
        ids = {entry.id for entry in found}
        if known := ids & self.in_hand:
            found = [entry for entry in found if entry.id not in known]
        if found:
            self.in_hand |= ids
            self.last = max(self.last, entry_id(place_of(found[-1].id)[1]))
        return found

    def forget(self) -> None:
        """There is another stream of this name now. Where the old one stood says nothing of it, whose ids may be lower:
        trimming by it would take the unread. What was in hand is in PostgreSQL, and will be published again if it has
        not been processed.
        """
        self.in_hand.clear()
        self.last = (0, 0)


class PartitionFeed:
    """Entries of a partition in order: first those that were delivered before and not acknowledged, then new ones.

    Both lanes are read by one blocking read, and of what they have the one that is read first comes first. They share
    a hash tag, an owner and a connection; each has its own order, pending list and group.

    A feed lives as long as one undisturbed run over the partition. After any error a new one begins at the pending
    lists' start again, which puts everything unacknowledged back in its order.
    """

    def __init__(self, reader: Redis, commands: Redis, partition: int, *, count: int, block_ms: int) -> None:
        self._reader = reader
        self._commands = commands
        stream = events_stream(partition)
        self._pos, self._ordinary = _Lane(pos_lane(stream), entry_on_pos_lane), _Lane(stream, str)
        self._lanes = (self._pos, self._ordinary)
        self._count = count
        self._block_ms = block_ms
        self._look_at = 0.0
        self._turns = itertools.count()

    @property
    def in_hand(self) -> int:
        """Entries read and not yet acknowledged."""
        return sum(len(lane.in_hand) for lane in self._lanes)

    @property
    def is_behind(self) -> bool:
        """Whether what an owner before had in hand has not all been read yet."""
        return any(lane.is_behind for lane in self._lanes)

    async def read(self) -> Sequence[Entry]:
        """The next entries; none when nothing came for a while.

        Raises: Unavailable.
        """
        return await self._read(self._lanes, self._block_ms)

    async def read_pos(self) -> Sequence[Entry]:
        """The next entries of the lane that is read first, for a reader that has no room for others.

        Raises: Unavailable.
        """
        # Not long: there may be room for others at any moment.
        return await self._read((self._pos,), min(self._block_ms, _GLANCE_MS))

    async def _read(self, lanes: Sequence[_Lane], block_ms: int) -> list[Entry]:
        try:
            behind = [lane for lane in lanes if lane.pending_after is not None]
            for lane in behind:
                if fresh := await self._read_pending(lane):
                    return fresh
            return [] if behind else await self._read_new(lanes, block_ms)
        except GroupMissing:
            # Of one lane or of both; and somebody else may have made a group anew before us, which stands further back.
            # What is in hand of the other lane must stay in hand: read again, it would count as processed.
            for lane in self._lanes:
                is_new = await lane.member.make_group(self._commands)
                if is_new or await lane.member.last_delivered(self._commands) < lane.last:
                    lane.forget()
            return []

    async def _read_pending(self, lane: _Lane) -> list[Entry]:
        assert lane.pending_after is not None
        found = await lane.member.read(
            self._reader, after=lane.pending_after, count=self._count, block_ms=None, name=lane.name
        )
        lane.pending_after = place_of(found[-1].id)[1] if found else None
        if not found:
            lane.is_behind = False
        return lane.take(found)

    async def _read_new(self, lanes: Sequence[_Lane], block_ms: int) -> list[Entry]:
        with translated():
            # The client's own types cover three protocols at once; ours is 2, a list of (stream, entries).
            answer: Any = await self._reader.xreadgroup(
                MERCHANTS_GROUP,
                _OWNER,
                {lane.member.stream: ">" for lane in lanes},
                count=self._count,
                block=block_ms,
            )
        found = {name.decode(): raw for name, raw in answer or ()}
        fresh = [
            entry
            for lane in lanes
            if lane.member.stream in found
            for entry in lane.take(entries(found[lane.member.stream], lane.name))
        ]
        # Now and then also while there is always something new: what is swallowed is the oldest that is pending.
        if not found or anyio.current_time() >= self._look_at:
            self._look_at = anyio.current_time() + _LOOK_S
            await self._look_behind(lanes)
        return fresh

    async def _look_behind(self, lanes: Sequence[_Lane]) -> None:
        """Whether something is pending that we have not seen: a connection of the owner before has swallowed it after
        we had looked. It was waiting in its own blocking read when it lost the partition."""
        with translated():
            async with self._commands.pipeline(transaction=False) as pipeline:
                for lane in lanes:
                    pipeline.xpending(lane.member.stream, lane.member.group)
                summaries: Any = await pipeline.execute()
        for lane, summary in zip(lanes, summaries, strict=True):
            if summary["pending"] > len(lane.in_hand):
                lane.pending_after = "0"

    async def fetch(self, ids: Sequence[str]) -> Sequence[Entry]:
        """Read entries in hand once more, in their order; one that is not there any more has no fields.

        Raises: Unavailable.
        """
        found: dict[str, Entry] = {}
        for lane, names in self._by_lane(ids).items():
            if lane.is_dense:
                found |= await self._fetch_page(lane, names)
                lane.is_dense = all(name in found for name in names)
            if missing := [name for name in names if name not in found]:
                found |= await self._fetch_each(lane, missing)
                # Looked at again and again: neighbours come and go.
                lane.is_dense = next(self._turns) % _DENSE_EVERY == 0
        return [found[name] for name in ids]

    async def _fetch_page(self, lane: _Lane, names: Sequence[str]) -> dict[str, Entry]:
        """The entries from the first to the last of these, if they follow each other; else some of them."""
        first, last = place_of(names[0])[1], place_of(names[-1])[1]
        with translated():
            answer: Any = await self._commands.xrange(lane.member.stream, min=first, max=last, count=len(names))
        return {entry.id: entry for entry in entries(answer, lane.name)}

    async def _fetch_each(self, lane: _Lane, names: Sequence[str]) -> dict[str, Entry]:
        numbers = [place_of(name)[1] for name in names]
        with translated():
            answer: Any = await self._commands.eval(FETCH, 1, lane.member.stream, *numbers)
        pairs = zip((number.encode() for number in numbers), answer, strict=True)
        return {entry.id: entry for entry in entries(((key, _fields(flat)) for key, flat in pairs), lane.name)}

    async def acknowledge(self, ids: Sequence[str]) -> None:
        """Say that these are processed and committed, and trim what nobody needs any more.

        Trimming by the oldest id that somebody still needs is ten times faster than deleting one by one, and leaves no
        holes: the oldest that is pending, else what comes after the last that was read. By what Redis counts as
        pending, not by what is in hand: a blocked read of the owner before may have swallowed entries that we have
        not seen yet.
        Raises: Unavailable; then they may be delivered again, and are recognised.
        """
        for lane, names in self._by_lane(ids).items():
            await self._acknowledge(lane, names)

    def _by_lane(self, ids: Sequence[str]) -> dict[_Lane, list[str]]:
        lanes: dict[_Lane, list[str]] = {}
        for name in ids:
            lanes.setdefault(self._pos if is_on_pos_lane(name) else self._ordinary, []).append(name)
        return lanes

    async def _acknowledge(self, lane: _Lane, names: Sequence[str]) -> None:
        member, numbers = lane.member, [place_of(name)[1] for name in names]
        with translated():
            await self._commands.eval(ACKNOWLEDGE, 1, member.stream, member.group, _after(lane.last), *numbers)
        lane.in_hand.difference_update(names)


def _fields(flat: Sequence[bytes] | None) -> Mapping[bytes, bytes]:
    """Names and values in turns, as the server lists them."""
    return dict(zip(flat[::2], flat[1::2], strict=True)) if flat else {}


def _after(last: EntryId) -> str:
    """The lowest id after this one."""
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
