"""`live`: one hot merchant's credits at a fixed rate, from when each was due to when it is committed.

Nobody waits for what came before: a credit that is put late, or stands in a queue, has waited since it was due. That it
is committed is seen by looking, about every millisecond, how far the merchant's ledger has come.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from time import perf_counter
from typing import Final

import anyio

from paynode.bench.backlogs import Town, found
from paynode.bench.figures import BenchFailed, Latencies, machine
from paynode.bench.working import workers
from paynode.config import Settings
from paynode.storage.postgres import Role, Session, session
from paynode.storage.queries import load
from paynode.streams.client import Redis, commands_client

_SQL: Final = load("bench")
# Seconds between two pipelines of those that are due, and between two looks.
_TICK_S: Final = 0.002
_LOOK_S: Final = 0.001
# Seconds at the beginning that do not count: plans are made, caches filled.
_WARM_S: Final = 3.0
_LATE_S: Final = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """Events a second, and seconds that count."""

    rate: float
    seconds: float


async def run(settings: Settings, plan: Plan) -> dict[str, object]:
    """Milliseconds from due to committed. Raises: BenchFailed when it does not keep up at all."""
    town, latencies = await found(settings, 1), Latencies()
    total = round(plan.rate * (_WARM_S + plan.seconds))
    async with (
        commands_client(settings) as redis,
        session(settings, Role.READER, application_name="bench") as database,
        workers(settings, 1),
    ):
        await _until_here(database, redis, town)
        begun = perf_counter()
        async with anyio.create_task_group() as group:
            group.start_soon(_publish, redis, town, plan.rate, total, begun)
            seconds = await _watch(database, town, plan, total, begun, latencies)
    return {
        "scenario": "live",
        "events": total,
        "rate": plan.rate,
        "seconds": round(seconds, 3),
        "events_per_s": round(total / seconds, 1),
        "latency_ms": latencies.percentiles,
        "baselines": {},
        "ratios": {},
        "machine": machine(),
    }


async def _until_here(database: Session, redis: Redis, town: Town) -> None:
    """The first credit, for which connections and plans are made."""
    stream, fields = town.entry(town.merchants[0], 0)
    await redis.xadd(stream, dict(fields.items()))
    with anyio.fail_after(_LATE_S):
        while not await _seq(database, town):  # noqa: ASYNC110 - another process does it
            await anyio.sleep(_LOOK_S)


async def _publish(redis: Redis, town: Town, rate: float, total: int, begun: float) -> None:
    put = 0
    while put < total:
        due = min(math.floor((perf_counter() - begun) * rate), total)
        if due > put:
            async with redis.pipeline(transaction=False) as pipeline:
                for number in range(put, due):
                    stream, fields = town.entry(town.merchants[0], number)
                    pipeline.xadd(stream, dict(fields.items()))
                await pipeline.execute()
            put = due
        await anyio.sleep(_TICK_S)


async def _watch(database: Session, town: Town, plan: Plan, total: int, begun: float, latencies: Latencies) -> float:
    done, warm = 0, round(plan.rate * _WARM_S)
    while done < total:
        now, seq = perf_counter(), await _seq(database, town) - 1
        latencies.add(now - begun - number / plan.rate for number in range(max(done, warm), seq))
        done = seq
        if now - begun > total / plan.rate + _LATE_S:
            raise BenchFailed(f"only {done} of {total} events were committed: the rate is too high")
        await anyio.sleep(_LOOK_S)
    return perf_counter() - begun


async def _seq(database: Session, town: Town) -> int:
    return int(await database.fetchval(_SQL["read_seq"], town.merchants[0]) or 0)
