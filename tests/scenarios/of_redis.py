"""Redis and what is on it: R1 to R5, M1, M3, and pointers that come twice."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from functools import partial
from typing import Any

import anyio
import asyncpg
from redis.exceptions import RedisError
from uuid_utils import uuid4

from paynode.domain.errors import Transient
from paynode.domain.road import events_stream
from tests.scenarios.of_postgresql import harmed
from tests.scenarios.of_processes import since
from tests.support.nemesis import Proof, Scenario
from tests.support.proxy import LOSABLE, Act, Fault, Proxy
from tests.support.stage import Stage

_REDIS = frozenset({"redis"})
_REPUBLISHED = '"republished"'


@asynccontextmanager
async def forgotten(stage: Stage) -> AsyncIterator[Proof]:
    """FLUSHALL three times under load: what is not processed is published again."""
    before = stage.said(_REPUBLISHED)
    lost = 0
    async with stage.road() as road:
        for _ in range(3):
            for key in await road.keys("paynode:*}:*"):
                with suppress(RedisError):  # not a stream
                    lost += int(await road.xlen(key))
            await road.flushall()
            await anyio.sleep(0.2)

    async def proof() -> int:
        return since(before, stage.said(_REPUBLISHED))

    yield proof


@asynccontextmanager
async def tail_lost(stage: Stage) -> AsyncIterator[Proof]:
    """kill -9, and the end of the append-only file is gone when it comes back."""
    before = stage.said(_REPUBLISHED)
    stage.redis.kill()
    gone = stage.redis.tear_tail(stage.random.uniform(0.05, 0.5))

    async def proof() -> int:
        return gone and since(before, stage.said(_REPUBLISHED))

    try:
        yield proof
    finally:
        stage.redis.start()


@asynccontextmanager
async def away(stage: Stage) -> AsyncIterator[Proof]:
    """Nobody listens where Redis was: accepting goes on, and is counted."""
    before = len(stage.history.accepted)
    stage.redis.stop()

    async def proof() -> int:
        return accepted

    accepted = 0
    try:
        yield proof
    finally:
        accepted = since(before, len(stage.history.accepted))
        stage.redis.start()


@asynccontextmanager
async def memory_full(stage: Stage) -> AsyncIterator[Proof]:
    """maxmemory with noeviction: XADD is refused, reading goes on."""
    async with stage.road() as road:
        before = await _refusals(stage)
        await road.config_set("maxmemory", 1)

        async def proof() -> int:
            return since(before, await _refusals(stage))

        try:
            yield proof
        finally:
            await road.config_set("maxmemory", 0)


async def _refusals(stage: Stage) -> int:
    async with stage.road() as road:
        stats = await road.info("errorstats")
    return int(stats.get("errorstat_OOM", {}).get("count", 0))


@asynccontextmanager
async def replies_cut(stage: Stage) -> AsyncIterator[Proof]:
    """Redis has done it, and nobody hears: 5 % of XADD and XREADGROUP, 15 % of XACK."""
    proxies = list(stage.to_redis.values())

    def bitten() -> int:
        return min(sum(proxy.bitten[word] for proxy in proxies) for word in LOSABLE)

    before = bitten()
    for proxy in proxies:
        proxy.faults = [
            Fault(name=word, pattern=pattern, act=Act.LOSE_REPLY, share=share)
            for word, (pattern, share) in LOSABLE.items()
        ]

    async def proof() -> int:
        return since(before, bitten())

    try:
        with anyio.move_on_after(10):
            while bitten() == before:  # noqa: ASYNC110 - polled: it happens in the proxies
                await anyio.sleep(0.05)
        yield proof
    finally:
        for proxy in proxies:
            proxy.heal()


_JUNK: tuple[dict[Any, Any], ...] = (
    {b"hello": b"world"},
    {b"ref": b"nonsense"},
    {b"ref": b"\xff\x00\xfe"},
    {b"\x00\xff": b"\x00", b"reason": b"mine", b"entry_id": b"0-0"},
    {b"blob": b"x" * 2**20},
    {b"": b""},
)


@asynccontextmanager
async def junk(stage: Stage) -> AsyncIterator[Proof]:
    """What is no pointer, on the streams of some partitions: each one becomes a dead letter, and nothing waits."""
    before = await _letters(stage)
    partitions = stage.random.sample(range(stage.installation.settings.streams.partitions), 4)
    async with stage.road() as road:
        for partition in partitions:
            for fields in _JUNK:
                await road.xadd(events_stream(partition), fields)
                stage.poison[events_stream(partition), "not_a_pointer"] += 1

    async def proof() -> int:
        return since(before, await _letters(stage)) if await _letters(stage) >= sum(stage.poison.values()) else 0

    yield proof


async def _letters(stage: Stage) -> int:
    [row] = await _rows(stage, "SELECT count(*) AS n FROM dead_letters")
    return int(row["n"])


async def _rows(stage: Stage, statement: str) -> Sequence[asyncpg.Record]:
    """A look into the database, which another scenario may have stopped at this moment: then when it is back."""
    with anyio.fail_after(30):
        while True:
            with suppress(Transient, OSError, asyncpg.PostgresError):
                return await stage.installation.rows(statement)
            await anyio.sleep(0.1)


@asynccontextmanager
async def forged(stage: Stage) -> AsyncIterator[Proof]:
    """Pointers to nothing, to rows of other streams, and once more to what is on its way: none has an effect."""
    put = 0
    rows = await _rows(stage, "SELECT id::text AS id, stream FROM outbox LIMIT 200")
    async with stage.road() as road, road.pipeline(transaction=False) as pipeline:
        for partition in range(stage.installation.settings.streams.partitions):
            pipeline.xadd(events_stream(partition), {"ref": str(uuid4())})
        for row in rows:
            pipeline.xadd(row["stream"], {"ref": row["id"]})
            pipeline.xadd(events_stream(stage.random.randrange(32)), {"ref": row["id"]})
        put = len(await pipeline.execute())
    stage.counts["redelivered"] += len(rows)

    async def proof() -> int:
        return put

    yield proof


FORGOTTEN = Scenario(id="R1", name="Redis forgets", act=forgotten, lasts_s=0.2, takes=_REDIS)
TAIL_LOST = Scenario(id="R2", name="Redis killed, tail lost", act=tail_lost, takes=_REDIS)
AWAY = Scenario(id="R3", name="Redis away", act=away, lasts_s=3, takes=_REDIS)
FULL = Scenario(id="R4", name="Redis full", act=memory_full, takes=_REDIS)
REPLIES_CUT = Scenario(id="R5", name="replies of Redis cut", act=replies_cut, takes=_REDIS)
SILENT = Scenario(
    id="R5",
    name="Redis silent to one",
    act=partial(harmed, verb="worker", harm=Proxy.hold, word="held", is_database=False),
    lasts_s=2.5,
    takes=_REDIS,
)
JUNK = Scenario(id="M1", name="junk on streams", act=junk, lasts_s=0.2, takes=_REDIS)
FORGED = Scenario(id="M3", name="forged pointers", act=forged, lasts_s=0.2, takes=_REDIS)
SCENARIOS = (FORGOTTEN, TAIL_LOST, AWAY, FULL, REPLIES_CUT, SILENT, JUNK, FORGED)
