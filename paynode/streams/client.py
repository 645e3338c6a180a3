"""Connections to Redis, and its errors put on the error tree.

Commands are never retried by the client: an XADD whose reply was cut and that is sent again puts two entries, an
XREADGROUP that is sent again skips one. Whoever failed decides what is right to do again.
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Iterator
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager, contextmanager
from functools import partial
from typing import Any, Final, TypeAlias

import redis.asyncio as redis
from redis.exceptions import RedisError, ResponseError

from paynode.config import Settings
from paynode.domain.errors import Unavailable
from paynode.sections import SettingRefused
from paynode.streams.cluster import ClusterClient
from paynode.streams.connecting import ASK_S, BySentinels, Fixed, Whereabouts, closing, pool, sentinel_of
from paynode.streams.places import Address, Kind, Place, UrlRefused, parse
from paynode.streams.slots import SlotMap

# One server, the primary that the sentinels know, or a whole cluster: whoever uses it need not know which.
Redis: TypeAlias = redis.Redis


def commands_client(settings: Settings) -> AbstractAsyncContextManager[Redis]:
    """For everything that answers at once: a bounded pool, of each node, that waits for a free connection.

    Raises: UrlRefused.
    """
    limits = settings.redis
    return client_of(
        limits.url, size=limits.pool_size, timeout_s=limits.command_timeout_s, connect_s=limits.command_timeout_s
    )


def reader_client(settings: Settings) -> AbstractAsyncContextManager[Redis]:
    """For one blocking reader: a connection of its own, so that a read that waits stands in nobody's way.

    Its time-out is that of the read plus two seconds: an earlier one would leave the read's entries unseen.

    Raises: UrlRefused.
    """
    limits = settings.redis
    timeout_s = settings.streams.block_ms / 1000 + 2
    return client_of(limits.url, size=1, timeout_s=timeout_s, connect_s=limits.command_timeout_s)


@asynccontextmanager
async def client_of(url: str, *, size: int, timeout_s: float, connect_s: float) -> AsyncIterator[Redis]:
    """For whoever has a URL and no settings: up to `size` connections to each node.

    Raises: UrlRefused.
    """
    place = parse(url)

    def pool_of(whereabouts: Whereabouts) -> redis.ConnectionPool:
        return pool(place, whereabouts, size=size, timeout_s=timeout_s, connect_s=connect_s)

    def of_server(address: Address) -> Redis:
        return redis.Redis.from_pool(pool_of(Fixed(address)))

    async with AsyncExitStack() as stack:
        match place.kind:
            case Kind.SERVER:
                client = of_server(place.addresses[0])
            case Kind.SENTINELS:
                sentinel = await stack.enter_async_context(sentinel_of(place))
                client = redis.Redis.from_pool(pool_of(BySentinels(sentinel, place.service)))
            case Kind.CLUSTER:
                slots = SlotMap(place.addresses, partial(_read_slots, place))
                client = ClusterClient(slots, pool_of(slots), of_server)
        try:
            yield client
        finally:
            with closing():
                await client.aclose()


async def _read_slots(place: Place, address: Address) -> Any:
    """What a node says about who owns what; by a connection that is not kept, for it is seldom asked."""
    async with redis.Redis.from_pool(pool(place, Fixed(address), size=1, timeout_s=ASK_S, connect_s=ASK_S)) as node:
        # The callback would make a mapping of it that says less.
        node.response_callbacks.pop("CLUSTER SLOTS", None)
        try:
            return await node.execute_command("CLUSTER SLOTS")  # type: ignore[no-untyped-call]
        except ResponseError as error:
            raise UrlRefused(f"names no node of a cluster ({error})") from error


async def is_up(client: Redis) -> bool:
    """Whether Redis answers."""
    try:
        with translated():
            await client.ping()
    except Unavailable:
        return False
    return True


async def refuse_eviction(client: Redis) -> None:
    """A Redis that evicts forgets messages whenever it likes: better not to start. Nor by the URL of another kind.

    Raises: EvictionRefused, UrlRefused, Unavailable.
    """
    with translated():
        is_cluster, nodes = False, [client]
        if isinstance(client, ClusterClient):
            is_cluster, nodes = True, await client.primaries()
        for node in nodes:
            about = await node.info("server", "memory")
            mode = about.get("redis_mode") or about.get("server_mode", "standalone")  # as Redis says, as Valkey says
            if mode != "standalone" and not (is_cluster and mode == "cluster"):
                raise UrlRefused(f"names a server in {mode} mode; that URL begins with redis+{mode}://")
            policy = about.get("maxmemory_policy", "noeviction")
            if policy != "noeviction":
                raise EvictionRefused(f"Redis has maxmemory-policy {policy}; paynode needs noeviction")


class EvictionRefused(SettingRefused):
    """Redis is set up to forget."""


@contextmanager
def translated() -> Iterator[None]:
    """Put Redis's errors on the error tree.

    All of them: what a server refuses, a key of the wrong type or a stream that has no ids left, may be anybody's doing
    who can reach it, and must not end a process that serves other streams too.
    """
    try:
        yield
    except ResponseError as error:
        if is_group_missing(error):
            raise GroupMissing from error
        raise Unavailable(f"redis: {_first_word(error)} {error}") from error
    except (RedisError, OSError) as error:
        raise Unavailable(f"redis: {type(error).__name__}") from error


# What a pipeline makes of an error's words: it names the command first, whose own words may be anybody's.
_IN_PIPELINE: Final = re.compile(r".* of pipeline caused error: \(['\"]", re.DOTALL)


def _first_word(error: ResponseError) -> str:
    """The word by which a server tells what kind of error it is."""
    # Of the kinds that it knows, the client takes the word out of the text.
    return str(error.status_code or _IN_PIPELINE.sub("", str(error), count=1).split(" ", 1)[0])


class GroupMissing(Unavailable):
    """The stream or its group is gone (FLUSHALL, a lost failover): it is to be made again, from its beginning."""

    code = "group_missing"


def is_group_missing(error: ResponseError) -> bool:
    """Redis says NOGROUP to a read; to one that was already waiting, Valkey says UNBLOCKED."""
    return _first_word(error) in ("NOGROUP", "UNBLOCKED")
