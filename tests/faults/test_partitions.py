"""A partition's reader when the committer stands still, and when Redis begins anew."""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from itertools import count

import anyio
from anyio.lowlevel import checkpoint

from paynode.actors.ahead import Bounds
from paynode.actors.committer import Committer
from paynode.actors.partition import PartitionConsumer, Surrounds
from paynode.actors.room import Room
from paynode.app.parts import backoff_of, new_id, now_ms, policy_of
from paynode.config import Settings
from paynode.domain.batch import Batch, Lease
from paynode.domain.booking import Surroundings
from paynode.domain.road import Entry, events_stream
from paynode.observability.observers import Observer
from paynode.runtime.precedence import Precedence
from paynode.runtime.stopping import Stop
from paynode.streams.client import Redis, commands_client
from paynode.streams.partition_feed import RedisFeeds
from paynode.streams.publisher import RedisPublisher
from tests.actors.bystanders import Nobody, Shelf
from tests.support.waiting import wait_until

LEASE = Lease(partition=7, epoch=1)
STREAM = events_stream(LEASE.partition)
AHEAD = 20_000


class Endless:
    """A feed that always has a thousand entries more, each of another merchant."""

    is_behind = False

    def __init__(self) -> None:
        self._numbers = count(1)
        self._in_hand: deque[str] = deque()

    async def fetch(self, ids: Sequence[str]) -> Sequence[Entry]:
        return [Entry(id=number, fields={"ref": new_id()}) for number in ids]

    @property
    def in_hand(self) -> int:
        return len(self._in_hand)

    async def read(self) -> Sequence[Entry]:
        await checkpoint()
        entries = [Entry(id=f"{next(self._numbers)}-0", fields=self._pointer()) for _ in range(1000)]
        self._in_hand.extend(entry.id for entry in entries)
        return entries

    async def read_pos(self) -> Sequence[Entry]:
        await anyio.sleep(0.05)
        return []

    def _pointer(self) -> Mapping[str, str]:
        ref = new_id()
        return {"ref": ref, "merchant": ref}

    async def acknowledge(self, ids: Sequence[str]) -> None:
        raise AssertionError("nothing is ever committed")


class StandsStill:
    """Books of a database that does not answer."""

    async def commit(self, batch: Batch) -> None:
        await anyio.sleep_forever()


async def test_what_is_read_ahead_of_a_committer_that_stands_still_is_bounded(
    settings: Settings, redis_url: str
) -> None:
    """Every merchant's mailbox has room of its own: a backlog of many merchants would fill the memory with them."""
    feed, observer, policy = Endless(), Observer(), policy_of(settings, {})

    class Feeds:
        @asynccontextmanager
        async def open(self, partition: int) -> AsyncIterator[Endless]:
            yield feed

    def around(lease: Lease) -> Surroundings:
        return Surroundings(
            now_ms=now_ms(),
            new_id=new_id,
            between_ms=lambda low, high: (low + high) // 2,
            epoch=lease.epoch,
            policy=policy,
        )

    async with commands_client(at(settings, redis_url)) as commands, anyio.create_task_group() as group:
        committer = Committer(
            StandsStill(),
            RedisPublisher(commands),
            Nobody(),
            observer,
            around,
            new_id=new_id,
            batch_size=100,
            condemn_after_s=10,
        )
        parts = Surrounds(
            feeds=Feeds(),
            shelf=Shelf(),
            outside=Nobody(),
            outcomes=Nobody(),
            suspects=Nobody(),
            around=around,
            observer=observer,
            bounds=Bounds(turn=1000, share=100, mailbox=2000, actors=100, attempts=3),
            room=Room(entries=AHEAD, whole=AHEAD),
            precedence=Precedence(patience_s=0.05),
        )
        consumer = PartitionConsumer(parts, [committer], new_backoff=lambda: backoff_of(settings))
        group.start_soon(committer.run)
        group.start_soon(consumer.consume, LEASE, Stop())
        await wait_until(lambda: feed.in_hand >= AHEAD, "all that may be is read", 60)
        first = feed.in_hand
        await anyio.sleep(0.3)
        assert feed.in_hand == first, "it goes on reading"
        assert AHEAD <= first < AHEAD + 1000
        group.cancel_scope.cancel()


async def test_a_stream_that_begins_anew_with_lower_ids_is_not_trimmed_by_those_of_before(
    settings: Settings, redis_url: str, road: Redis
) -> None:
    """A failover to a node whose clock is behind, or an emptied Redis whose clock was set back."""
    settings = at(settings, redis_url)
    async with commands_client(settings) as commands, RedisFeeds(settings, commands).open(LEASE.partition) as feed:
        assert await feed.read() == []  # no group yet: it makes one
        await road.xadd(STREAM, {"ref": new_id()}, id="2000-0")
        [before] = await read_some(feed.read)
        await road.flushdb()
        assert await feed.read() == []
        for number in (1, 2):
            await road.xadd(STREAM, {"ref": new_id()}, id=f"1000-{number}")
        await feed.acknowledge([before.id])  # its commit was under way
        assert await road.xlen(STREAM) == 2, "nobody has read them yet"
        [first, second] = await read_some(feed.read)
        await road.xadd(STREAM, {"ref": new_id()}, id="1000-3")
        await feed.acknowledge([second.id, first.id])
        assert await road.xlen(STREAM) == 1
        [third] = await read_some(feed.read)
        await feed.acknowledge([third.id])
        assert feed.in_hand == await road.xlen(STREAM) == 0


async def read_some(read: Callable[[], Awaitable[Sequence[Entry]]]) -> Sequence[Entry]:
    with anyio.fail_after(5):
        while not (entries := await read()):
            pass
    return entries


def at(settings: Settings, redis_url: str) -> Settings:
    return settings.model_copy(
        update={
            "redis": settings.redis.model_copy(update={"url": redis_url}),
            "streams": settings.streams.model_copy(update={"block_ms": 50}),
        }
    )
