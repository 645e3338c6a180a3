"""A TCP proxy that harms what goes through it: it cuts, swallows, delays, thins, holds and refuses.

By chance, at a word, after so many bytes, or for as long as somebody says.

It speaks no protocol. A fault is a pattern of bytes in the traffic and what is done when it passes by: `COMMIT`,
`XADD`, a member of a statement's JSON. The processes under test get its port instead of the server's.
"""

from __future__ import annotations

import asyncio
import math
import socket
import struct
from collections import Counter
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from enum import Enum
from random import Random
from typing import Final, Self
from urllib.parse import urlsplit, urlunsplit

_CHUNK = 1 << 16
# Zero seconds of lingering: a close is an RST, which is what a crash or a firewall looks like.
_RST = struct.pack("ii", 1, 0)


class Act(Enum):
    """What happens when a pattern has been seen."""

    LOSE_REQUEST = "the connection is cut, and the server never sees what stood in it"
    LOSE_REPLY = "the server gets it and has answered; the connection is cut in the client's face"
    DROP_REPLY = "the server gets it and has answered; the answer is swallowed, and the connection stays"


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """Does `act` to a `share` of the chunks in which `pattern` is, on the way to the server or in its reply."""

    name: str
    pattern: bytes
    act: Act
    share: float
    is_in_reply: bool = False

    def __post_init__(self) -> None:
        assert not (self.is_in_reply and self.act is Act.LOSE_REQUEST), "whoever replies has had the request"


# What is said to Redis, as it goes over the wire, and the share of the replies to lose: most of it stands in scripts.
# Acknowledgements are few, one for all that a batch has of a partition; a gateway's are commands of their own.
LOSABLE: Final = {
    "XADD": (b"'XADD'", 0.05),
    "XREADGROUP": (b"\r\nXREADGROUP\r\n", 0.05),
    "XACK": (b"'XACK'", 0.15),
    "XACK of a gateway": (b"\r\nXACK\r\n", 0.15),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Weather:
    """How the line is. Each chunk, in either direction, arrives `delay_s` later, give or take `jitter_s`.

    At most `bytes_per_s` pass in each direction of a connection; a connection is cut after `cut_after` bytes, both
    directions together, in the middle of whatever that is.
    """

    delay_s: float = 0.0
    jitter_s: float = 0.0
    bytes_per_s: float = math.inf
    cut_after: float = math.inf


FAIR = Weather()


@dataclass(eq=False, slots=True)
class _Link:
    """One client's connection and ours to the server."""

    client: asyncio.StreamWriter
    server: asyncio.StreamWriter
    bite: Fault | None = None
    tails: dict[bool, bytes] = field(default_factory=lambda: {True: b"", False: b""})
    passed: int = 0
    is_half_open: bool = False

    def cut(self) -> None:
        _reset(self.client)
        _reset(self.server)

    def tear(self) -> None:
        """Only the server's side is closed: the client hears nothing of it, and whatever it says goes nowhere."""
        self.is_half_open = True
        _reset(self.server)


def _reset(writer: asyncio.StreamWriter) -> None:
    with suppress(OSError):  # closed by its other end already
        writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RST)
    writer.transport.abort()


@dataclass(eq=False, slots=True)
class Proxy:
    """In front of one server. `faults` and `weather` may be changed while it runs.

    `bitten` counts by name what they did. `watched` names words that are counted in `seen` as they pass by in
    requests, and left alone.
    """

    host: str
    server_port: int
    random: Random
    faults: Sequence[Fault] = ()
    weather: Weather = FAIR
    watched: Mapping[str, bytes] = field(default_factory=dict)
    bitten: Counter[str] = field(default_factory=Counter)
    seen: Counter[str] = field(default_factory=Counter)
    is_refusing: bool = False
    port: int = 0
    _links: set[_Link] = field(default_factory=set)
    _clients: set[asyncio.StreamWriter] = field(default_factory=set)
    _tasks: set[asyncio.Task[None]] = field(default_factory=set)
    _open: asyncio.Event = field(default_factory=asyncio.Event)

    @classmethod
    @asynccontextmanager
    async def to(cls, url: str, *, seed: int) -> AsyncIterator[Self]:
        """A proxy in front of the server that a URL names."""
        parts = urlsplit(url)
        assert parts.hostname is not None
        assert parts.port is not None
        proxy = cls(host=parts.hostname, server_port=parts.port, random=Random(seed))
        proxy._open.set()
        listening = await asyncio.start_server(proxy._accepted, "127.0.0.1", 0)
        proxy.port = listening.sockets[0].getsockname()[1]
        try:
            yield proxy
        finally:
            listening.close()
            proxy.cut_all()
            for task in proxy._tasks:
                task.cancel()
            await asyncio.gather(*proxy._tasks, return_exceptions=True)
            for client in proxy._clients:  # those too whose task had not begun
                _reset(client)

    def through(self, url: str) -> str:
        """The same URL by way of this proxy. Without TLS, in which there would be nothing to see."""
        parts = urlsplit(url)
        netloc = f"{parts.netloc.rpartition('@')[0]}@127.0.0.1:{self.port}".removeprefix("@")
        query = "sslmode=disable" if parts.scheme.startswith("postgres") else parts.query
        return urlunsplit(parts._replace(netloc=netloc, query=query))

    def cut_all(self) -> None:
        """Cut every connection that is open."""
        for link in list(self._links):
            self.bitten["cut"] += 1
            link.cut()

    def tear_all(self) -> None:
        """Leave every client with a connection that is half open: it looks alive and leads nowhere."""
        for link in list(self._links):
            self.bitten["half_open"] += 1
            link.tear()

    def heal(self) -> None:
        """From now on everything passes. What is half open stays so: nobody tells its client."""
        self.faults, self.is_refusing, self.weather = (), False, FAIR
        self.release()

    def hold(self) -> None:
        """Silence: nothing passes in either direction, and nothing is closed."""
        self._open.clear()

    def release(self) -> None:
        """What was held goes on."""
        self._open.set()

    def _accepted(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._clients.add(writer)
        task = asyncio.get_running_loop().create_task(self._serve(reader, writer))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await self._link(reader, writer)
        finally:
            _reset(writer)
            self._clients.discard(writer)

    async def _link(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self.is_refusing:
            self.bitten["refused"] += 1
            return
        try:
            server_reader, server_writer = await asyncio.open_connection(self.host, self.server_port)
        except OSError:
            return  # the server is away: the client sees what it would see without us
        link = _Link(writer, server_writer)
        self._links.add(link)
        try:
            async with asyncio.TaskGroup() as pumps:
                pumps.create_task(self._to_server(link, reader))
                pumps.create_task(self._to_client(link, server_reader))
        except* OSError:
            pass  # one end is gone
        finally:
            self._links.discard(link)
            link.cut()

    async def _to_server(self, link: _Link, reader: asyncio.StreamReader) -> None:
        while chunk := await reader.read(_CHUNK):
            await self._wait_while_held()
            self._watch(chunk)
            if link.is_half_open:
                continue
            link.bite = self._choose(link, chunk, is_reply=False) or link.bite
            if link.bite is not None and link.bite.act is Act.LOSE_REQUEST:
                self._bite(link)
            await self._pass_on(link, link.server, chunk)
        raise ConnectionResetError  # the client has left: so does the server's end

    async def _to_client(self, link: _Link, reader: asyncio.StreamReader) -> None:
        while chunk := await reader.read(_CHUNK):
            await self._wait_while_held()
            link.bite = link.bite or self._choose(link, chunk, is_reply=True)
            if link.bite is not None:
                self._bite(link)
                continue
            await self._pass_on(link, link.client, chunk)
        if link.is_half_open:
            await asyncio.get_running_loop().create_future()  # until the client leaves by itself
        raise ConnectionResetError

    async def _pass_on(self, link: _Link, writer: asyncio.StreamWriter, chunk: bytes) -> None:
        weather = self.weather
        if weather.delay_s or weather.jitter_s:
            self.bitten["delayed"] += 1
            await asyncio.sleep(max(0.0, weather.delay_s + self.random.uniform(-1, 1) * weather.jitter_s))
        if link.passed + len(chunk) > weather.cut_after:
            self.bitten["cut_after"] += 1
            writer.write(chunk[: max(0, int(weather.cut_after) - link.passed)])
            with suppress(OSError, TimeoutError):
                async with asyncio.timeout(1):
                    await writer.drain()
            raise ConnectionResetError
        link.passed += len(chunk)
        for piece in self._pieces(chunk):
            writer.write(piece)
            try:
                await writer.drain()
            except ConnectionResetError:
                if not link.is_half_open:  # torn while this was on its way: the client is not to notice
                    raise
            if piece is not chunk:
                self.bitten["thinned"] += 1
                await asyncio.sleep(len(piece) / weather.bytes_per_s)

    def _pieces(self, chunk: bytes) -> Sequence[bytes]:
        """What may pass in a twentieth of a second at a time: a thin line is slow from its first byte on."""
        if math.isinf(self.weather.bytes_per_s):
            return [chunk]
        size = max(1, int(self.weather.bytes_per_s / 20))
        return [bytes(chunk[at : at + size]) for at in range(0, len(chunk), size)]

    def _watch(self, chunk: bytes) -> None:
        for name, word in self.watched.items():
            self.seen[name] += chunk.count(word)

    def _choose(self, link: _Link, chunk: bytes, *, is_reply: bool) -> Fault | None:
        """The first fault whose pattern is in the traffic and whom chance favours; a pattern may span two chunks."""
        faults = [fault for fault in self.faults if fault.is_in_reply is is_reply]
        seen = link.tails[is_reply] + chunk
        found = [fault for fault in faults if fault.pattern in seen]
        longest = max((len(fault.pattern) for fault in faults), default=1)
        link.tails[is_reply] = b"" if found or longest == 1 else seen[-(longest - 1) :]
        return next((fault for fault in found if self.random.random() < fault.share), None)

    def _bite(self, link: _Link) -> None:
        assert link.bite is not None
        fault, link.bite = link.bite, None
        self.bitten[fault.name] += 1
        if fault.act is not Act.DROP_REPLY:
            raise ConnectionResetError(fault.name)

    async def _wait_while_held(self) -> None:
        if not self._open.is_set():
            self.bitten["held"] += 1
            await self._open.wait()
