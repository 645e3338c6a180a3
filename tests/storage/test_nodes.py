"""Several servers: the one that takes writes is found, and one that was replaced is not gone back to."""

from __future__ import annotations

from collections.abc import Iterator

import anyio
import asyncpg
import pytest

from paynode import config
from paynode.config import Settings
from paynode.domain.errors import Unavailable
from paynode.storage import nodes
from paynode.storage.logins import Role, each_host
from paynode.storage.migrating import migrate
from paynode.storage.postgres import Pool, borrowed, pool, session
from tests.support.database import pointed_at
from tests.support.proxy import Proxy
from tests.support.replicas import Pair, pair
from tests.support.waiting import wait_until

PORT = "SELECT current_setting('port')::integer"


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("postgresql://o:x@db/pay", ["postgresql://o:x@db/pay"]),
        ("postgresql://o:x@/pay?host=/run/pg", ["postgresql://o:x@/pay?host=/run/pg"]),
        (
            "postgresql://o:x@a:1,[::1]:2,c/pay?sslmode=require",
            [
                "postgresql://o:x@a:1/pay?sslmode=require",
                "postgresql://o:x@[::1]:2/pay?sslmode=require",
                "postgresql://o:x@c/pay?sslmode=require",
            ],
        ),
        ("postgresql://a,b/pay", ["postgresql://a/pay", "postgresql://b/pay"]),
        (
            "postgresql://o:x@/pay?host=a,/run/pg&port=1,2",
            ["postgresql://o:x@/pay?host=a&port=1", "postgresql://o:x@/pay?host=/run/pg&port=2"],
        ),
        ("postgresql://a,b/pay?port=7", ["postgresql://a/pay?port=7", "postgresql://b/pay?port=7"]),
    ],
)
def test_a_list_of_hosts_is_as_many_urls(url: str, expected: list[str]) -> None:
    assert each_host(url) == expected


@pytest.fixture
def a_pair() -> Iterator[Pair]:
    with pair() as made:
        yield made


@pytest.fixture
async def both(a_pair: Pair) -> Settings:
    """Settings that name both servers of a pair."""
    url = await a_pair.begin()
    return pointed_at(config.load({"database": {"connect_timeout_s": 4.0}}), url, a_pair.home)


async def port_of(settings: Settings, role: Role = Role.OWNER) -> int:
    """Where a new session leads."""
    async with session(settings, role, application_name="test") as connection:
        return int(await connection.fetchval(PORT))


async def port_through(connections: Pool) -> int:
    async with borrowed(connections) as connection:
        return int(await connection.fetchval(PORT))


async def writes_through(connections: Pool) -> None:
    async with borrowed(connections) as connection:
        await connection.execute("CREATE TABLE written (a integer)")


def number(url: str) -> int:
    return int(url.rpartition(":")[2].partition("/")[0])


def forget_everything() -> None:
    """As in a process that has just been started."""
    nodes._clusters.clear()


async def test_a_replaced_primary_is_not_gone_back_to(a_pair: Pair, both: Settings) -> None:
    old, new = number(a_pair.url), number(a_pair.standby.url)
    assert await port_of(both) == old
    async with pool(both, Role.OWNER, application_name="test") as connections:
        assert await port_through(connections) == old
        a_pair.kill()
        with pytest.raises(Unavailable):
            await port_through(connections)
        await a_pair.promote()
        assert await port_through(connections) == new

        a_pair.start()  # as it was: it says that it takes writes, and it is the first of the list
        assert await a_pair.ask("SELECT NOT pg_is_in_recovery()")
        assert await port_of(both) == new
        assert await port_through(connections) == new
        forget_everything()
        assert await port_of(both) == new, "one that knows nothing asks both"

        a_pair.standby.stop()
        with pytest.raises(Unavailable, match="this server was replaced: its timeline is 1, and 2 was seen"):
            await port_of(both)
        with pytest.raises(Unavailable):
            await port_through(connections)


async def test_sessions_of_a_primary_that_was_cut_off_over_the_failover_are_left(a_pair: Pair, both: Settings) -> None:
    """It comes back with all of them, answers, and nothing that it says tells that another has taken its place."""
    old, new = number(a_pair.url), number(a_pair.standby.url)
    async with pool(both, Role.OWNER, application_name="test", size=2) as connections:
        async with borrowed(connections) as first, borrowed(connections) as second:
            assert await first.fetchval(PORT) == await second.fetchval(PORT) == old
        a_pair.pause()
        await a_pair.promote()
        a_pair.resume()
        assert await port_through(connections) == old, "it does not answer: the fault did not bite"
        assert await port_of(both) == new
        async with borrowed(connections) as first, borrowed(connections) as second:  # this process knows it now
            assert await first.fetchval(PORT) == await second.fetchval(PORT) == new


async def test_a_pool_whose_server_takes_no_more_writes_is_renewed_elsewhere(a_pair: Pair, both: Settings) -> None:
    old, new = number(a_pair.url), number(a_pair.standby.url)
    async with pool(both, Role.OWNER, application_name="test", size=2) as connections:
        async with borrowed(connections) as first, borrowed(connections) as second:
            assert await first.fetchval(PORT) == await second.fetchval(PORT) == old
        await a_pair.promote()
        await a_pair.alter("default_transaction_read_only", "on")

        await wait_until(lambda: is_read_only(a_pair), "the sessions have heard of it")
        with pytest.raises(Unavailable, match="25006"):  # else the pool was not pinned, and the fault did not bite
            await writes_through(connections)
        await writes_through(connections)  # one refusal renews all of it
        async with borrowed(connections) as first, borrowed(connections) as second:
            assert await first.fetchval(PORT) == await second.fetchval(PORT) == new


async def is_read_only(server: Pair) -> bool:
    return await server.ask("SELECT current_setting('default_transaction_read_only') = 'on'") is True


async def test_a_host_that_is_silent_uses_up_nobody_elses_time(untouched: Settings) -> None:
    async with Proxy.to(untouched.database.url, seed=1) as first:
        first.hold()
        named = untouched.database.url.rpartition("@")[2]
        url = untouched.database.url.replace(named, f"127.0.0.1:{first.port},{named}")
        there = pointed_at(untouched, url, untouched.data_dir)
        for role in (Role.OWNER, Role.READER, Role.INGRESS):
            with anyio.fail_after(untouched.database.connect_timeout_s):
                assert await port_of(there, role) == number(named)
            assert first.bitten["held"] > 0, "it was not asked: the fault did not bite"


async def test_nobody_is_sent_to_a_standby_of_several(a_pair: Pair, both: Settings) -> None:
    """Not those either who only read: what they answer would be older than what was told before."""
    await migrate(both)
    assert await port_of(both, Role.READER) == number(a_pair.url)
    a_pair.stop()
    for role in (Role.OWNER, Role.READER):
        with pytest.raises(Unavailable):
            await port_of(both, role)
    alone = pointed_at(both, a_pair.standby.url, both.data_dir)
    assert await port_of(alone, Role.READER) == number(a_pair.standby.url), "alone it may be read"
    with pytest.raises(Unavailable):
        await port_of(alone)


async def test_a_refused_log_in_is_told_although_there_are_more_hosts(untouched: Settings) -> None:
    named = untouched.database.url.rpartition("@")[2]
    wrong = f"postgresql://nobody:x@{named.partition('/')[0]},{named}"
    with pytest.raises(asyncpg.InvalidAuthorizationSpecificationError):
        await port_of(pointed_at(untouched, wrong, untouched.data_dir))
