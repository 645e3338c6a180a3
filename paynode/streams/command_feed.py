"""Reading a PSP's commands as one of several competing consumers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from paynode.domain.road import GATEWAY_GROUP, Entry, commands_stream
from paynode.streams.client import GroupMissing, Redis, translated
from paynode.streams.entries import Member, entries


class CommandFeed:
    """New commands for this process, and those that another process took and never finished."""

    def __init__(self, reader: Redis, commands: Redis, psp: str, *, consumer: str, block_ms: int) -> None:
        self._reader = reader
        self._commands = commands
        self._member = Member(commands_stream(psp), GATEWAY_GROUP, consumer)
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
        return entries(raw)

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

    async def leave(self) -> None:
        """Remove this consumer, so that stopped processes do not pile up; it stays while it has commands pending.

        Redis forgets what a removed consumer had pending: the entries would stay in the stream, delivered to nobody
        and looking to the relay as if they were still on their way.
        """
        with translated():
            summary: Any = await self._commands.xpending(self._member.stream, self._member.group)
            held = {consumer["name"] for consumer in summary["consumers"]}
            if self._member.consumer.encode() not in held:
                await self._commands.xgroup_delconsumer(self._member.stream, self._member.group, self._member.consumer)
