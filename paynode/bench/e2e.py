"""`e2e`: token payments as fast as they are accepted, through every process, and then whether the books agree.

The load comes from this one process, which takes its share of the machine: the figures are a floor.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import aiohttp
import anyio
import orjson
import uuid_utils

from paynode.bench.figures import BenchFailed, machine
from paynode.config import Settings
from paynode.domain.money import FeePlan
from paynode.domain.terms import Terms
from paynode.storage.merchants import create_many
from paynode.storage.postgres import Role, Session, session
from paynode.storage.queries import load

_SQL = load("bench")
_PSP = "sim"


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """How much to pay, by how many merchants and clients; seconds to wait for the last payment to end."""

    payments: int
    merchants: int
    clients: int
    settle_s: float


@dataclass(slots=True)
class _Load:
    """`answered_ms`: how long each client waited for its 201; `refused` counts other answers."""

    run: str = field(default_factory=lambda: str(uuid_utils.uuid7()))
    answered_ms: list[float] = field(default_factory=list)
    refused: int = 0


async def run(settings: Settings, plan: Plan) -> dict[str, object]:
    """Load, wait, compare, and report in the form that every scenario has.

    Raises: BenchFailed.
    """
    paid = _Load()
    async with session(settings, Role.OWNER, application_name="bench") as database:
        names = [f"bench {paid.run} {number}" for number in range(plan.merchants)]
        made = await create_many(database, names, terms=Terms(fees=FeePlan(fixed=10, basis_points=150)), psps=[_PSP])
        ids, keys = [one.id for one in made], [one.api_key or "" for one in made]
        begun = time.perf_counter()
        await _pay(settings, plan, keys, paid)
        accepted_s = time.perf_counter() - begun
        await _settle(database, plan, ids, accepted=len(paid.answered_ms))
        ledgered_s = time.perf_counter() - begun
        latencies = [float(row["ms"]) for row in await database.fetch(_SQL["measure_latencies"], ids)]
        agreement = await _agreement(settings, database, ids)
    return {
        "scenario": "e2e",
        "events": len(latencies),
        "seconds": round(ledgered_s, 3),
        "events_per_s": round(len(latencies) / ledgered_s, 1),
        "accepted_per_s": round(len(paid.answered_ms) / accepted_s, 1),
        "latency_ms": percentiles(latencies),
        "answer_ms": percentiles(paid.answered_ms),
        "refused": paid.refused,
        "agreement": agreement,
        "baselines": {},
        "ratios": {},
        "machine": machine(),
    }


def percentiles(values: Sequence[float]) -> Mapping[str, float]:
    """p50, p99 and p999 of at least two values."""
    cuts = statistics.quantiles(values, n=1000, method="inclusive")
    return {name: round(cuts[cut], 2) for name, cut in (("p50", 499), ("p99", 989), ("p999", 998))}


async def _pay(settings: Settings, plan: Plan, keys: Sequence[str], paid: _Load) -> None:
    numbers = iter(range(plan.payments))
    timeout, connector = aiohttp.ClientTimeout(total=30), aiohttp.TCPConnector(limit=plan.clients)
    async with aiohttp.ClientSession(timeout=timeout, connector=connector) as http, anyio.create_task_group() as group:
        for _ in range(plan.clients):
            group.start_soon(_client, http, settings.http.base_url, keys, numbers, paid)


async def _client(
    http: aiohttp.ClientSession, base_url: str, keys: Sequence[str], numbers: Iterator[int], paid: _Load
) -> None:
    for number in numbers:
        body = {
            "order_id": f"{number}",
            "amount": 1000 + number,
            "currency": "EUR",
            "method": {"type": "token", "token": "tok_approve"},
        }
        headers = {
            "Authorization": f"Bearer {keys[number % len(keys)]}",
            "Idempotency-Key": f"{paid.run}-{number}",
            "Content-Type": "application/json",
        }
        begun = time.perf_counter()
        async with http.post(f"{base_url}/v1/payments", data=orjson.dumps(body), headers=headers) as response:
            await response.read()
            if response.status == 201:
                paid.answered_ms.append((time.perf_counter() - begun) * 1000)
            else:
                paid.refused += 1


async def _settle(database: Session, plan: Plan, merchant_ids: Sequence[str], *, accepted: int) -> None:
    with anyio.move_on_after(plan.settle_s):
        # Polled: what is waited for happens in other processes.
        while await database.fetchval(_SQL["count_captured"], merchant_ids) < accepted:  # noqa: ASYNC110
            await anyio.sleep(0.02)
        return
    raise BenchFailed(f"not every payment was captured within {plan.settle_s:g} s")


async def _agreement(settings: Settings, database: Session, merchant_ids: Sequence[str]) -> dict[str, object]:
    """What each of the books says was taken, in minor units; all must say the same.

    Raises: BenchFailed.
    """
    row = await database.fetchrow(_SQL["sum_books"], merchant_ids)
    assert row is not None
    operations = {one["id"] for one in await database.fetch(_SQL["find_operations"], merchant_ids)}
    async with aiohttp.ClientSession() as http, http.get(settings.psp["sim"].url + "/book") as response:
        lines = [orjson.loads(line) for line in (await response.read()).splitlines()]
    charges = [line for line in lines if line["result"] == "approved" and line["our_reference"] in operations]
    sums = {
        "charge_book": sum(line["amount"] for line in charges),
        "payments": int(row["payments"]),
        "ledger": int(row["ledger"]),
        "wallets_and_fees": int(row["wallets"]) + int(row["fees"]),
    }
    charged_once = len(charges) == len({line["our_reference"] for line in charges})
    if len(set(sums.values())) != 1 or not charged_once:
        raise BenchFailed(f"the books do not agree: {sums}, each operation charged once: {charged_once}")
    return {**sums, "charges": len(charges), "to_the_cent": True}
