"""`memory`: what a worker's memory grows by with each merchant that it has heard of and that has nothing to do.

Each merchant has one event. They come a thousand at a time, as those did by which the worker was warmed up: what it
needs while so many are under way, it has already, and what it keeps is what it knows.
"""

from __future__ import annotations

from collections.abc import Sequence
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

# Merchants that come at once; how often as many come at first, always the same; after how many more it is measured.
_PAGE: Final = 1000
_WARM: Final = 20
_STEP: Final = 20_000
# Seconds between two looks, without progress before it is given up, and in which a worker puts away what it used.
_LOOK_S: Final = 0.02
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

    async def hear(self, town: Town, merchants: Sequence[str], *, times: int = 1) -> None:
        """One event of each of them, so many times; returns when they are through.

        Raises: BenchFailed.
        """
        for time in range(times):
            async with self.redis.pipeline(transaction=False) as pipeline:
                for number, merchant_id in enumerate(merchants):
                    stream, fields = town.entry(merchant_id, number)
                    pipeline.xadd(stream, dict(fields.items()))
                await pipeline.execute()
            await _until(self.database, merchants, (time + 1) * len(merchants))

    async def measure_mb(self) -> float:
        """What it has of its own, after a moment in which it puts away what it used."""
        await anyio.sleep(_SETTLE_S)
        return memory_mb(self.pid, "RssAnon")


async def run(settings: Settings, plan: Plan, progress: Progress) -> dict[str, object]:
    """Bytes for each known idle merchant, and megabytes of the worker on the way there.

    Raises: BenchFailed when the worker does not get on.
    """
    progress.doing("making merchants")
    warm, town = await found(settings, _PAGE), await found(settings, plan.merchants)
    async with (
        commands_client(settings) as redis,
        session(settings, Role.OWNER, application_name="bench") as database,
        workers(settings, 1) as [process],
    ):
        worker = _Worker(pid=process.pid, redis=redis, database=database)
        progress.doing("warming up")
        await worker.hear(warm, warm.merchants, times=_WARM)
        begun, known = perf_counter(), [(0, await worker.measure_mb())]
        progress.doing("hearing of merchants")
        for first in range(0, plan.merchants, _PAGE):
            await worker.hear(town, town.merchants[first : first + _PAGE])
            heard = min(first + _PAGE, plan.merchants)
            progress.done(heard, plan.merchants)
            if heard % _STEP == 0 or heard == plan.merchants:
                known.append((heard, await worker.measure_mb()))
        seconds = perf_counter() - begun
    return _report(plan, known, seconds)


async def _until(database: Session, merchants: Sequence[str], events: int) -> None:
    count, moved_at = 0, perf_counter()
    while count < events:
        await anyio.sleep(_LOOK_S)
        before, count = count, await count_applied(database, merchants)
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
