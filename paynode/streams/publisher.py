"""Putting pointers on their streams, and telling waiters of changes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from redis.exceptions import ResponseError

from paynode.domain.message import DeadLetter
from paynode.domain.road import CHANGES_CHANNEL, PARTITIONS_KEY, Change, Pointer
from paynode.streams.client import Redis, translated
from paynode.streams.graves import RedisGraves

# All of a stream's pointers in one command: a command for each costs the client seven times as much.
PUBLISH: Final = """
for i = 1, #ARGV, 2 do
    if ARGV[i + 1] == '' then
        redis.call('XADD', KEYS[1], '*', 'ref', ARGV[i])
    else
        redis.call('XADD', KEYS[1], '*', 'ref', ARGV[i], 'merchant', ARGV[i + 1])
    end
end
"""


class RedisPublisher:
    """Every method raises Unavailable; then some may have been put and some not, and the relay finds out."""

    def __init__(self, client: Redis) -> None:
        self._client = client

    async def publish(self, pointers: Sequence[Pointer]) -> None:
        """Put pointers on their streams, in order, in one round trip."""
        if not pointers:
            return
        # Not a MULTI: the streams may live on different nodes, and one entry more or less harms nobody.
        with translated():
            async with self._client.pipeline(transaction=False) as pipeline:
                for stream, values in _by_stream(pointers).items():
                    pipeline.eval(PUBLISH, 1, stream, *values)
                await pipeline.execute()

    async def announce(self, changes: Sequence[Change]) -> None:
        """Tell whoever waits for these payments."""
        if not changes:
            return
        message = " ".join(f"{change.payment_id}:{change.version}" for change in changes)
        with translated():
            await self._client.publish(CHANGES_CHANNEL, message)

    async def bury(self, letters: Sequence[DeadLetter]) -> None:
        """Show dead letters on the dead-letter streams; their durable copies are in the database already."""
        await RedisGraves(self._client).bury(letters)

    async def mark_out(self, partitions: int) -> None:
        """Say how many partitions there are, for outside publishers; again and again, because Redis may forget."""
        with translated():
            await self._client.set(PARTITIONS_KEY, partitions)

    async def first_entry_ms(self, stream: str) -> int | None:
        """When the oldest entry that still waits was put on a stream, in milliseconds since 1970; None when none does.

        Not simply the stream's first: an entry that was acknowledged and, in a failure, neither deleted nor trimmed
        stays there for ever, and would make everything after it look as if it were still on its way.
        """
        with translated():
            groups = await self._groups(stream)
            async with self._client.pipeline(transaction=False) as pipeline:
                for group in groups:
                    pipeline.xpending(stream, group["name"])
                    pipeline.xrange(stream, min=b"(" + group["last-delivered-id"], count=1)
                if not groups:
                    pipeline.xrange(stream, count=1)
                answers: Any = await pipeline.execute()
        pending = [answer["min"] for answer in answers if isinstance(answer, dict) and answer["pending"]]
        undelivered = [answer[0][0] for answer in answers if isinstance(answer, list) and answer]
        return min((int(entry.split(b"-")[0]) for entry in pending + undelivered), default=None)

    async def _groups(self, stream: str) -> Sequence[Any]:
        try:
            groups: Any = await self._client.xinfo_groups(stream)
        except ResponseError as error:
            if str(error) != "no such key":
                raise
            return ()
        return tuple(groups)


def _by_stream(pointers: Sequence[Pointer]) -> dict[str, list[str]]:
    streams: dict[str, list[str]] = {}
    for pointer in pointers:
        streams.setdefault(pointer.stream, []).extend((pointer.ref, pointer.merchant))
    return streams
