"""Reading a PSP's commands, of one lane, as one of several competing consumers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Final

from paynode.domain.road import GATEWAY_GROUP, Entry
from paynode.streams.client import GroupMissing, Redis, translated
from paynode.streams.entries import Member, entries

# In one step, because Redis forgets what a removed consumer had pending: such an entry would stay in the stream,
# delivered to nobody. Between a look and a removal it could read or reclaim something. XPENDING is asked for its error
# when there is no group.
_REMOVE: Final = """
redis.call('XPENDING', KEYS[1], ARGV[1])
local removed = {}
for _, facts in ipairs(redis.call('XINFO', 'CONSUMERS', KEYS[1], ARGV[1])) do
    local consumer = {}
    for i = 1, #facts, 2 do consumer[facts[i]] = facts[i + 1] end
    local is_meant = consumer.name == ARGV[3] or (ARGV[3] == '' and consumer.name ~= ARGV[4])
    if is_meant and consumer.pending == 0 and consumer.idle >= tonumber(ARGV[2]) then
        redis.call('XGROUP', 'DELCONSUMER', KEYS[1], ARGV[1], consumer.name)
        removed[#removed + 1] = consumer.name
    end
end
return removed
"""


class CommandFeed:
    """New commands for this process, and those that another process took and never finished."""

    def __init__(self, reader: Redis, commands: Redis, stream: str, *, consumer: str, block_ms: int) -> None:
        self._reader = reader
        self._commands = commands
        self._member = Member(stream, GATEWAY_GROUP, consumer)
        self._block_ms = block_ms
        self._cursor = "0-0"

    @property
    def stream(self) -> str:
        """The stream that is read."""
        return self._member.stream

    async def read(self, count: int) -> Sequence[Entry]:
        """New commands; none when nothing came for a while.

        Raises: Unavailable.
        """
        try:
            return await self._member.read(self._reader, after=">", count=count, block_ms=self._block_ms)
        except GroupMissing:
            await self._member.make_group(self._commands)
            return []

    async def reclaim(self, *, idle_ms: int, count: int) -> Sequence[Entry]:
        """Commands delivered longer ago than `idle_ms` and never acknowledged, whoever took them; ours among them.

        In pages: the next call goes on where this one ended. Raises: Unavailable.
        """
        try:
            with translated():
                cursor, raw, *_ = await self._commands.xautoclaim(
                    self._member.stream,
                    self._member.group,
                    self._member.consumer,
                    idle_ms,
                    start_id=self._cursor,
                    count=count,
                )
        except GroupMissing:
            self._cursor = "0-0"
            return []
        self._cursor = cursor.decode()
        return await self._counted(entries(raw)) if raw else []

    async def _counted(self, reclaimed: Sequence[Entry]) -> list[Entry]:
        """With the number of times that each was delivered, this one included."""
        client: Any = self._commands
        with translated():
            async with client.pipeline(transaction=False) as pipeline:
                for entry in reclaimed:
                    pipeline.xpending_range(self._member.stream, self._member.group, entry.id, entry.id, 1)
                answers = await pipeline.execute()
        times = [answer[0]["times_delivered"] if answer else 1 for answer in answers]
        return [replace(entry, times=count) for entry, count in zip(reclaimed, times, strict=True)]

    async def acknowledge(self, ids: Sequence[str]) -> None:
        """Say that these are concluded, and delete them: consumers compete, so there is no oldest one to trim by.

        Deleted first: cut off in between, an entry is found pending once more, and gone; the other way round it would
        stay in the stream with nobody to look at it again.
        Raises: Unavailable; then they are delivered again, and their rows are found gone.
        """
        with translated():
            async with self._commands.pipeline(transaction=False) as pipeline:
                pipeline.xdel(self._member.stream, *ids)
                pipeline.xack(self._member.stream, self._member.group, *ids)
                await pipeline.execute()

    async def renew(self, ids: Sequence[str], *, idle_ms: int) -> None:
        """Begin the idle time of these anew, so that nobody takes them for forgotten; no delivery is counted by it.

        Only of those that were idle for so long. What somebody else has taken meanwhile, because we were stopped, is
        renewed by him and idle for less: it stays his. Raises: Unavailable.
        """
        try:
            with translated():
                await self._commands.xclaim(
                    self._member.stream,
                    self._member.group,
                    self._member.consumer,
                    idle_ms,
                    list(ids),
                    justid=True,  # without it this would be one more delivery
                )
        except GroupMissing:
            return  # nothing is in anybody's hands any more, as far as Redis knows

    async def clear_out(self, *, idle_ms: int) -> Sequence[str]:
        """Remove the consumers that nothing was heard of for `idle_ms` and that have nothing pending; their names.

        One that was only stopped is made anew by its next read. Raises: Unavailable.
        """
        try:
            return await self._remove(idle_ms=idle_ms, name="")
        except GroupMissing:
            return []

    async def leave(self) -> None:
        """Remove this consumer, so that stopped processes do not pile up; it stays while it has commands pending.

        Raises: Unavailable.
        """
        await self._remove(idle_ms=0, name=self._member.consumer)

    async def _remove(self, *, idle_ms: int, name: str) -> list[str]:
        client: Any = self._commands  # its types cover answers of three protocols at once
        with translated():
            names = await client.eval(
                _REMOVE, 1, self._member.stream, self._member.group, idle_ms, name, self._member.consumer
            )
        return [removed.decode() for removed in names]
