"""Connections: how many there may be, from whom, and how those are answered whose requests cannot even be read."""

from __future__ import annotations

import asyncio
import ipaddress
from collections import Counter
from typing import Final

from aiohttp import web

from paynode.config import Http
from paynode.http.problem import CONTENT_TYPE, Problem, retry_after

# Bytes of a request line and of one header; the default of most servers.
_LINE_MAX: Final = 8190
# Headers of a request. Browsers send about 20, a proxy or two add ten.
_HEADERS_MAX: Final = 64
# Seconds in which the rest of a refused body may still arrive, so that the client reads the refusal and no reset.
_LINGER_S: Final = 1.0

_FULL: Final = Problem(status=503, code="too_many_connections", detail="too many connections are open")


class Door:
    """Makes connections, counts them, and turns away those beyond the caps."""

    def __init__(self, server: web.Server, limits: Http) -> None:
        self._server = server
        self._limits = limits
        self._loop = asyncio.get_running_loop()
        self._open = 0
        self._open_from: Counter[str] = Counter()

    def __call__(self) -> Connection:
        """One connection: the protocol factory of a listening socket."""
        return Connection(self, self._server, self._loop, keep_alive_s=self._limits.keep_alive_s)

    def enter(self, address: str) -> bool:
        """Whether one more connection from there may come in."""
        is_full = self._open >= self._limits.connections_max
        if is_full or self._open_from[address] >= self._limits.connections_per_address_max:
            return False
        self._open += 1
        self._open_from[address] += 1
        return True

    def leave(self, address: str) -> None:
        """One that came in is gone."""
        self._open -= 1
        self._open_from[address] -= 1
        if not self._open_from[address]:
            del self._open_from[address]  # else every address that ever came would stay


class Connection(web.RequestHandler):
    """aiohttp's own, behind the door. Before a whole request header is there, its keep-alive time is the deadline."""

    __slots__ = ("_address", "_door")

    def __init__(self, door: Door, server: web.Server, loop: asyncio.AbstractEventLoop, *, keep_alive_s: float) -> None:
        super().__init__(
            server,
            loop=loop,
            keepalive_timeout=keep_alive_s,
            access_log=None,  # type: ignore[arg-type]  # None is tested for: the middleware writes the line
            max_line_size=_LINE_MAX,
            max_field_size=_LINE_MAX,
            max_headers=_HEADERS_MAX,
            lingering_time=_LINGER_S,
            auto_decompress=False,
        )
        self._door = door
        self._address: str | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Come in, or be told that there is no place."""
        address = address_of(transport.get_extra_info("peername"))
        if self._door.enter(address):
            self._address = address
            super().connection_made(transport)
            return
        assert isinstance(transport, asyncio.Transport)
        transport.write(_refusal())
        transport.close()

    def data_received(self, data: bytes) -> None:
        """What one who was turned away still sends is not read."""
        if self._address is not None:
            super().data_received(data)

    def connection_lost(self, exc: BaseException | None) -> None:
        """Leave."""
        if self._address is not None:
            self._door.leave(self._address)
            super().connection_lost(exc)
            self._address = None

    def handle_error(
        self, request: web.BaseRequest, status: int = 500, exc: BaseException | None = None, message: str | None = None
    ) -> web.StreamResponse:
        """What never reached the application: broken framing, too large a header. Not logged: anyone can cause it."""
        detail = "the request cannot be read" if status < 500 else "the request failed"
        found = Problem(status=status, code="request_malformed" if status < 500 else "internal_error", detail=detail)
        found.is_last = True
        return found.response("")


def address_of(peer: object) -> str:
    """Who counts as one: an IPv4 address, or an IPv6 network of 64 bits, which is what one customer gets."""
    host = str(peer[0]) if isinstance(peer, tuple) and peer else ""
    try:
        address = ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return host
    if isinstance(address, ipaddress.IPv4Address):
        return host
    if address.ipv4_mapped is not None:
        return str(address.ipv4_mapped)
    return str(ipaddress.ip_network((int(address) >> 64 << 64, 64)))


def _refusal() -> bytes:
    body = _FULL.body("")
    fields = {"Content-Type": CONTENT_TYPE, "Content-Length": str(len(body)), "Connection": "close", **retry_after()}
    head = "".join(f"{name}: {value}\r\n" for name, value in fields.items())
    return f"HTTP/1.1 503 Service Unavailable\r\n{head}\r\n".encode("ascii") + body
