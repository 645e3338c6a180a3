"""The proxy does what it says; a fault that does not bite would let every other test here pass."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import pytest

from tests.support.proxy import Act, Fault, Proxy, Weather


class Echo:
    """A server that repeats what it hears, and remembers it."""

    def __init__(self) -> None:
        self.heard = b""

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(ConnectionResetError):  # which is how the proxy leaves
            while chunk := await reader.read(1024):
                self.heard += chunk
                writer.write(b"said " + chunk)
                await writer.drain()
        writer.close()


@pytest.fixture
async def echo() -> AsyncIterator[tuple[Echo, Proxy]]:
    echo = Echo()
    listening = await asyncio.start_server(echo.serve, "127.0.0.1", 0)
    port = listening.sockets[0].getsockname()[1]
    async with Proxy.to(f"tcp://127.0.0.1:{port}", seed=1) as proxy:
        yield echo, proxy
    listening.close()


class Client:
    """Says something and waits for what comes back."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    async def ask(self, words: bytes, *, patience_s: float = 1.0) -> bytes:
        self._writer.write(words)
        async with asyncio.timeout(patience_s):
            return await self._reader.read(1024)


@asynccontextmanager
async def connected(proxy: Proxy) -> AsyncIterator[Client]:
    reader, writer = await asyncio.open_connection("127.0.0.1", proxy.port)
    yield Client(reader, writer)
    writer.close()
    with suppress(OSError):
        await writer.wait_closed()


@pytest.mark.parametrize(
    ("act", "is_in_reply", "has_heard"),
    [(Act.LOSE_REQUEST, False, False), (Act.LOSE_REPLY, False, True), (Act.LOSE_REPLY, True, True)],
)
async def test_a_connection_is_cut_at_the_word(
    echo: tuple[Echo, Proxy], act: Act, is_in_reply: bool, has_heard: bool
) -> None:
    server, proxy = echo
    pattern = b"said done" if is_in_reply else b"done"
    proxy.faults = [Fault(name="cut", pattern=pattern, act=act, share=1.0, is_in_reply=is_in_reply)]
    async with connected(proxy) as client:
        assert await client.ask(b"hello") == b"said hello"
        with pytest.raises(ConnectionResetError):
            await client.ask(b"done")
    assert (b"done" in server.heard) is has_heard
    assert proxy.bitten == {"cut": 1}


async def test_a_reply_is_swallowed_and_the_connection_stays(echo: tuple[Echo, Proxy]) -> None:
    server, proxy = echo
    proxy.faults = [Fault(name="drop", pattern=b"one", act=Act.DROP_REPLY, share=1.0)]
    async with connected(proxy) as client:
        with pytest.raises(TimeoutError):
            await client.ask(b"one", patience_s=0.2)
        assert await client.ask(b"two") == b"said two"
    assert (server.heard, proxy.bitten) == (b"onetwo", {"drop": 1})


async def test_a_word_is_seen_that_comes_in_two_pieces(echo: tuple[Echo, Proxy]) -> None:
    _, proxy = echo
    proxy.faults = [Fault(name="cut", pattern=b"COMMIT", act=Act.LOSE_REQUEST, share=1.0)]
    async with connected(proxy) as client:
        assert await client.ask(b"COM") == b"said COM"
        with pytest.raises(ConnectionResetError):
            await client.ask(b"MIT")


async def test_silence_holds_everything_and_ends(echo: tuple[Echo, Proxy]) -> None:
    server, proxy = echo
    async with connected(proxy) as client:
        proxy.hold()
        with pytest.raises(TimeoutError):
            await client.ask(b"hello", patience_s=0.2)
        assert server.heard == b""
        proxy.release()
        assert await client.ask(b"") == b"said hello"
    assert proxy.bitten["held"] == 1


async def test_who_is_cut_off_or_refused_hears_it_at_once(echo: tuple[Echo, Proxy]) -> None:
    _, proxy = echo
    async with connected(proxy) as client:
        assert await client.ask(b"hello") == b"said hello"
        proxy.cut_all()
        with pytest.raises(ConnectionResetError):
            await client.ask(b"hello")
    proxy.is_refusing = True
    async with connected(proxy) as client:
        with pytest.raises(ConnectionResetError):
            await client.ask(b"")
    assert proxy.bitten == {"cut": 1, "refused": 1}


async def test_chance_is_repeated_by_its_seed(echo: tuple[Echo, Proxy]) -> None:
    _, proxy = echo
    proxy.faults = [Fault(name="cut", pattern=b"x", act=Act.LOSE_REPLY, share=0.3)]
    survived = []
    for _ in range(2):
        proxy.random.seed(7)
        async with connected(proxy) as client:
            answers = 0
            with suppress(ConnectionResetError):
                while await client.ask(b"x"):
                    answers += 1
        survived.append(answers)
    assert survived[0] == survived[1] > 0


async def test_a_line_may_be_slow_or_thin(echo: tuple[Echo, Proxy]) -> None:
    _, proxy = echo
    async with connected(proxy) as client:
        proxy.weather = Weather(delay_s=0.1)
        begun = time.monotonic()
        assert await client.ask(b"late") == b"said late"
        assert time.monotonic() - begun >= 0.2  # there and back
        proxy.weather = Weather(bytes_per_s=100)
        begun = time.monotonic()
        answer = await client.ask(b"0123456789", patience_s=5)
        while len(answer) < len(b"said 0123456789"):
            answer += await client.ask(b"", patience_s=5)
        assert time.monotonic() - begun >= 0.1
    assert proxy.bitten["delayed"] == 2
    assert proxy.bitten["thinned"] >= 4


async def test_a_connection_is_cut_after_so_many_bytes_in_the_middle_of_a_word(echo: tuple[Echo, Proxy]) -> None:
    server, proxy = echo
    proxy.weather = Weather(cut_after=20)
    async with connected(proxy) as client:
        assert await client.ask(b"hello") == b"said hello"
        with pytest.raises(ConnectionResetError):
            await client.ask(b"goodbye")
    assert server.heard.startswith(b"hello")
    assert len(server.heard) < len(b"hellogoodbye")
    assert proxy.bitten == {"cut_after": 1}


async def test_a_half_open_connection_looks_alive_and_leads_nowhere(echo: tuple[Echo, Proxy]) -> None:
    server, proxy = echo
    async with connected(proxy) as client:
        assert await client.ask(b"hello") == b"said hello"
        proxy.tear_all()
        with pytest.raises(TimeoutError):
            await client.ask(b"anybody", patience_s=0.3)
        proxy.heal()
        with pytest.raises(TimeoutError):
            await client.ask(b"still nobody", patience_s=0.3)
    async with connected(proxy) as client:
        assert await client.ask(b"new") == b"said new"
    assert (server.heard, proxy.bitten) == (b"hellonew", {"half_open": 1})


async def test_words_that_pass_by_are_counted(echo: tuple[Echo, Proxy]) -> None:
    _, proxy = echo
    proxy.watched = {"greetings": b"hello"}
    async with connected(proxy) as client:
        for _ in range(3):
            assert await client.ask(b"hello") == b"said hello"
    assert proxy.seen == {"greetings": 3}
