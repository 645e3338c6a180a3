"""Connections that ask where to go each time they are made, and leave a server that has lost its place.

The client's own pools keep writing to a demoted server until each of their connections has failed once. Here the
first one that hears READONLY, or that is sent elsewhere, takes all others of its pool along.
"""

from __future__ import annotations

import math
import time
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from typing import Any, ClassVar, Final

import anyio
import redis.asyncio as redis
from redis.asyncio.connection import SSLConnection
from redis.asyncio.retry import Retry
from redis.asyncio.sentinel import Sentinel
from redis.backoff import NoBackoff
from redis.exceptions import ConnectionError as Disconnected
from redis.exceptions import ReadOnlyError, RedisError

from paynode.streams.places import Address, Login, Place

# Seconds for one sentinel, or one node that is asked for the map: they answer from memory. One that hangs is passed
# over; with the three that are usual a failover is found through the last of them within 3 s.
ASK_S: Final = 1.0
# Seconds for saying goodbye to all connections of a client. On a machine that stands still one second was too short:
# connections that had not had their turn were left to the garbage collector.
_CLOSE_S: Final = 5.0


class Whereabouts(ABC):
    """Where a server is. `moves` counts up whenever connections of before are not to be used any longer."""

    # Seconds after which it is looked for again though nothing has failed: never, where a failure would tell.
    again_s: ClassVar[float] = math.inf

    def __init__(self) -> None:
        self.moves = 0
        self._last: Address | None = None
        self._asked_at_s = -math.inf

    @abstractmethod
    async def find(self) -> Address:
        """Its address now. Raises: RedisError, OSError."""

    async def look_again(self) -> None:
        """Find it again when its time has come; no news where nobody answers."""
        if time.monotonic() - self._asked_at_s > self.again_s:
            with suppress(RedisError, OSError):
                await self.ask()

    async def ask(self) -> Address:
        """Find it, and have it noticed when that is somewhere else than before."""
        self._asked_at_s = time.monotonic()  # first: others need not ask at the same time
        address = await self.find()
        if address != self._last:
            self._last = address
            self.moves += 1
        return address

    def doubt(self, since: int) -> None:
        """Something is wrong there, says a connection that was made `since` this many moves."""
        if self.moves == since:  # else somebody has said so already, and the others have moved on
            self.moves += 1


class Fixed(Whereabouts):
    """A server that stays. Behind its name another may come to stand, so that READONLY is a reason to connect anew."""

    def __init__(self, address: Address) -> None:
        super().__init__()
        self._address = address

    async def find(self) -> Address:
        """What we were told."""
        return self._address


class BySentinels(Whereabouts):
    """The primary of a service, as the sentinels know it."""

    # One that is demoted by hand hears of it some 10 s later, and until then takes writes that are lost with it.
    again_s = 1.0

    def __init__(self, sentinel: Sentinel, service: str) -> None:
        super().__init__()
        self._sentinel = sentinel
        self._service = service

    async def find(self) -> Address:
        """The first sentinel that answers and holds it for alive decides."""
        host, port = await self._sentinel.discover_master(self._service)
        return Address(str(host), int(port))


class FollowingConnection(redis.Connection):
    """A connection to wherever the server is."""

    def __init__(self, *, whereabouts: Whereabouts, **arguments: Any) -> None:
        super().__init__(**arguments)
        self._whereabouts = whereabouts
        self._moves = whereabouts.moves

    async def connect(self) -> None:
        """What a pool calls before it hands a connection out."""
        if self.is_connected:
            await self._whereabouts.look_again()
        if self.is_connected and self._moves != self._whereabouts.moves:
            await self.disconnect()
        await super().connect()  # type: ignore[no-untyped-call]

    async def connect_check_health(self, check_health: bool = True, retry_socket_connect: bool = True) -> None:
        """Connect and log in, if that is not done yet."""
        try:
            await super().connect_check_health(check_health, retry_socket_connect)
        except RedisError:
            self._whereabouts.doubt(self._moves)
            raise

    async def _connect(self) -> None:
        self.host, self.port = await self._whereabouts.ask()
        self._moves = self._whereabouts.moves
        await super()._connect()  # type: ignore[no-untyped-call]

    async def send_packed_command(self, command: Any, check_health: bool = True) -> None:
        """Write a command. uvloop has a word of its own for a connection that was reset a moment ago."""
        try:
            await super().send_packed_command(command, check_health)
        except RuntimeError as error:
            raise Disconnected(f"reset before it was written to: {error}") from error

    async def read_response(self, *arguments: Any, **options: Any) -> Any:
        """An answer; READONLY is one that says that we are in the wrong place."""
        try:
            return await super().read_response(*arguments, **options)
        except ReadOnlyError:
            self._whereabouts.doubt(self._moves)
            raise


class FollowingTlsConnection(FollowingConnection, SSLConnection):
    """The same by TLS."""


def pool(
    place: Place, whereabouts: Whereabouts, *, size: int, timeout_s: float, connect_s: float
) -> redis.ConnectionPool:
    """A bounded pool that waits for a free connection and tries nothing a second time."""
    return redis.BlockingConnectionPool(
        connection_class=FollowingConnection if place.tls is None else FollowingTlsConnection,
        whereabouts=whereabouts,
        db=place.database,
        max_connections=size,
        timeout=timeout_s,
        **_arguments(place, place.login, timeout_s=timeout_s, connect_s=connect_s),
    )


@asynccontextmanager
async def sentinel_of(place: Place) -> AsyncIterator[Sentinel]:
    """The sentinels that a URL names."""
    arguments = _arguments(place, place.sentinel_login, timeout_s=ASK_S, connect_s=ASK_S)
    # The client gives it no types.
    sentinel = Sentinel(  # type: ignore[no-untyped-call]
        place.addresses, sentinel_kwargs=arguments | {"ssl": place.tls is not None}
    )
    try:
        yield sentinel
    finally:
        with closing():
            await sentinel.aclose()


@contextmanager
def closing() -> Iterator[None]:
    """Around closing what is to be closed even when whoever used it was cancelled; not for long, for it may hang."""
    # Whoever does not answer any more does not hear it either.
    with anyio.move_on_after(_CLOSE_S, shield=True), suppress(RedisError, OSError):
        yield


def _arguments(place: Place, login: Login, *, timeout_s: float, connect_s: float) -> dict[str, Any]:
    return {
        "username": login.username,
        "password": login.password,
        "protocol": 2,
        "socket_timeout": timeout_s,
        "socket_connect_timeout": connect_s,
        "retry": Retry(NoBackoff(), 0),
        **(place.tls or {}),
    }
