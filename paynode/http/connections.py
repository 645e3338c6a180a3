"""Connections: how many there may be, from whom, and how those are answered whose requests cannot even be read."""

from __future__ import annotations

import asyncio
import ipaddress
from collections import Counter, OrderedDict
from typing import Final, cast

from aiohttp import web

from paynode.http.dressing import written
from paynode.http.glance import Glance, Refusing
from paynode.http.problem import Problem, retry_after
from paynode.sections import Http

# Bytes of a request line and of one header; the default of most servers.
_LINE_MAX: Final = 8190
# Headers of a request. Browsers send about 20, a proxy or two add ten.
_HEADERS_MAX: Final = 64
# Seconds in which the rest of a refused body may still arrive, so that the client reads the refusal and no reset.
_LINGER_S: Final = 1.0
# Bytes of refusals that a client may leave unread, some eighty of them.
_UNREAD_MAX: Final = 65536

_FULL: Final = Problem(
    status=503, code="too_many_connections", detail="too many connections are open", headers=retry_after(), is_last=True
)


class Door:
    """Makes connections, counts them, and sees to it that one more always finds a place.

    From one address there may be so many and no more. In all there may be so many too, but a newcomer takes the place
    of one without a request that holds a place: first of one that has never carried a request, the oldest of them, then
    of the one that carried its last request longest ago. There are always fewer places than connections may be
    (`overload.requests_max`), so that there is one, and nobody keeps a PSP's callback out by opening connections.
    """

    def __init__(self, server: web.Server, limits: Http, refusing: Refusing) -> None:
        self._server = server
        self._limits = limits
        self._refusing = refusing
        self._loop = asyncio.get_running_loop()
        # In the order of their coming, and in that of their last request.
        self._unproven: OrderedDict[Connection, None] = OrderedDict()
        self._proven: OrderedDict[Connection, None] = OrderedDict()
        self._open_from: Counter[str] = Counter()

    def __call__(self) -> Connection:
        """One connection: the protocol factory of a listening socket."""
        glance = Glance(self._refusing)
        return Connection(self, self._server, glance, self._loop, keep_alive_s=self._limits.keep_alive_s)

    @property
    def open(self) -> int:
        """How many have come in and not gone."""
        return len(self._unproven) + len(self._proven)

    def enter(self, connection: Connection, address: str) -> bool:
        """Whether one more connection from there may come in."""
        if self._open_from[address] >= self._limits.connections_per_address_max:
            return False
        if self.open >= self._limits.connections_max and not self._make_room():
            return False
        self._unproven[connection] = None
        self._open_from[address] += 1
        return True

    def leave(self, connection: Connection, address: str) -> None:
        """One that came in is gone, or is about to be."""
        self._unproven.pop(connection, None)
        self._proven.pop(connection, None)
        self._open_from[address] -= 1
        if not self._open_from[address]:
            del self._open_from[address]  # else every address that ever came would stay

    def was_of_use(self, connection: Connection) -> None:
        """A request came over it."""
        if connection in self._unproven:
            del self._unproven[connection]
            self._proven[connection] = None
        elif connection in self._proven:
            self._proven.move_to_end(connection)

    def _make_room(self) -> bool:
        for ones in (self._unproven, self._proven):
            for _ in range(len(ones)):
                connection = next(iter(ones))
                if connection.may_give_way:
                    connection.give_way()
                    return True
                ones.move_to_end(connection)  # busy: looked at last next time
        return False


class Connection(web.RequestHandler):
    """aiohttp's own, behind the door. Before a whole request header is there, its keep-alive time is the deadline."""

    __slots__ = ("_address", "_door", "_glance", "_has_given_way", "_is_slack", "_wire")

    def __init__(
        self, door: Door, server: web.Server, glance: Glance, loop: asyncio.AbstractEventLoop, *, keep_alive_s: float
    ) -> None:
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
        self._glance = glance
        self._address: str | None = None
        self._wire: asyncio.Transport | None = None
        self._has_given_way = False
        self._is_slack = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Come in, or be told that there is no place."""
        transport = cast(asyncio.Transport, transport)  # uvloop's is one, and does not say so
        address = address_of(transport.get_extra_info("peername"))
        if self._door.enter(self, address):
            self._address, self._wire = address, transport
            super().connection_made(transport)
            return
        transport.write(written(_FULL))
        transport.close()

    def data_received(self, data: bytes) -> None:
        """Read, unless the request is turned away by its first bytes, or its sender was by the door."""
        if self._address is None:
            return
        is_idle = self.is_idle
        if is_idle:
            self._is_slack = False  # a request begins
        answer, data = self._glance.look(data, is_idle=is_idle)
        if answer:
            self._turn_away(answer)
        if data:
            super().data_received(data)

    def connection_lost(self, exc: BaseException | None) -> None:
        """Leave, unless that is done: who gave way has left before the connection was closed."""
        self._glance.arrived()
        if self._address is not None:
            self._leave()
            super().connection_lost(exc)
        elif self._has_given_way:
            super().connection_lost(exc)

    @property
    def is_idle(self) -> bool:
        """Whether no request is under way: none has been read to the end of its head since the last answer."""
        # As aiohttp itself asks before it closes what was idle for too long.
        return self._waiter is not None and not self._waiter.done()

    @property
    def may_give_way(self) -> bool:
        """Whether nothing is lost that holds a place: it is idle, or waits for its client alone."""
        return self.is_idle or self._is_slack

    def give_way(self) -> None:
        """Close, for a newcomer's sake. A client whose next request crosses with this sees what an idle time-out is."""
        assert self._wire is not None
        self._has_given_way = True
        self._leave()
        self.force_close()
        # Closing waits until all is written: for ever, if the client does not read.
        self._loop.call_later(_LINGER_S, self._wire.abort)

    def force_close(self) -> None:
        """Close, unheard. Until all is written it stays, and what is being closed holds no place."""
        self._is_slack = True
        super().force_close()

    def slacken(self) -> None:
        """From now on it waits for its client, who may take his time to send a body or to read an answer."""
        self._is_slack = True

    def was_of_use(self) -> None:
        """A request came over it, and asks for its place."""
        self._is_slack = False
        self._glance.arrived()
        self._door.was_of_use(self)

    def _turn_away(self, answer: bytes) -> None:
        assert self.transport is not None
        self.transport.write(answer)
        if self.transport.get_write_buffer_size() > _UNREAD_MAX:
            self.transport.abort()  # it only asks, and reads no answer
        self.was_of_use()
        # It was an answer like any other: the connection is idle from now on.
        self._next_keepalive_close_time = self._loop.time() + self.keepalive_timeout

    def _leave(self) -> None:
        assert self._address is not None
        self._door.leave(self, self._address)
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
