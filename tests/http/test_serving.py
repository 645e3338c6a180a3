"""Connections, draining, and the admin port."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import replace

import anyio
import orjson
import pytest
from uuid_utils import uuid7

from paynode.config import Settings
from paynode.domain.accepting import MerchantKey, NewPayment
from paynode.http.admin import Readiness
from paynode.http.application import make_ingress
from paynode.http.connections import address_of
from paynode.http.serving import serving, serving_admin
from tests.http import raw
from tests.http.house import House, hosted, running, with_http
from tests.http.test_acceptor import Database
from tests.support.waiting import wait_until


@pytest.mark.parametrize(
    ("peer", "address"),
    [
        (("192.0.2.7", 1), "192.0.2.7"),
        (("2001:db8:1:2:3::4", 1, 0, 0), "2001:db8:1:2::/64"),
        (("2001:db8:1:2:ffff::4", 1, 0, 0), "2001:db8:1:2::/64"),
        (("::ffff:192.0.2.7", 1, 0, 0), "192.0.2.7"),
        (("fe80::1%eth0", 1, 0, 2), "fe80::/64"),
        (None, ""),
        ("", ""),
    ],
)
def test_who_counts_as_one_address(peer: object, address: str) -> None:
    assert address_of(peer) == address


async def test_a_connection_beyond_the_cap_of_its_address_is_told_so_and_one_that_ends_makes_room(
    settings: Settings,
) -> None:
    async with running(with_http(settings, connections_per_address_max=2)) as house:
        async with AsyncExitStack() as stack:
            for _ in range(2):
                await stack.enter_async_context(raw.connected(house))
            async with raw.connected(house) as (reader, _):
                reply = await raw.answer(reader)
                assert (reply.status, reply.code) == (503, "too_many_connections")
                assert reply.headers["Retry-After"] == "1"
                assert await raw.is_closed(reader)

        async def is_let_in() -> bool:
            return (await raw.exchange(house, raw.request(house))).status == 201

        await wait_until(is_let_in, "the places are free again")


async def test_a_client_that_never_ends_its_headers_is_cut_off(settings: Settings) -> None:
    async with running(with_http(settings, keep_alive_s=0.3)) as house, raw.connected(house) as (reader, writer):
        writer.write(b"GET / HTTP/1.1\r\nHost: x\r\n")

        async def drip() -> None:
            while True:
                writer.write(b"X: 1\r\n")
                await anyio.sleep(0.02)

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(drip)
            assert await raw.is_closed(reader)
            tasks.cancel_scope.cancel()


async def test_an_idle_connection_is_closed(settings: Settings) -> None:
    async with running(with_http(settings, keep_alive_s=0.3)) as house, raw.connected(house) as (reader, writer):
        writer.write(raw.request(house))
        assert (await raw.answer(reader)).status == 201
        assert await raw.is_closed(reader)


async def test_a_connection_serves_one_request_after_another(house: House) -> None:
    async with raw.connected(house) as (reader, writer):
        for number in range(3):
            writer.write(raw.request(house, Idempotency_Key=f"k{number}"))
            assert (await raw.answer(reader)).status == 201
            # A refusal whose body was read does not end the connection either.
            writer.write(raw.request(house, body=b"{}"))
            assert (await raw.answer(reader)).status == 400


async def test_who_waits_at_the_stop_is_answered_with_what_there_is(settings: Settings) -> None:
    async with AsyncExitStack() as stack:
        async with running(settings) as house:
            reader, writer = await stack.enter_async_context(raw.connected(house))
            writer.write(raw.request(house, body=orjson.dumps(hosted()), Prefer="wait=30"))
            await wait_until(lambda: _has_payment(house), "the payment is committed")
            stopped_at = time.monotonic()
        reply = await raw.answer(reader)
        assert await raw.is_closed(reader)
    assert (reply.status, reply.json["status"]) == (202, "created")
    assert time.monotonic() - stopped_at < 5


async def test_a_request_under_way_is_committed_and_answered_although_everything_is_cancelled(
    settings: Settings,
) -> None:
    go_on = anyio.Event()
    asked: list[str] = []

    class Slow(Database):
        async def accept(self, group: Sequence[NewPayment]) -> frozenset[str]:
            await go_on.wait()
            return await super().accept(group)

    class Anybody:
        async def merchants_of(self, api_keys: Sequence[str]) -> Sequence[MerchantKey]:
            asked.extend(api_keys)
            return [MerchantKey(merchant_id=str(uuid7()), psps=("sim",)) for _ in api_keys]

    async with running(settings) as house, AsyncExitStack() as stack:
        ingress = make_ingress(settings, replace(house.neighbours, keys=Anybody(), accepting=Slow()))
        with anyio.CancelScope() as everything:
            async with serving(settings, ingress, Readiness({}, needs=frozenset())) as served:
                house.served = served
                connections = [await stack.enter_async_context(raw.connected(house)) for _ in range(2)]
                for number, (_, writer) in enumerate(connections):
                    # The second waits for the group after the first one's.
                    writer.write(raw.request(house, Authorization=f"Bearer key{number}"))
                    await wait_until(lambda: len(asked) > number, "the request has come in")  # noqa: B023
                await anyio.wait_all_tasks_blocked()
                asyncio.get_running_loop().call_later(0.1, go_on.set)
                everything.cancel()
        assert [(await raw.answer(reader)).status for reader, _ in connections] == [201, 201]


async def test_nobody_comes_in_any_more_after_the_stop(settings: Settings) -> None:
    async with running(settings) as house:
        pass
    with pytest.raises(ConnectionRefusedError):
        await raw.exchange(house, b"GET / HTTP/1.1\r\n\r\n")


async def test_the_admin_port_tells_how_the_process_is(settings: Settings) -> None:
    checks = {"database": True, "redis": False}

    async def database() -> bool:
        return checks["database"]

    async def redis() -> bool:
        return checks["redis"]

    now = [0.0]
    readiness = Readiness({"database": database, "redis": redis}, needs=frozenset({"database"}), clock=lambda: now[0])
    async with running(settings) as house, serving_admin("127.0.0.1", 0, readiness) as url:
        now[0] = 10.0
        assert (await house.get(f"{url}/livez")).json == {"alive": True}
        ready = await house.get(f"{url}/readyz")
        assert ready.status == 200
        assert ready.json == {"ready": True, "draining": False, "checks": {"database": "up", "redis": "down"}}
        checks["database"] = False
        assert (await house.get(f"{url}/readyz")).status == 200, "asked again only after a second"
        now[0] = 20.0
        assert (await house.get(f"{url}/readyz")).status == 503
        checks["database"], now[0], readiness.is_draining = True, 30.0, True
        assert (await house.get(f"{url}/readyz")).json["draining"] is True
        assert (await house.get(f"{url}/readyz")).status == 503


async def test_a_server_that_does_not_answer_is_down() -> None:
    readiness = Readiness({"database": asyncio.Event().wait}, needs=frozenset({"database"}))
    with anyio.fail_after(5):
        is_ready, report = await readiness.report()
    assert (is_ready, report["checks"]) == (False, {"database": "down"})


async def test_metrics_are_served_in_the_text_format(untouched: House) -> None:
    reply = await untouched.get(f"{untouched.served.admin_url}/metrics", Accept="application/openmetrics-text")
    assert reply.headers["Content-Type"].startswith("text/plain; version=0.0.4")
    assert b"# HELP" in reply.raw


async def _has_payment(house: House) -> bool:
    return await house.count("payments") == 1
