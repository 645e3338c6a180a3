"""Keys are looked up together, and remembered for a moment."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import anyio
import pytest
from aiohttp import web
from aiohttp.test_utils import make_mocked_request

from paynode.config import Settings
from paynode.domain.accepting import MerchantKey
from paynode.domain.errors import Unavailable
from paynode.http import problem
from paynode.http.authentication import Doorman
from paynode.http.context import CONTEXT, Context
from paynode.http.problem import Problem
from paynode.http.tracing import continued
from paynode.runtime.grouping import GroupFull, GroupStopped
from tests.http.house import Reply, running
from tests.support.waiting import wait_until

ADA = MerchantKey(merchant_id="01890000-0000-7000-8000-000000000000", psps=("sim",))


class Keys:
    """One key is Ada's until it is revoked; `go_on` holds the look-ups back."""

    def __init__(self) -> None:
        self.groups: list[list[str]] = []
        self.valid = {"ada"}
        self.is_away = False
        self.go_on = anyio.Event()

    async def merchants_of(self, api_keys: Sequence[str]) -> Sequence[MerchantKey | None]:
        self.groups.append(list(api_keys))
        await self.go_on.wait()
        if self.is_away:
            raise Unavailable("gone")
        return [ADA if api_key in self.valid else None for api_key in api_keys]


class Callers:
    """Those who show their keys at the door."""

    def __init__(self, keys: Keys, *, waiting_max: int) -> None:
        self.now = 100.0
        self._keys = keys
        self.doorman = Doorman(keys, waiting_max=waiting_max, clock=lambda: self.now)

    async def ask(self, api_key: str) -> str:
        """The merchant's id, or the status and code of a refusal."""
        try:
            return (await self.doorman.merchant(_request(api_key))).merchant_id
        except Problem as error:
            refusal = error
        except (Unavailable, GroupFull, GroupStopped) as error:
            refusal = problem.of_error(error)
        return f"{refusal.status} {refusal.code}"

    async def ask_together(self, *api_keys: str) -> list[str]:
        """None is answered before they all wait behind a look-up that is under way."""
        under_way = asyncio.create_task(self.ask("first"))
        await anyio.wait_all_tasks_blocked()
        asked = [asyncio.create_task(self.ask(api_key)) for api_key in api_keys]
        await anyio.wait_all_tasks_blocked()
        self._keys.go_on.set()
        await under_way
        return await asyncio.gather(*asked)


def _request(api_key: str) -> web.Request:
    request = make_mocked_request("GET", "/v1/payments", headers={"Authorization": f"Bearer {api_key}"})
    request[CONTEXT] = Context(request_id="req", trace=continued([]), deadline=asyncio.timeout(None))
    return request


@asynccontextmanager
async def at_the_door(keys: Keys, *, waiting_max: int = 1000) -> AsyncIterator[Callers]:
    callers = Callers(keys, waiting_max=waiting_max)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(callers.doorman.run)
        yield callers
        tasks.cancel_scope.cancel()


async def test_many_keys_at_once_cost_one_look_up_and_the_bad_ones_harm_nobody() -> None:
    keys, many = Keys(), [*(f"unknown{number}" for number in range(200)), "ada"]
    async with at_the_door(keys) as callers:
        told = await callers.ask_together(*many)
        assert told == ["401 api_key_invalid"] * 200 + [ADA.merchant_id]
        assert keys.groups == [["first"], many]
        assert await callers.ask_together(*many) == told
        assert len(keys.groups) == 2, "the wrong ones are remembered too"


async def test_a_revoked_key_is_refused_after_five_seconds() -> None:
    keys = Keys()
    keys.go_on.set()
    async with at_the_door(keys) as callers:
        assert await callers.ask("ada") == ADA.merchant_id
        keys.valid.clear()
        callers.now += 4.9
        assert await callers.ask("ada") == ADA.merchant_id
        callers.now += 0.1
        assert await callers.ask("ada") == "401 api_key_invalid"


async def test_a_failed_look_up_is_told_to_all_who_wait_and_not_remembered() -> None:
    keys = Keys()
    keys.is_away = True
    async with at_the_door(keys) as callers:
        assert await callers.ask_together("ada", "unknown", "ada") == ["503 unavailable"] * 3
        keys.is_away = False
        assert await callers.ask_together("ada", "unknown") == [ADA.merchant_id, "401 api_key_invalid"]


async def test_whoever_is_one_too_many_is_not_told_that_his_key_is_wrong() -> None:
    async with at_the_door(Keys(), waiting_max=2) as callers:
        told = await callers.ask_together("ada", "unknown", "ada", "unknown")
        assert told == [ADA.merchant_id, "401 api_key_invalid", "503 overloaded", "503 overloaded"]


async def test_after_the_stop_nobody_is_told_that_his_key_is_wrong() -> None:
    async with at_the_door(Keys()) as callers:
        await anyio.wait_all_tasks_blocked()
    assert await callers.ask("unknown") == "503 stopping"


async def test_it_is_known_how_long_a_look_up_has_been_waited_for() -> None:
    keys = Keys()
    async with at_the_door(keys) as callers:
        waiting = asyncio.create_task(callers.ask("ada"))
        await anyio.wait_all_tasks_blocked()
        callers.now += 3.0
        assert callers.doorman.waited_s() == pytest.approx(3.0)
        keys.go_on.set()
        await waiting
        assert callers.doorman.waited_s() == 0.0


async def test_the_ingress_tells_everybody_who_waits_that_the_database_is_away(settings: Settings) -> None:
    keys, told = Keys(), list[Reply]()
    keys.is_away = True
    async with running(settings, keys=keys) as house, anyio.create_task_group() as tasks:

        async def ask(number: int) -> None:
            told.append(await house.get("/v1/payments", Authorization=f"Bearer key{number}"))

        for number in range(20):
            tasks.start_soon(ask, number)
        await wait_until(lambda: house.ingress.gate.under_way == 20, "they all wait")
        keys.go_on.set()
    assert {(reply.status, reply.code, reply.headers["Retry-After"]) for reply in told} == {(503, "unavailable", "1")}
    assert len(told) == 20


async def test_whoever_waits_for_a_look_up_makes_the_ingress_late(settings: Settings) -> None:
    keys = Keys()
    async with running(settings, keys=keys) as house, anyio.create_task_group() as tasks:
        tasks.start_soon(house.get, "/v1/payments")
        try:
            await wait_until(lambda: house.ingress.gate.age_s(time.monotonic()) > 0.3, "the gate knows of him")
        finally:
            keys.go_on.set()
