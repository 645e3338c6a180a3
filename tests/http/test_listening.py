"""Taking in connections, on the event loop that serves and on the one that tests run on."""

from __future__ import annotations

import asyncio
import errno
import socket
from collections.abc import Callable, Coroutine, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import pytest
import uvloop
from aiohttp import web

from paynode.config import load
from paynode.http import listening as module
from paynode.http.connections import Door
from paynode.http.glance import Begun
from paynode.http.listening import Listener, listening
from tests.support.waiting import wait_until

Run = Callable[[Coroutine[Any, Any, None]], None]
# What the loop may come by for one of many at once.
TURNS = 10


class Come(asyncio.Protocol):
    def __init__(self, come: list[asyncio.BaseTransport]) -> None:
        self._come = come

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._come.append(transport)


@contextmanager
def customers(port: int, count: int) -> Iterator[list[socket.socket]]:
    with ExitStack() as stack:
        yield [stack.enter_context(socket.create_connection(("127.0.0.1", port))) for _ in range(count)]


@pytest.mark.parametrize("run", [uvloop.run, asyncio.run])
def test_however_many_come_at_once_they_are_taken_in_together(run: Run) -> None:
    """One at a time, each would wait for all the work of those before it."""

    async def test() -> None:
        come: list[asyncio.BaseTransport] = []
        async with listening(lambda: Come(come), "127.0.0.1", 0) as port:
            with customers(port, 200):
                for _ in range(TURNS):
                    await asyncio.sleep(0)
                assert len(come) == 200
                for transport in come:
                    transport.close()

    run(test())


@pytest.mark.parametrize("run", [uvloop.run, asyncio.run])
def test_at_the_end_nobody_listens_and_who_came_stays(run: Run) -> None:
    async def test() -> None:
        come: list[asyncio.BaseTransport] = []
        async with listening(lambda: Come(come), "localhost", 0) as port:
            with customers(port, 1):
                await wait_until(lambda: bool(come), "it has come")
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", port))
        assert not come[0].is_closing()
        come[0].close()

    run(test())


class Poor(socket.socket):
    """Has no descriptors left, for so many times."""

    times = 2
    asked = 0

    def accept(self) -> tuple[socket.socket, Any]:
        self.asked += 1
        if self.asked <= self.times:
            raise OSError(errno.EMFILE, "too many open files")
        return super().accept()


async def test_without_descriptors_it_pauses_and_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_PAUSE_S", 0.02)
    come: list[asyncio.BaseTransport] = []
    with Poor() as place:
        place.bind(("127.0.0.1", 0))
        place.listen()
        listener = Listener(place, lambda: Come(come), asyncio.get_running_loop())
        listener.start()
        with customers(place.getsockname()[1], 1):
            await wait_until(lambda: bool(come), "it is let in at last")
            assert place.asked == place.times + 2, "not in a circle: once each, then until nobody is left"
            come[0].close()
        listener.stop()


class Open:
    """Lets everybody in."""

    def refusal(self, _: Begun) -> bytes:
        return b""

    def arrived(self) -> None:
        pass


@pytest.mark.parametrize("run", [uvloop.run, asyncio.run])
def test_who_finds_no_place_is_told_so_on_either_loop(run: Run) -> None:
    """uvloop's transports are no `asyncio.Transport`, which an assertion had taken for granted."""

    async def answer(_: web.BaseRequest) -> web.Response:
        return web.Response()

    async def test() -> None:
        limits = load().http.model_copy(update={"connections_per_address_max": 0})
        door = Door(web.Server(answer), limits, Open())
        async with listening(door, "127.0.0.1", 0) as port:
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            async with asyncio.timeout(10):
                assert (await reader.read()).startswith(b"HTTP/1.1 503 ")
            writer.close()

    run(test())
