"""Putting entries on streams and looking at what is there, beside the code under test."""

from __future__ import annotations

from typing import Any

from paynode.streams.client import Redis


async def add(commands: Redis, stream: str, count: int) -> list[str]:
    """Entries with a field each; their ids."""
    client: Any = commands  # its types cover answers of three protocols at once; ours is one
    return [(await client.xadd(stream, {"ref": str(number)})).decode() for number in range(count)]


async def ids(commands: Redis, stream: str) -> list[str]:
    """All entries of a stream."""
    client: Any = commands
    return [number.decode() for number, _ in await client.xrange(stream)]


async def fields(commands: Redis, stream: str) -> list[dict[bytes, bytes]]:
    """The fields of all entries of a stream."""
    client: Any = commands
    return [one for _, one in await client.xrange(stream)]


async def pending(commands: Redis, stream: str, group: str) -> list[str]:
    """What a group was given and has not acknowledged."""
    client: Any = commands
    return [one["message_id"].decode() for one in await client.xpending_range(stream, group, "-", "+", 100)]


async def consumers(commands: Redis, stream: str, group: str) -> set[str]:
    """The names of a group's consumers."""
    client: Any = commands
    return {one["name"].decode() for one in await client.xinfo_consumers(stream, group)}


async def listeners(commands: Redis, channel: str) -> int:
    """How many listen on a channel."""
    client: Any = commands
    ((_, number),) = await client.pubsub_numsub(channel)
    return int(number)
