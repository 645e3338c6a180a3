"""`overload`: what the ingress still does when several times as much is asked of it as it can do.

First how much it can do: so many clients, each as fast as it is answered. Then a steady rate below that, for what an
answer takes in good times. Then a multiple of it, whatever becomes of the answers, with callbacks of a PSP beside it.
The load comes from this one process, which shares the machine: what was really offered is in the report.
"""

from __future__ import annotations

import hashlib
import hmac
import platform
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Final

import aiohttp
import anyio
import orjson
import uuid_utils

from paynode.bench.e2e import BenchFailed, percentiles
from paynode.config import Settings, SimAccount
from paynode.domain.money import FeePlan
from paynode.storage.merchants import create_many
from paynode.storage.postgres import Role, session

_PSP: Final = "sim"
# Requests of the flood that may be unanswered at once: beyond it the client does not offer them at all.
_UNANSWERED_MAX: Final = 900
# Seconds that a refused client of the first part waits before it asks again.
_PAUSE_S: Final = 0.1
# Callbacks a second beside the flood, and the share of what can be done that is called good times.
_CALLBACKS_PER_S: Final = 20.0
_STEADY: Final = 0.5


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """How many times what can be done, for how many seconds, by how many merchants; clients of the first part."""

    times: float
    seconds: float
    merchants: int
    clients: int


@dataclass(slots=True)
class _Heard:
    """Milliseconds of accepted answers, and how many there were of each status."""

    accepted_ms: list[float] = field(default_factory=list)
    statuses: Counter[str] = field(default_factory=Counter)
    seconds: float = 0.0

    def report(self) -> dict[str, object]:
        latency = percentiles(self.accepted_ms) if len(self.accepted_ms) > 1 else {}
        offered = self.statuses.total() / self.seconds
        return {
            "offered_per_s": round(offered, 1),
            "accepted_per_s": round(len(self.accepted_ms) / self.seconds, 1),
            "latency_ms": latency,
            "statuses": dict(sorted(self.statuses.items())),
        }


Ask = Callable[[_Heard, int], Awaitable[None]]


async def run(settings: Settings, plan: Plan) -> dict[str, object]:
    """Measure the three parts and report them.

    Raises: BenchFailed.
    """
    run_id = str(uuid_utils.uuid7())
    async with session(settings, Role.OWNER, application_name="bench") as database:
        names = [f"bench {run_id} {number}" for number in range(plan.merchants)]
        made = await create_many(database, names, fees=FeePlan(fixed=10, basis_points=150), psps=[_PSP])
    keys = [one.api_key or "" for one in made]
    timeout, connector = aiohttp.ClientTimeout(total=30), aiohttp.TCPConnector(limit=_UNANSWERED_MAX + 50)
    async with aiohttp.ClientSession(timeout=timeout, connector=connector) as http:

        def pay_of(part: str) -> Ask:
            async def pay(heard: _Heard, number: int) -> None:
                await _pay(http, settings, keys, f"{run_id}-{part}-{number}", number, heard)

            return pay

        able = await _closed(pay_of("able"), seconds=min(plan.seconds, 5.0), clients=plan.clients)
        per_s = len(able.accepted_ms) / able.seconds
        if per_s < 1:
            raise BenchFailed(f"nothing is accepted: {dict(able.statuses)}")
        good = await _open(pay_of("good"), seconds=min(plan.seconds, 10.0), per_s=per_s * _STEADY)
        callbacks = _Heard()

        async def call_back(heard: _Heard, number: int) -> None:
            await _call_back(http, settings, f"{run_id}-{number}", heard)

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(_into, callbacks, call_back, plan.seconds, _CALLBACKS_PER_S)
            flood = await _open(pay_of("flood"), seconds=plan.seconds, per_s=per_s * plan.times)
    return {
        "scenario": "overload",
        "able_per_s": round(per_s, 1),
        "good_times": good.report(),
        "flood": flood.report(),
        "callbacks": callbacks.report(),
        "machine": f"{platform.machine()} {platform.system()} python {platform.python_version()}",
    }


async def _closed(ask: Ask, *, seconds: float, clients: int) -> _Heard:
    """Each client as fast as it is answered."""
    heard, begun, numbers = _Heard(), time.perf_counter(), iter(range(10**9))

    async def client() -> None:
        while time.perf_counter() - begun < seconds:
            before = len(heard.accepted_ms)
            await ask(heard, next(numbers))
            if len(heard.accepted_ms) == before:  # (unless another was accepted meanwhile, which will do)
                await anyio.sleep(_PAUSE_S)

    async with anyio.create_task_group() as tasks:
        for _ in range(clients):
            tasks.start_soon(client)
    heard.seconds = time.perf_counter() - begun
    return heard


async def _open(ask: Ask, *, seconds: float, per_s: float) -> _Heard:
    """A steady rate, whatever becomes of the answers."""
    heard = _Heard()
    await _into(heard, ask, seconds, per_s)
    return heard


async def _into(heard: _Heard, ask: Ask, seconds: float, per_s: float) -> None:
    begun, number, under_way = time.perf_counter(), 0, 0

    async def one(number: int) -> None:
        nonlocal under_way
        under_way += 1
        try:
            await ask(heard, number)
        finally:
            under_way -= 1

    async with anyio.create_task_group() as tasks:
        while (passed := time.perf_counter() - begun) < seconds:
            while number < passed * per_s:
                number += 1
                if under_way < _UNANSWERED_MAX:
                    tasks.start_soon(one, number)
            await anyio.sleep(0.002)
        heard.seconds = time.perf_counter() - begun


async def _pay(
    http: aiohttp.ClientSession, settings: Settings, keys: Sequence[str], key: str, number: int, heard: _Heard
) -> None:
    body = {
        "order_id": f"{number}-{key[-12:]}",
        "amount": 1000,
        "currency": "EUR",
        "method": {"type": "token", "token": "tok_approve"},
    }
    headers = {
        "Authorization": f"Bearer {keys[number % len(keys)]}",
        "Idempotency-Key": key,
        "Content-Type": "application/json",
    }
    await _post(http, f"{settings.http.base_url}/v1/payments", orjson.dumps(body), headers, heard)


async def _call_back(http: aiohttp.ClientSession, settings: Settings, event_id: str, heard: _Heard) -> None:
    """About an operation that nobody knows: verified, looked up and stored like any other."""
    account = settings.psp[_PSP]
    if not isinstance(account, SimAccount):
        raise BenchFailed(f"the account {_PSP} is not the simulator's: nobody can sign its callbacks")
    told = {
        "id": f"ch_{event_id}",
        "object": "charge",
        "reference": str(uuid_utils.uuid7()),
        "status": "approved",
        "amount": 1000,
        "currency": "EUR",
        "decline_code": None,
        "created_ms": 1,
    }
    raw = orjson.dumps({"id": f"evt_{event_id}", "type": "charge.approved", "created_ms": 1, "data": told})
    at = str(int(time.time()))
    digest = hmac.new(account.webhook_secret.encode(), at.encode() + b"." + raw, hashlib.sha256).hexdigest()
    headers = {"Content-Type": "application/json", "Sim-Signature": f"t={at},v1={digest}"}
    await _post(http, f"{settings.http.base_url}/v1/psp/{_PSP}/webhook", raw, headers, heard)


async def _post(http: aiohttp.ClientSession, url: str, data: bytes, headers: dict[str, str], heard: _Heard) -> None:
    begun = time.perf_counter()
    try:
        async with http.post(url, data=data, headers=headers) as response:
            await response.read()
            status = response.status
    except (aiohttp.ClientError, TimeoutError) as error:
        heard.statuses[type(error).__name__] += 1
        return
    heard.statuses[str(status)] += 1
    if status < 300:
        heard.accepted_ms.append((time.perf_counter() - begun) * 1000)
