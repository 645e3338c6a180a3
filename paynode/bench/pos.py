"""`pos`: how long a till waits, while there is nothing else to do, and beside a long backlog.

The backlog stands on both sides of it: checkouts that wait for a slow PSP, and evidence that waits for the owner of the
till's own partition (wallet credits, which take the same way). Measured is what a till sees, from asking to the answer;
the simulator answers it at once, so that all of it but a few milliseconds is paynode's.
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import aiohttp
import anyio
import orjson
import uuid_utils

from paynode.bench.backlogs import heap_up
from paynode.bench.e2e import percentiles
from paynode.bench.fair import Street, count_applied
from paynode.bench.figures import BenchFailed, machine
from paynode.config import Settings, with_development
from paynode.domain.ids import MERCHANT, public
from paynode.domain.money import FeePlan
from paynode.domain.partition import partition_of
from paynode.domain.publishing import OutsideType
from paynode.domain.terms import Terms
from paynode.storage import publishers
from paynode.storage.merchants import Created, create_many
from paynode.storage.postgres import Role, Session, session
from paynode.storage.queries import load
from paynode.streams.client import commands_client

_SQL = load("bench")
# Requests at once while the checkouts are heaped up.
_CLIENTS = 64
# Milliseconds that a checkout takes at the PSP, so that they wait: from the first to the sum of both. With one time for
# all of them those that are under way would come back in one instant, for ever, which no PSP's calls do.
_CHECKOUT_MS, _SPREAD_MS = 4000, 2000
_WAIT_S = 30


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """Checkouts and events that wait; the till's payments a second, and seconds of each measurement."""

    checkouts: int
    evidence: int
    rate: float
    seconds: float


@dataclass(slots=True)
class _Till:
    """A merchant's key; what its customers have waited in milliseconds, and other answers than 201."""

    api_key: str
    run: str = field(default_factory=lambda: str(uuid_utils.uuid7()))
    waited: list[float] = field(default_factory=list)
    refused: int = 0


async def run(settings: Settings, plan: Plan) -> dict[str, object]:
    """Measure the till alone, then beside the backlog, and report in the form that every scenario has.

    Raises: BenchFailed when the backlog was gone before the measurement was over.
    """
    settings = with_development(settings)
    async with session(settings, Role.OWNER, application_name="bench") as database:
        street, key, shops = await _move_in(settings, database)
        quiet = await _measure(settings, _Till(key), plan)
        await _check_out(settings, shops, plan.checkouts)
        if plan.evidence:
            async with commands_client(settings) as redis:
                await heap_up(redis, street.town(settings), plan.evidence)
        begun = time.perf_counter()
        beside = await _measure(settings, _Till(key), plan)
        seconds = time.perf_counter() - begun
        left = await database.fetchval(_SQL["count_open"], [shop.id for shop in shops])
        unapplied = plan.evidence - await count_applied(database, street.hot)
    if (plan.checkouts and not left) or (plan.evidence and unapplied <= 0):
        raise BenchFailed("the backlog was gone before the measurement was over: give it more")
    alone, crowded = percentiles(quiet.waited), percentiles(beside.waited)
    return {
        "scenario": "pos",
        "events": len(beside.waited),
        "seconds": round(seconds, 3),
        "events_per_s": round(len(beside.waited) / seconds, 1),
        "latency_ms": crowded,
        "quiet_ms": alone,
        "refused": quiet.refused + beside.refused,
        "left": {"checkouts": left, "evidence": unapplied},
        "baselines": {},
        "ratios": {"p99_vs_quiet": round(crowded["p99"] / alone["p99"], 2)},
        "machine": machine(),
    }


async def _move_in(settings: Settings, database: Session) -> tuple[Street, str, Sequence[Created]]:
    """A till, a busy merchant of the same partition, and shops all over."""
    run_id, partitions = str(uuid_utils.uuid7()), settings.streams.partitions
    names = [f"pos {run_id} {number}" for number in range(4 * partitions)]
    made = await create_many(database, names, terms=Terms(fees=FeePlan(fixed=0, basis_points=0)), psps=["sim"])
    streets = defaultdict[int, list[Created]](list)
    for one in made:
        streets[partition_of(public(MERCHANT, one.id), partitions)].append(one)
    busy, till, *_ = max(streets.values(), key=len)
    name = f"bench-{run_id}"
    publisher = await publishers.create(database, name, types=[OutsideType.WALLET_CREDIT], actor="bench")
    shops = [one for one in made if one not in (busy, till)]
    return Street(busy.id, [public(MERCHANT, till.id)], name, publisher.secret), till.api_key or "", shops


async def _measure(settings: Settings, till: _Till, plan: Plan) -> _Till:
    """Payments at a fixed rate, whether or not the ones before are answered."""
    timeout = aiohttp.ClientTimeout(total=2 * _WAIT_S)
    async with aiohttp.ClientSession(timeout=timeout, connector=aiohttp.TCPConnector(limit=0)) as http:
        # Connections and caches are made before the clock runs.
        await _pay(settings, http, till, -1, time.perf_counter())
        till.waited.clear()
        async with anyio.create_task_group() as group:
            begun = time.perf_counter()
            for number in range(round(plan.rate * plan.seconds)):
                due = begun + number / plan.rate
                await anyio.sleep(max(0.0, due - time.perf_counter()))
                group.start_soon(_pay, settings, http, till, number, due)
    return till


async def _pay(settings: Settings, http: aiohttp.ClientSession, till: _Till, number: int, due: float) -> None:
    """Pay, and note what was waited since it was due: a till that comes late because we are busy has waited as well."""
    status = await _post(
        settings, http, till.api_key, f"{till.run}-{number}", f"wait={_WAIT_S}", "tok_approve", on_timeout="reverse"
    )
    if status == 201:
        till.waited.append((time.perf_counter() - due) * 1000)
    else:
        till.refused += 1


async def _check_out(settings: Settings, shops: Sequence[Created], count: int) -> None:
    """Checkouts that nobody waits for: accepted as fast as they are, and slow at the PSP."""
    run_id, numbers = str(uuid_utils.uuid7()), iter(range(count))

    async def client(http: aiohttp.ClientSession, numbers: Iterator[int]) -> None:
        for number in numbers:
            key, slow_ms = shops[number % len(shops)].api_key or "", _CHECKOUT_MS + 7919 * number % _SPREAD_MS
            name = f"tok_slow_{slow_ms}"
            status = await _post(settings, http, key, f"{run_id}-{number}", "respond-async", name)
            if status != 202:
                raise BenchFailed(f"a checkout was answered {status}")

    connector = aiohttp.TCPConnector(limit=_CLIENTS)
    async with aiohttp.ClientSession(connector=connector) as http, anyio.create_task_group() as group:
        for _ in range(_CLIENTS):
            group.start_soon(client, http, numbers)


async def _post(
    settings: Settings, http: aiohttp.ClientSession, api_key: str, key: str, prefer: str, token: str, **body: str
) -> int:
    content = {"order_id": key[-60:], "amount": 1000, "currency": "EUR", "method": {"type": "token", "token": token}}
    headers = {
        "Authorization": f"Bearer {api_key}",
        "Idempotency-Key": key,
        "Prefer": prefer,
        "Content-Type": "application/json",
    }
    data = orjson.dumps(content | body)
    async with http.post(f"{settings.http.base_url}/v1/payments", data=data, headers=headers) as response:
        await response.read()
        return response.status
