"""`fair`: what the neighbours of a hot merchant wait, while it has a long backlog, and while it has none.

Neighbours are merchants of the same partition, so that they share its owner, its reader and its committer. Measured is
what a publisher of a wallet credit sees: from publishing it to hearing that it is applied, which is after the commit.
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import anyio
import uuid_utils

from paynode.bench.backlogs import Town, heap_up
from paynode.bench.e2e import percentiles
from paynode.bench.figures import BenchFailed, machine
from paynode.client.credentials import text_of
from paynode.client.publisher import Publisher
from paynode.config import Settings, with_development
from paynode.domain.ids import MERCHANT, public
from paynode.domain.money import FeePlan
from paynode.domain.partition import partition_of
from paynode.domain.publishing import OutsideType
from paynode.domain.terms import Terms
from paynode.storage import publishers
from paynode.storage.merchants import create_many
from paynode.storage.postgres import Role, Session, session
from paynode.storage.queries import load
from paynode.streams.client import commands_client

_SQL = load("bench")
# Entries of one pipeline.
_PAGE = 1000
_APPLIED_WITHIN_S = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """Events of the hot merchant; neighbours, their events a second together, and seconds of each measurement."""

    backlog: int
    neighbours: int
    rate: float
    seconds: float


@dataclass(frozen=True, slots=True)
class Street:
    """A hot merchant (UUID) and its neighbours (TypeIDs), with the publisher that moves their money."""

    hot: str
    neighbours: Sequence[str]
    publisher: str
    secret: bytes

    def town(self, settings: Settings) -> Town:
        """The hot one alone."""
        partitions = settings.streams.partitions
        return Town(merchants=[self.hot], publisher=self.publisher, secret=self.secret, partitions=partitions)


async def run(settings: Settings, plan: Plan) -> dict[str, object]:
    """Measure the neighbours alone, then beside the backlog, and report in the form that every scenario has.

    Raises: BenchFailed when the backlog was gone before the measurement was over.
    """
    settings = with_development(settings)
    async with session(settings, Role.OWNER, application_name="bench") as database:
        street = await _move_in(settings, database, plan)
        quiet = await _measure(settings, street, plan)
        async with commands_client(settings) as redis:
            await heap_up(redis, street.town(settings), plan.backlog)
        begun, before = time.perf_counter(), await count_applied(database, street.hot)
        beside = await _measure(settings, street, plan)
        seconds, applied = time.perf_counter() - begun, await count_applied(database, street.hot) - before
        if await count_applied(database, street.hot) >= plan.backlog:
            raise BenchFailed("the backlog was gone before the measurement was over: give it more")
    alone, crowded = percentiles(quiet), percentiles(beside)
    return {
        "scenario": "fair",
        "events": len(beside),
        "seconds": round(seconds, 3),
        "events_per_s": round(applied / seconds, 1),
        "latency_ms": crowded,
        "quiet_ms": alone,
        "baselines": {},
        "ratios": {"p99_vs_quiet": round(crowded["p99"] / alone["p99"], 2)},
        "machine": machine(),
    }


async def _move_in(settings: Settings, database: Session, plan: Plan) -> Street:
    """Merchants enough that one partition has the hot one and all its neighbours."""
    run_id, partitions = str(uuid_utils.uuid7()), settings.streams.partitions
    names = [f"fair {run_id} {number}" for number in range(2 * partitions * (plan.neighbours + 1))]
    made = await create_many(database, names, terms=Terms(fees=FeePlan(fixed=0, basis_points=0)), psps=["sim"])
    streets = defaultdict[int, list[str]](list)
    for one in made:
        streets[partition_of(public(MERCHANT, one.id), partitions)].append(one.id)
    hot, *others = max(streets.values(), key=len)
    name = f"bench-{run_id}"
    publisher = await publishers.create(database, name, types=[OutsideType.WALLET_CREDIT], actor="bench")
    return Street(hot, [public(MERCHANT, one) for one in others[: plan.neighbours]], name, publisher.secret)


async def _measure(settings: Settings, street: Street, plan: Plan) -> list[float]:
    """Milliseconds of each credit, asked for at a fixed rate whether or not the ones before are answered."""
    waited: list[float] = []
    async with Publisher(settings.redis.url, name=street.publisher, secret=text_of(street.secret)) as publisher:

        async def one(number: int) -> None:
            begun = time.perf_counter()
            await publisher.credit(
                merchant_id=street.neighbours[number % len(street.neighbours)],
                amount=1,
                currency="EUR",
                reason="bench",
                reference=str(number),
                timeout=_APPLIED_WITHIN_S,
            )
            waited.append((time.perf_counter() - begun) * 1000)

        await one(0)  # connections and caches are made before the clock runs
        waited.clear()
        async with anyio.create_task_group() as group:
            begun = time.perf_counter()
            for number in range(round(plan.rate * plan.seconds)):
                await anyio.sleep(max(0.0, begun + number / plan.rate - time.perf_counter()))
                group.start_soon(one, number)
    return waited


async def count_applied(database: Session, merchant_id: str) -> int:
    return int(await database.fetchval(_SQL["read_seq"], merchant_id) or 0)
