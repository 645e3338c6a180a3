"""The leases on probing, and processes that share them before a PSP which only ever fails."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field, replace
from typing import Final

import anyio
import pytest

from paynode.config import Settings
from paynode.domain.attempts import Turn
from paynode.psp.guard import GuardedPsp
from paynode.psp.probes import OwnProbes, Probes
from paynode.storage.guards import PgProbes
from paynode.storage.postgres import BY_KEY, Pool, Role, pool
from tests.guards.psp import ORDER, Observer
from tests.guards.rules import RULES
from tests.psp.conftest import adapter
from tests.psp.misbehaving import RawServer, answer, raw_server
from tests.support.waiting import wait_until


@pytest.fixture
async def database(settings: Settings) -> AsyncIterator[Pool]:
    async with pool(settings, Role.GATEWAY, application_name="test", planner=BY_KEY) as connections:
        yield connections


@pytest.fixture(params=["own", "postgresql"])
def probes(request: pytest.FixtureRequest, database: Pool) -> Probes:
    return OwnProbes(clock=time.monotonic) if request.param == "own" else PgProbes(database, psp="sim")


async def test_a_lease_is_one_s_until_it_ends(probes: Probes) -> None:
    assert await probes.take("sale", for_s=60) == 1
    assert await probes.take("sale", for_s=60) is None
    assert await probes.take("refund", for_s=60) == 1, "another kind of call has its own"
    await probes.end("sale", 1, pause_s=0)
    assert await probes.take("sale", for_s=0) == 2
    assert await probes.take("sale", for_s=60) == 3, "the second has run out"
    await probes.end("sale", 2, pause_s=0)
    assert await probes.take("sale", for_s=60) is None, "who comes late ends nobody else's"
    await probes.end("sale", 3, pause_s=60)
    assert await probes.take("sale", for_s=60) is None, "nobody may now"
    await probes.end("topup", 1, pause_s=60)


async def test_another_psp_has_leases_of_its_own(database: Pool) -> None:
    assert await PgProbes(database, psp="sim").take("sale", for_s=60) == 1
    assert await PgProbes(database, psp="other").take("sale", for_s=60) == 1


async def test_of_many_that_come_together_one_takes_it(database: Pool) -> None:
    sim, taken = PgProbes(database, psp="sim"), list[int | None]()

    async def take() -> None:
        taken.append(await sim.take("sale", for_s=60))

    for number in range(1, 6):
        taken.clear()
        async with anyio.create_task_group() as group:
            for _ in range(20):
                group.start_soon(take)
        assert [one for one in taken if one] == [number]
        await sim.end("sale", number, pause_s=0)


# It takes longer to fail than a breaker is open: whoever probes without asking meets the other's probe.
OPEN_S: Final = 0.1
FAILS_AFTER_S: Final = 0.2


@dataclass
class Failing:
    """Answers 503 to all; `busiest`: the most requests at once."""

    under_way: int = 0
    busiest: int = 0

    async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.under_way += 1
        self.busiest = max(self.busiest, self.under_way)
        await anyio.sleep(FAILS_AFTER_S)
        self.under_way -= 1
        await answer(503, b"")(reader, writer)


@dataclass
class Process:
    """One that calls the PSP again and again, with connections and breakers of its own."""

    settings: Settings
    server: RawServer
    has_opened: anyio.Event = field(default_factory=anyio.Event)

    async def run(self) -> None:
        rules = replace(RULES, breaker=replace(RULES.breaker, in_a_row=3, open_s=OPEN_S))
        async with (
            pool(self.settings, Role.GATEWAY, application_name="test") as database,
            adapter(self.server.url) as psp,
        ):
            probes = PgProbes(database, psp="sim")
            guards = GuardedPsp("sim", psp, Observer(), rules, clock=time.monotonic, probes=probes)
            while True:
                await self._call(guards)
                if guards.vitals.breakers["sale"].state == "open":
                    self.has_opened.set()
                await anyio.sleep(0.01)

    async def _call(self, guards: GuardedPsp) -> None:
        until = time.monotonic() + 5
        async with guards.turn_to_send(ORDER, is_retry=False, is_urgent=False) as turn:
            if turn == Turn():
                await guards.send(ORDER, guards.prepare(ORDER), send_by=until, deadline=until)


async def test_a_psp_that_fails_never_sees_two_probes(settings: Settings) -> None:
    failing = Failing()
    async with raw_server(failing) as server, anyio.create_task_group() as group:
        processes = [Process(settings, server), Process(settings, server)]
        for one in processes:
            group.start_soon(one.run)
        for one in processes:
            await one.has_opened.wait()
        # What is under way now is a probe, if anything is.
        failing.busiest, before = 0, len(server.requests)
        await wait_until(lambda: len(server.requests) >= before + 10, "ten probes", 30)
        assert failing.busiest == 1
        group.cancel_scope.cancel()
