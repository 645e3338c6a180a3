"""H3: connections that are opened and not used, or used as slowly as can be; and who gets in beside them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Final
from uuid import uuid4

import anyio
import pytest

from paynode.config import Settings
from paynode.http import connections
from tests.http import raw
from tests.http.house import House, running, with_http
from tests.http.test_shedding import Unread
from tests.support.waiting import wait_until

SLOW: Final = 500
NOBODY: Final = {"reference": "of nobody", "outcome": "approved", "amount": 1, "currency": "EUR"}


@asynccontextmanager
async def dripping(house: House, count: int) -> AsyncIterator[Sequence[raw.Streams]]:
    """So many clients that have begun a request and go on with it by a header line now and then, for ever."""
    async with AsyncExitStack() as stack, anyio.create_task_group() as tasks:
        clients = [await stack.enter_async_context(raw.connected(house)) for _ in range(count)]
        for _, writer in clients:
            writer.write(b"POST /v1/payments HTTP/1.1\r\nHost: x\r\n")

        async def drip() -> None:
            while True:
                for _, writer in clients:
                    if not writer.transport.is_closing():
                        writer.write(b"X: 1\r\n")
                await anyio.sleep(0.1)

        tasks.start_soon(drip)
        yield clients
        tasks.cancel_scope.cancel()


async def test_five_hundred_slow_clients_keep_nobody_out_and_are_cut_off(settings: Settings) -> None:
    async with running(with_http(settings, keep_alive_s=2.0)) as house, dripping(house, SLOW) as clients:
        assert (await house.pay()).status == 201
        assert (await house.tell({"id": str(uuid4()), **NOBODY})).status == 200
        for reader, _ in clients:
            assert await raw.is_closed(reader)
        assert (await house.pay()).status == 201
        assert house.told.sheds == []


async def test_who_only_opens_connections_gives_way_to_whoever_has_something_to_say(settings: Settings) -> None:
    """More slow clients than there may be connections: the oldest of them go, not the callback and not the shop."""
    async with running(with_http(settings, connections_max=100)) as house, raw.connected(house) as (reader, writer):
        for number in range(3):
            writer.write(raw.request(house, Idempotency_Key=f"k{number}"))
            assert (await raw.answer(reader)).status == 201
            async with dripping(house, 99) as clients:
                # For one more, one of theirs is closed: the oldest that has never asked for anything. Ours is older.
                await wait_until(lambda: _open(house) == 100, "all of them are in")
                assert (await house.tell({"id": str(uuid4()), **NOBODY})).status == 200
                assert await raw.is_closed(clients[0][0])
            await wait_until(lambda: _open(house) == 1, "they are gone")


async def test_a_connection_with_a_request_under_way_gives_way_to_nobody(settings: Settings) -> None:
    async with running(with_http(settings, connections_max=2)) as house, AsyncExitStack() as stack:
        waiting = [await stack.enter_async_context(raw.connected(house)) for _ in range(2)]
        for number, (_, writer) in enumerate(waiting):
            writer.write(raw.request(house, Idempotency_Key=f"k{number}", Prefer="wait=30"))
        await wait_until(lambda: house.ingress.gate.under_way == 2, "both wait for their result")
        reply = await raw.exchange(house, raw.request(house))
        assert (reply.status, reply.code, reply.headers["Retry-After"]) == (503, "too_many_connections", "1")
        house.ingress.waiters.stop()
        assert [(await raw.answer(reader)).status for reader, _ in waiting] == [202, 202]
        await wait_until(lambda: _is_let_in(house), "now they are idle, and one goes")


async def test_callbacks_whose_bodies_never_come_keep_no_callback_out(settings: Settings) -> None:
    """Nobody knows who they are before the body is there: until then they have a connection and no place."""
    overload = settings.overload.model_copy(update={"requests_max": 10})
    limits = with_http(settings, body_deadline_s=60.0, request_deadline_s=60.0).model_copy(
        update={"overload": overload}
    )
    head = b"POST /v1/psp/sim/webhook HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\nExpect: 100-continue\r\n\r\n"
    async with running(limits) as house, AsyncExitStack() as stack:
        for _ in range(20):
            reader, writer = await stack.enter_async_context(raw.connected(house))
            writer.write(head)
            assert b" 100 " in await reader.readuntil(b"\r\n\r\n")
        assert (await house.tell({"id": str(uuid4()), **NOBODY})).status == 200
        assert (await house.get("/v1/ledger")).status == 200, "the first to go"
        assert house.told.sheds == []


async def test_a_callback_whose_body_does_not_come_gives_way_before_whoever_has_asked_for_something(
    settings: Settings,
) -> None:
    head = b"POST /v1/psp/sim/webhook HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\nExpect: 100-continue\r\n\r\n"
    limits = with_http(settings, connections_max=3, body_deadline_s=60.0, request_deadline_s=60.0)
    async with running(limits) as house, AsyncExitStack() as stack:
        shop, *slow = [await stack.enter_async_context(raw.connected(house)) for _ in range(3)]
        shop[1].write(sent := raw.request(house))
        assert (await raw.answer(shop[0])).status == 201
        for reader, writer in slow:
            writer.write(head)
            assert b" 100 " in await reader.readuntil(b"\r\n\r\n")
        assert (await house.tell({"id": str(uuid4()), **NOBODY})).status == 200
        assert await raw.is_closed(slow[0][0])
        shop[1].write(sent)
        assert (await raw.answer(shop[0])).headers["Idempotent-Replayed"] == "true"
        assert {fact["status"] for fact in house.told.answered_with} == {201, 200, 499}


async def test_who_was_answered_before_his_body_was_there_gives_way(settings: Settings) -> None:
    """It is read for a second more, so that he sees the answer; a second in which nobody else would get in."""
    async with running(with_http(settings, connections_max=2)) as house, AsyncExitStack() as stack:
        for _ in range(2):
            reader, writer = await stack.enter_async_context(raw.connected(house))
            writer.write(raw.request(house, Authorization="", Content_Length="1000"))
            assert (await raw.answer(reader)).status == 401
        assert await _is_let_in(house)


async def test_who_does_not_read_his_answer_gives_way_and_is_cut_off(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Closing alone would wait for him, uncounted."""
    monkeypatch.setattr(connections, "_LINGER_S", 0.1)
    async with running(with_http(settings, connections_max=1)) as house:
        connection, transport = house.served.door(), Deaf()
        connection.connection_made(transport)
        connection.pause_writing()  # as a transport says whose buffer is full
        connection.data_received(b"GET /nowhere HTTP/1.1\r\nHost: x\r\n\r\n")
        await wait_until(lambda: bool(house.told.answered_with), "it is answered")
        assert not connection.is_idle
        assert await _is_let_in(house)
        await wait_until(lambda: transport.is_cut_off, "nobody waits for him")
        connection.connection_lost(None)


async def test_who_was_idle_too_long_and_does_not_read_gives_way(settings: Settings) -> None:
    async with running(with_http(settings, connections_max=1, keep_alive_s=0.1)) as house:
        connection = house.served.door()
        connection.connection_made(Deaf())
        connection.data_received(b"GET /")
        await wait_until(lambda: connection.transport is None, "it is closed, and yet it stays")
        assert house.served.door.open == 1
        assert await _is_let_in(house)
        connection.connection_lost(None)


class Deaf(Unread):
    """Closes when all is read, which is never."""

    def close(self) -> None:
        pass


async def _is_let_in(house: House) -> bool:
    return (await raw.exchange(house, raw.request(house))).status == 201


def _open(house: House) -> int:
    return house.served.door.open
