"""`ingress`: checkouts a second, and how long they take, against a transaction for every request and against nothing.

Nothing runs beside but the servers: no worker, no gateway. Of the rounds each server has its turn in each. With one
connection and with many, as fast as they are answered; then at fixed rates, where each counts from when it was due.
"""

from __future__ import annotations

import asyncio
import math
import os
import subprocess
import sys
from collections import Counter
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from itertools import count
from time import perf_counter
from typing import Final

import anyio
import orjson
import uuid_utils

from paynode.bench.contest import Progress
from paynode.bench.figures import BenchFailed, Latencies, machine, middle
from paynode.bench.rivals import http as rivals
from paynode.bench.rivals.shop import open_shop
from paynode.bench.wires import Wires
from paynode.bench.working import free_port, stop
from paynode.config import Settings
from paynode.domain.money import FeePlan
from paynode.domain.terms import Terms
from paynode.storage.merchants import create_many
from paynode.storage.postgres import Role, session

_READY_S: Final = 30.0
_TICK_S: Final = 0.002
# Connections at a fixed rate: more requests than these at once wait, and have waited since they were due.
_WIRES: Final = 256
_FINE: Final = (200, 201)


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """Rounds, seconds of each measurement, connections, ingress processes, and rates of checkouts a second."""

    rounds: int
    seconds: float
    connections: int
    processes: int
    rates: Sequence[float]


@dataclass(slots=True)
class _Taken:
    rates: list[float] = field(default_factory=list)
    latencies: Latencies = field(default_factory=Latencies)


@dataclass(frozen=True, slots=True)
class _Till:
    """Makes requests, each of them another one."""

    wires: Wires
    api_key: str
    run: str = field(default_factory=lambda: uuid_utils.uuid7().hex)
    numbers: Iterator[int] = field(default_factory=count)
    wrong: Counter[int] = field(default_factory=Counter)

    async def check_out(self) -> None:
        """One more; what is not answered as it should be is counted by its status."""
        name = f"{self.run}-{next(self.numbers)}"
        body = {
            "order_id": name,
            "amount": 1000,
            "currency": "EUR",
            "method": {"type": "token", "token": "tok_approve"},
        }
        headers = {"Authorization": f"Bearer {self.api_key}", "Idempotency-Key": name}
        status = await self.wires.ask(self.wires.post("/v1/payments", orjson.dumps(body), headers))
        if status not in _FINE:
            self.wrong[status] += 1


async def run(settings: Settings, plan: Plan, progress: Progress) -> dict[str, object]:
    """Measure the three in turns, then the ingress at each rate.

    Raises: BenchFailed when something else than 201 (or 200 of the one that does nothing) was answered.
    """
    taken: dict[tuple[str, int], _Taken] = {}
    points = []
    async with AsyncExitStack() as stack:
        tills = await _open(settings, plan, stack)
        for number in range(plan.rounds):
            for name, till in tills.items():
                for connections in (1, plan.connections):
                    progress.doing(f"round {number + 1} of {plan.rounds}: {name}, {connections} connections")
                    rate = await _closed(
                        till, connections, plan.seconds, taken.setdefault((name, connections), _Taken()).latencies
                    )
                    taken[name, connections].rates.append(rate)
        for rate in plan.rates:
            progress.doing(f"{rate:g} checkouts a second")
            points.append(await _open_loop(tills["paynode"], rate, plan.seconds * 2))
        for name, till in tills.items():
            till.wires.close()
            if till.wrong:
                raise BenchFailed(f"{name} answered {dict(till.wrong)}, by status")
    return _report(plan, taken, points)


def _report(plan: Plan, taken: dict[tuple[str, int], _Taken], points: list[dict[str, float]]) -> dict[str, object]:
    rates = {key: middle(one.rates) for key, one in taken.items()}
    latencies = {key: one.latencies.percentiles for key, one in taken.items()}
    many, own = plan.connections, rates["paynode", plan.connections]
    return {
        "scenario": "ingress",
        "events": round(sum(taken["paynode", many].rates) * plan.seconds),
        "processes": plan.processes,
        "connections": many,
        "rounds": plan.rounds,
        "seconds": plan.seconds,
        "events_per_s": round(own, 1),
        "latency_ms": latencies["paynode", many],
        "one_connection_ms": latencies["paynode", 1],
        "baselines": {
            f"{name}_{wires}": {"events_per_s": round(rates[name, wires], 1), "latency_ms": latencies[name, wires]}
            for name, wires in taken
            if (name, wires) != ("paynode", many)
        },
        "ratios": {
            "transaction_per_request": round(own / rates["transaction", many], 3),
            "transaction_per_request_p99": _ratio(latencies, many, "p99", "transaction"),
            "transaction_per_request_1_p50": _ratio(latencies, 1, "p50", "transaction"),
            "noop": round(own / rates["noop", many], 3),
        },
        "points": points,
        "machine": machine(),
    }


def _ratio(latencies: dict[tuple[str, int], dict[str, float]], count: int, percentile: str, rival: str) -> float:
    return round(latencies["paynode", count][percentile] / latencies[rival, count][percentile], 3)


async def _open(settings: Settings, plan: Plan, stack: AsyncExitStack) -> dict[str, _Till]:
    shop = await stack.enter_async_context(open_shop(settings.database.url))
    async with session(settings, Role.OWNER, application_name="bench") as owner:
        terms = Terms(fees=FeePlan(fixed=0, basis_points=0))
        [merchant] = await create_many(owner, [f"bench {uuid_utils.uuid7()}"], terms=terms, psps=["sim"])
        api_key = merchant.api_key or ""
        await owner.execute(rivals.SCHEMA)
        await owner.execute(
            "INSERT INTO rivals.api_keys VALUES (sha256(convert_to($1, 'UTF8')), $2)", api_key, shop.merchants[0]
        )
    urls = {"paynode": await stack.enter_async_context(_ingress(settings, plan.processes))}
    for name in ("transaction", "noop"):
        urls[name] = await stack.enter_async_context(_rival(name, settings.database.url))
    return {name: _Till(Wires(url), api_key) for name, url in urls.items()}


@asynccontextmanager
async def _ingress(settings: Settings, processes: int) -> AsyncIterator[str]:
    port = free_port()
    environment = {
        **os.environ,
        "PAYNODE_DATABASE__URL": settings.database.url,
        "PAYNODE_REDIS__URL": settings.redis.url,
        "PAYNODE_DATA_DIR": str(settings.data_dir),
        "PAYNODE_HTTP__PORT": str(port),
        "PAYNODE_ADMIN__PORT": str(free_port()),
        # It is measured what it can do, not what it lets one merchant do.
        "PAYNODE_OVERLOAD__CHECKOUTS_MAX": "10000000",
        "PAYNODE_OVERLOAD__TARGET_MS": "60000",
    }
    command = [sys.executable, "-m", "paynode", "serve", *(("--processes", str(processes)) if processes > 1 else ())]
    async with _process(command, environment, port):
        yield f"http://127.0.0.1:{port}"


@asynccontextmanager
async def _rival(name: str, url: str) -> AsyncIterator[str]:
    port = free_port()
    command = [sys.executable, "-m", "paynode.bench.rivals.http", name, str(port), url]
    async with _process(command, dict(os.environ), port):
        yield f"http://127.0.0.1:{port}"


@asynccontextmanager
async def _process(command: list[str], environment: dict[str, str], port: int) -> AsyncIterator[None]:
    process = await anyio.open_process(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        with anyio.fail_after(_READY_S):
            while not await _is_up(port):  # noqa: ASYNC110 - another process does it
                await anyio.sleep(_TICK_S)
        yield
    finally:
        with anyio.CancelScope(shield=True):
            await stop(process)


async def _is_up(port: int) -> bool:
    try:
        stream = await anyio.connect_tcp("127.0.0.1", port)
    except OSError:
        return False
    await stream.aclose()
    return True


async def _closed(till: _Till, connections: int, seconds: float, latencies: Latencies) -> float:
    """Answers a second, each connection asking again as soon as it is answered."""
    waited: list[float] = []
    begun = perf_counter()

    async def client() -> None:
        while perf_counter() - begun < seconds:
            asked = perf_counter()
            await till.check_out()
            waited.append(perf_counter() - asked)

    async with anyio.create_task_group() as group:
        for _ in range(connections):
            group.start_soon(client)
    latencies.add(waited)
    return len(waited) / (perf_counter() - begun)


async def _open_loop(till: _Till, rate: float, seconds: float) -> dict[str, float]:
    """Percentiles of what was due at a fixed rate, whenever it was sent and answered."""
    latencies, total = Latencies(), round(rate * seconds)
    free, begun, sent = asyncio.Semaphore(_WIRES), perf_counter(), 0

    async def one(due: float) -> None:
        async with free:
            await till.check_out()
        latencies.add([perf_counter() - due])

    async with anyio.create_task_group() as group:
        while sent < total:
            for number in range(sent, min(math.floor((perf_counter() - begun) * rate), total)):
                group.start_soon(one, begun + number / rate)
                sent = number + 1
            await anyio.sleep(_TICK_S)
    return {"rate": rate, "achieved": round(total / (perf_counter() - begun), 1), **latencies.percentiles}
