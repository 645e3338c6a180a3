"""`memory`: what a worker's memory grows by with each merchant that it has heard of and that has nothing to do.

Each merchant has one event. They come in steps, none larger than the one by which the worker was warmed up: what a step
needs while it is under way, it has already, and what it keeps is what it knows.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from time import perf_counter
from typing import Final

import anyio

from paynode.bench.backlogs import Town, found
from paynode.bench.contest import Progress
from paynode.bench.figures import BenchFailed, machine
from paynode.bench.working import count_applied, memory_mb, workers
from paynode.config import Settings
from paynode.storage.postgres import Role, Session, session
from paynode.streams.client import Redis, commands_client

# Merchants of the warm-up, and how often each comes in it.
_WARM: Final = 200
_WARM_EVENTS: Final = 100
# Merchants of one step, and entries of one pipeline.
_STEP: Final = _WARM * _WARM_EVENTS
_PAGE: Final = 1000
# Seconds between two looks, without progress before it is given up, and in which a worker puts away what it used.
_LOOK_S: Final = 0.1
_STUCK_S: Final = 60.0
_SETTLE_S: Final = 2.0
_MEGABYTE: Final = 1024 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """Merchants to be heard of."""

    merchants: int


@dataclass(frozen=True, slots=True, kw_only=True)
class _Worker:
    """The worker that is measured, the streams that it reads and the tables that it writes."""

    pid: int
    redis: Redis
    database: Session

    async def hear(
        self, town: Town, merchants: Sequence[str], tell: Callable[[int], None], *, times: int = 1
    ) -> float:
        """Of each of these so many events, through; megabytes of the worker afterwards.

        Raises: BenchFailed.
        """
        for _ in range(times):
            await _publish(self.redis, town, merchants)
        await _until(self.database, merchants, times * len(merchants), tell)
        await anyio.sleep(_SETTLE_S)
        return memory_mb(self.pid, "RssAnon")


async def run(settings: Settings, plan: Plan, progress: Progress) -> dict[str, object]:
    """Bytes for each known idle merchant, and megabytes of the worker on the way there.

    Raises: BenchFailed when the worker does not get on.
    """
    progress.doing("making merchants")
    warm, town = await found(settings, _WARM), await found(settings, plan.merchants)
    async with (
        commands_client(settings) as redis,
        session(settings, Role.OWNER, application_name="bench") as database,
        workers(settings, 1) as [process],
    ):
        worker = _Worker(pid=process.pid, redis=redis, database=database)
        progress.doing("warming up")
        before = await worker.hear(warm, warm.merchants, _teller(progress, 0, _STEP), times=_WARM_EVENTS)
        begun, known = perf_counter(), [(0, before)]
        progress.doing("hearing of merchants")
        for first in range(0, plan.merchants, _STEP):
            step = town.merchants[first : first + _STEP]
            after = await worker.hear(town, step, _teller(progress, first, plan.merchants))
            known.append((first + len(step), after))
        seconds = perf_counter() - begun
    return _report(plan, known, seconds)


def _teller(progress: Progress, before: int, of: int) -> Callable[[int], None]:
    return lambda count: progress.done(before + count, of)


async def _publish(redis: Redis, town: Town, merchants: Sequence[str]) -> None:
    for first in range(0, len(merchants), _PAGE):
        async with redis.pipeline(transaction=False) as pipeline:
            for number, merchant_id in enumerate(merchants[first : first + _PAGE], start=first):
                stream, fields = town.entry(merchant_id, number)
                pipeline.xadd(stream, dict(fields.items()))
            await pipeline.execute()


async def _until(database: Session, merchants: Sequence[str], events: int, tell: Callable[[int], None]) -> None:
    count, moved_at = 0, perf_counter()
    while count < events:
        await anyio.sleep(_LOOK_S)
        before, count = count, await count_applied(database, merchants)
        tell(count)
        if count > before:
            moved_at = perf_counter()
        elif perf_counter() - moved_at > _STUCK_S:
            raise BenchFailed(f"nothing moves any more: {count} of {events} events")


def _report(plan: Plan, known: Sequence[tuple[int, float]], seconds: float) -> dict[str, object]:
    (_, before), (_, after) = known[0], known[-1]
    return {
        "scenario": "memory",
        "events": plan.merchants,
        "merchants": plan.merchants,
        "seconds": round(seconds, 3),
        "idle_mb": round(before, 1),
        "footprints": [{"merchants": merchants, "mb": round(mb, 1)} for merchants, mb in known],
        "bytes_per_idle_merchant": round((after - before) * _MEGABYTE / plan.merchants, 1),
        "baselines": {},
        "ratios": {},
        "machine": machine(),
    }
