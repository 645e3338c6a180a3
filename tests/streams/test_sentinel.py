"""The client of a service that sentinels watch, on a real one: a primary, its replica, three sentinels."""

from __future__ import annotations

import signal
from collections.abc import AsyncIterator
from contextlib import suppress
from typing import Any

import anyio
import pytest
from redis.exceptions import RedisError

from paynode import config
from paynode.config import Settings
from paynode.domain.errors import Unavailable
from paynode.domain.road import MERCHANTS_GROUP, Change, Pointer, events_stream
from paynode.streams.changes import changes
from paynode.streams.client import Redis, commands_client, is_up, reader_client, refuse_eviction
from paynode.streams.entries import Member
from paynode.streams.places import UrlRefused
from paynode.streams.publisher import RedisPublisher
from tests.support.redis_servers import (
    PASSWORD,
    SENTINEL_PASSWORD,
    RedisServer,
    Watched,
    one_server,
    watched_by_sentinels,
)
from tests.support.waiting import wait_until

STREAM = events_stream(0)
POOL = 8


@pytest.fixture(scope="module")
async def shared() -> AsyncIterator[Watched]:
    """For the tests that leave the primary what it is."""
    async with watched_by_sentinels() as watched:
        yield watched


@pytest.fixture
async def watched() -> AsyncIterator[Watched]:
    """For one test: after a failover the next one would have to wait for half a minute."""
    async with watched_by_sentinels() as watched:
        yield watched


def settings_of(url: str) -> Settings:
    return config.load({"redis": {"url": url, "command_timeout_s": 1, "pool_size": POOL}, "streams": {"block_ms": 200}})


@pytest.fixture
async def commands(watched: Watched) -> AsyncIterator[Redis]:
    async with commands_client(settings_of(watched.url)) as client:
        yield client


async def warm(client: Redis) -> None:
    """Use every connection of the pool at once."""

    async def use() -> None:
        with suppress(RedisError):
            await client.blpop(["nothing"], 0.1)

    async with anyio.create_task_group() as group:
        for _ in range(POOL):
            group.start_soon(use)


async def clients_of(server: RedisServer) -> int:
    """How many clients of paynode's kind a server has; sentinels, replicas and who asks are not counted."""
    async with server.client() as client:
        found: list[Any] = await client.client_list()
    return sum(one["flags"] == "N" and one["cmd"] != "client|list" and "sentinel" not in one["name"] for one in found)


async def have_all_moved(client: Redis, old: RedisServer, new: RedisServer) -> bool:
    await warm(client)
    return await clients_of(new) == POOL and await clients_of(old) == 0


async def can_publish(client: Redis) -> bool:
    try:
        await RedisPublisher(client).publish([Pointer(stream=STREAM, ref="x")])
    except Unavailable:
        return False
    return True


async def test_the_primary_is_found(shared: Watched) -> None:
    async with commands_client(settings_of(shared.url)) as commands:
        await refuse_eviction(commands)
        assert await is_up(commands)
        assert await can_publish(commands)
    async with (await shared.primary()).client() as client:
        assert await client.xlen(STREAM) == 1


async def test_a_primary_that_is_killed_is_followed_by_readers_writers_and_listeners(
    watched: Watched, commands: Redis
) -> None:
    settings = settings_of(watched.url)
    member, publisher = Member(STREAM, MERCHANTS_GROUP, "owner"), RedisPublisher(commands)
    heard: list[Change] = []

    async def listen() -> None:
        while True:
            async with reader_client(settings) as client:
                try:
                    async for change in changes(client):
                        heard.append(change)  # noqa: PERF401 - one by one, as they come
                except Unavailable:
                    await anyio.sleep(0.05)

    await member.make_group(commands)
    old = await watched.primary()
    async with reader_client(settings) as reader, anyio.create_task_group() as group:
        group.start_soon(listen)
        await warm(commands)
        assert await member.read(reader, after=">", count=1, block_ms=10) == []
        old.kill()
        await wait_until(lambda: can_publish(commands), "there is a new primary", 30)

        async def can_read() -> bool:
            try:
                await member.make_group(commands)  # the old one may have died before it had told anybody
                return bool(await member.read(reader, after=">", count=1, block_ms=10))
            except Unavailable:
                return False

        async def hears() -> bool:
            await publisher.announce([Change(payment_id="p", version=1)])
            return bool(heard)

        await wait_until(can_read, "the reader has followed", 10)
        await wait_until(hears, "the listener has followed", 10)
        group.cancel_scope.cancel()
    assert await watched.primary() is not old


async def test_a_primary_that_is_demoted_is_left_by_all_connections(watched: Watched, commands: Redis) -> None:
    await warm(commands)
    old = await watched.primary()
    async with watched.sentinels[0].client() as client:
        await client.execute_command("SENTINEL FAILOVER", "payments")
    new = await watched.until_moved(old)
    # It would hear of it after ten seconds, and take writes until then.
    await wait_until(lambda: have_all_moved(commands, old, new), "all connections are to the new primary", 10)
    assert await can_publish(commands)
    async with new.client() as client:
        assert await client.xlen(STREAM) == 1


async def test_a_primary_that_stood_still_is_not_gone_back_to(watched: Watched, commands: Redis) -> None:
    """It wakes up and believes that it is the primary still, for the seconds until the sentinels tell it."""
    await warm(commands)
    old = await watched.primary()
    old.send(signal.SIGSTOP)
    try:
        await wait_until(lambda: can_publish(commands), "there is a new primary", 30)
        new = await watched.primary()
        assert new is not old
    finally:
        old.send(signal.SIGCONT)
    await warm(commands)
    assert await clients_of(new) == POOL


async def test_sentinels_that_hang_or_are_gone_are_passed_over(shared: Watched) -> None:
    hanging, dead, _ = shared.sentinels
    hanging.send(signal.SIGSTOP)
    dead.kill()
    try:
        with anyio.fail_after(10):
            async with commands_client(settings_of(shared.url)) as client:
                assert await can_publish(client)
    finally:
        hanging.send(signal.SIGCONT)
        dead.start()
    await dead.until_ready()


@pytest.mark.parametrize(
    ("old", "new"),
    [("/payments", "/nobody"), ("other%20secret", "wrong"), (f":{PASSWORD}@", ":wrong@")],
    ids=["an unknown service", "a wrong password of the sentinels", "a wrong password of the servers"],
)
async def test_what_is_not_so_is_unavailable(shared: Watched, old: str, new: str) -> None:
    async with commands_client(settings_of(shared.url.replace(old, new))) as client:
        with pytest.raises(Unavailable):
            await refuse_eviction(client)


async def test_a_sentinel_is_refused_by_a_url_for_one_server(shared: Watched) -> None:
    secret = SENTINEL_PASSWORD.replace(" ", "%20")
    url = f"redis://:{secret}@127.0.0.1:{shared.sentinels[0].port}"
    async with commands_client(settings_of(url)) as client:
        with pytest.raises(UrlRefused, match=r"redis\+sentinel://"):
            await refuse_eviction(client)


async def test_one_server_that_becomes_a_replica_is_connected_to_anew() -> None:
    """Behind the name of one server another may come to stand: whoever says READONLY is not asked again."""
    async with one_server() as (server, url), commands_client(settings_of(url)) as commands, server.client() as other:
        await warm(commands)
        before = {one["id"] for one in await other.client_list()}
        await other.execute_command("REPLICAOF", "127.0.0.1", "1")
        with pytest.raises(Unavailable, match="READONLY"):
            await RedisPublisher(commands).publish([Pointer(stream=STREAM, ref=str(number)) for number in range(3)])
        await other.execute_command("REPLICAOF", "NO", "ONE")
        await warm(commands)
        assert await can_publish(commands)
        kept = before & {one["id"] for one in await other.client_list()}
        assert len(kept) == 1, "nobody but the one who asks here"
