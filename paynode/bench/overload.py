"""`overload`: what the ingress still does when several times as much is asked of it as it can do.

First how much it can do: so many clients, each as fast as it is answered. Then a steady rate below that, for what an
answer takes in good times. Then a multiple of it, whatever becomes of the answers, with callbacks of a PSP beside it.
The load comes from this one process, which shares the machine: what was really offered is in the report, and how late.
"""

from __future__ import annotations

import hashlib
import hmac
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from typing import Final

import anyio
import orjson
import uuid_utils

from paynode.bench.e2e import percentiles
from paynode.bench.figures import BenchFailed, machine
from paynode.bench.wires import Wires
from paynode.config import Settings
from paynode.domain.money import FeePlan
from paynode.domain.terms import Terms
from paynode.sections import SimAccount
from paynode.storage.merchants import create_many
from paynode.storage.postgres import Role, session

_PSP: Final = "sim"
# Requests of the flood that may be unanswered at once: one address may have a thousand connections. Beyond it they are
# counted, and not offered.
_UNANSWERED_MAX: Final = 900
# Seconds that a refused client of the first part waits before it asks again.
_PAUSE_S: Final = 0.1
# Callbacks a second beside the flood, and the share of what can be done that is called good times.
_CALLBACKS_PER_S: Final = 20.0
_STEADY: Final = 0.5
_NOT_OFFERED: Final = "not_offered"


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """How many times what can be done, for how many seconds, by how many merchants; clients of the first part."""

    times: float
    seconds: float
    merchants: int
    clients: int


@dataclass(slots=True)
class _Heard:
    """Milliseconds of accepted and of refused answers, each from when the request was due, and not from when this
    process came to sending it, which is `late_ms` later; how many answers there were of each status."""

    accepted_ms: list[float] = field(default_factory=list)
    refused_ms: list[float] = field(default_factory=list)
    late_ms: list[float] = field(default_factory=list)
    statuses: Counter[str] = field(default_factory=Counter)
    seconds: float = 0.0

    def note(self, status: int, due: float) -> None:
        """An answer came now to a request that was due then."""
        self.statuses[str(status)] += 1
        waits = self.accepted_ms if status < 300 else self.refused_ms
        waits.append((time.perf_counter() - due) * 1000)

    def report(self) -> dict[str, object]:
        offered = self.statuses.total() - self.statuses[_NOT_OFFERED]
        return {
            "offered_per_s": round(offered / self.seconds, 1),
            "accepted_per_s": round(len(self.accepted_ms) / self.seconds, 1),
            "latency_ms": _percentiles(self.accepted_ms),
            "refusal_ms": _percentiles(self.refused_ms),
            "late_ms": _percentiles(self.late_ms),
            "statuses": dict(sorted((name, count) for name, count in self.statuses.items() if count)),
        }


def _percentiles(values: Sequence[float]) -> Mapping[str, float]:
    return percentiles(values) if len(values) > 1 else {}


# Asks with a number, due at that time.
Ask = Callable[[_Heard, int, float], Awaitable[None]]


async def run(settings: Settings, plan: Plan) -> dict[str, object]:
    """Measure the three parts and report them.

    Raises: BenchFailed.
    """
    run_id = str(uuid_utils.uuid7())
    async with session(settings, Role.OWNER, application_name="bench") as database:
        names = [f"bench {run_id} {number}" for number in range(plan.merchants)]
        made = await create_many(database, names, terms=Terms(fees=FeePlan(fixed=10, basis_points=150)), psps=[_PSP])
    keys = [one.api_key or "" for one in made]
    with closing(Wires(settings.http.base_url)) as wires:

        def pay_of(part: str) -> Ask:
            async def pay(heard: _Heard, number: int, due: float) -> None:
                await _ask(wires, _payment(wires, keys, f"{run_id}-{part}-{number}", number), heard, due)

            return pay

        able = await _closed(pay_of("able"), seconds=min(plan.seconds, 5.0), clients=plan.clients)
        per_s = len(able.accepted_ms) / able.seconds
        if per_s < 1:
            raise BenchFailed(f"nothing is accepted: {dict(able.statuses)}")
        good = await _open(pay_of("good"), seconds=min(plan.seconds, 10.0), per_s=per_s * _STEADY)
        callbacks = _Heard()

        async def call_back(heard: _Heard, number: int, due: float) -> None:
            await _ask(wires, _callback(wires, settings, f"{run_id}-{number}"), heard, due)

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(_into, callbacks, call_back, plan.seconds, _CALLBACKS_PER_S)
            flood = await _open(pay_of("flood"), seconds=plan.seconds, per_s=per_s * plan.times)
    return {
        "scenario": "overload",
        "able_per_s": round(per_s, 1),
        "good_times": good.report(),
        "flood": flood.report(),
        "callbacks": callbacks.report(),
        "machine": machine(),
    }


async def _closed(ask: Ask, *, seconds: float, clients: int) -> _Heard:
    """Each client as fast as it is answered."""
    heard, begun, numbers = _Heard(), time.perf_counter(), iter(range(10**9))

    async def client() -> None:
        while (now := time.perf_counter()) - begun < seconds:
            before = len(heard.accepted_ms)
            await ask(heard, next(numbers), now)
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

    async def one(number: int, due: float) -> None:
        nonlocal under_way
        under_way += 1
        try:
            heard.late_ms.append((time.perf_counter() - due) * 1000)
            await ask(heard, number, due)
        finally:
            under_way -= 1

    async with anyio.create_task_group() as tasks:
        while (passed := time.perf_counter() - begun) < seconds:
            while number < passed * per_s:
                if under_way < _UNANSWERED_MAX:
                    tasks.start_soon(one, number, begun + number / per_s)
                else:
                    heard.statuses[_NOT_OFFERED] += 1
                number += 1
            await anyio.sleep(0.002)
        heard.seconds = time.perf_counter() - begun


async def _ask(wires: Wires, request: bytes, heard: _Heard, due: float) -> None:
    try:
        status = await wires.ask(request)
    except OSError as error:
        heard.statuses[type(error).__name__] += 1
        return
    heard.note(status, due)


def _payment(wires: Wires, keys: Sequence[str], key: str, number: int) -> bytes:
    body = {
        "order_id": f"{number}-{key[-12:]}",
        "amount": 1000,
        "currency": "EUR",
        "method": {"type": "token", "token": "tok_approve"},
    }
    headers = {"Authorization": f"Bearer {keys[number % len(keys)]}", "Idempotency-Key": key}
    return wires.post("/v1/payments", orjson.dumps(body), headers)


def _callback(wires: Wires, settings: Settings, event_id: str) -> bytes:
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
    return wires.post(f"/v1/psp/{_PSP}/webhook", raw, {"Sim-Signature": f"t={at},v1={digest}"})
