"""Connections to Redis, and its errors put on the error tree.

Commands are never retried by the client: an XADD whose reply was cut and that is sent again puts two entries, an
XREADGROUP that is sent again skips one. Whoever failed decides what is right to do again.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import TypeAlias

import redis.asyncio as redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError, ResponseError

from paynode.config import Settings
from paynode.domain.errors import Unavailable

Redis: TypeAlias = redis.Redis


@asynccontextmanager
async def commands_client(settings: Settings) -> AsyncIterator[Redis]:
    """For everything that answers at once: a bounded pool that waits for a free connection."""
    limits = settings.redis
    pool = redis.BlockingConnectionPool.from_url(
        settings.redis.url,
        protocol=2,
        max_connections=limits.pool_size,
        timeout=limits.command_timeout_s,
        socket_timeout=limits.command_timeout_s,
        socket_connect_timeout=limits.command_timeout_s,
        retry=Retry(NoBackoff(), 0),
    )
    client = redis.Redis.from_pool(pool)
    try:
        yield client
    finally:
        await client.aclose()


@asynccontextmanager
async def reader_client(settings: Settings) -> AsyncIterator[Redis]:
    """For one blocking reader: a connection of its own, so that a read that waits stands in nobody's way.

    Its time-out is that of the read plus two seconds: an earlier one would leave the read's entries unseen.
    """
    client = redis.Redis.from_url(
        settings.redis.url,
        protocol=2,
        single_connection_client=True,
        socket_timeout=settings.streams.block_ms / 1000 + 2,
        socket_connect_timeout=settings.redis.command_timeout_s,
        retry=Retry(NoBackoff(), 0),
    )
    try:
        yield client
    finally:
        await client.aclose()


async def is_up(client: Redis) -> bool:
    """Whether Redis answers."""
    try:
        with translated():
            await client.ping()
    except Unavailable:
        return False
    return True


async def refuse_eviction(client: Redis) -> None:
    """A Redis that evicts forgets messages whenever it likes: better not to start.

    Raises: EvictionRefused, Unavailable.
    """
    with translated():
        memory = await client.info("memory")
    policy = memory.get("maxmemory_policy", "noeviction")
    if policy != "noeviction":
        raise EvictionRefused(f"Redis has maxmemory-policy {policy}; paynode needs noeviction")


class EvictionRefused(Exception):
    """Redis is set up to forget."""


@contextmanager
def translated() -> Iterator[None]:
    """Put Redis's errors on the error tree; a wrong command (a bug) passes as it is."""
    try:
        yield
    except ResponseError as error:
        if is_group_missing(error):
            raise GroupMissing from error
        if str(error).split(" ", 1)[0] in _PASSING:
            raise Unavailable(f"redis: {error}") from error
        raise
    except (RedisError, OSError) as error:
        raise Unavailable(f"redis: {type(error).__name__}") from error


# First words of errors that pass: starting up, a failover under way, memory full, a script running.
_PASSING = frozenset({"LOADING", "READONLY", "MASTERDOWN", "OOM", "BUSY", "TRYAGAIN", "CLUSTERDOWN", "MISCONF"})


class GroupMissing(Unavailable):
    """The stream or its group is gone (FLUSHALL, a lost failover): it is to be made again, from its beginning."""

    code = "group_missing"


def is_group_missing(error: ResponseError) -> bool:
    """Redis says NOGROUP to a read; to one that was already waiting, Valkey says UNBLOCKED."""
    return str(error).startswith(("NOGROUP", "UNBLOCKED"))
