"""Redis as a cluster and behind sentinels: nodes that are killed, replaced, demoted and moved, under load."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import anyio
import pytest
from redis.crc import key_slot
from redis.exceptions import RedisError

from paynode.config import Settings
from paynode.domain.road import commands_stream, events_stream
from tests.faults.running import start, until_quiet
from tests.support.installation import Installation, Merchant, installed
from tests.support.laws import check_laws
from tests.support.load import History, pay_many
from tests.support.redis_servers import Cluster, RedisServer, Watched, redis_cluster, watched_by_sentinels
from tests.support.waiting import wait_until

STREAMS = [events_stream(number) for number in range(32)]
COMMANDS = commands_stream("sim")
# The goal is 10 s on a machine of its own; here others may have most of it.
RECOVERY_S = 40.0


class Load:
    """Payments without end, until told to stop; all of them are accepted."""

    def __init__(self, installation: Installation, merchants: list[Merchant]) -> None:
        self.installation = installation
        self.history = History()
        self._merchants = merchants
        self._is_enough = False

    async def run(self) -> None:
        number = 0
        while not self._is_enough:
            number += 1
            await pay_many(
                self.installation, self._merchants, self.history, count=8, clients=4, prefix=f"round-{number}"
            )
            # Not as fast as it goes: what is looked for is a standstill, not a backlog of a machine that is busy.
            await anyio.sleep(0.2)

    def stop(self) -> None:
        self._is_enough = True

    async def more(self, count: int = 40) -> None:
        wanted = len(self.history.accepted) + count
        await wait_until(lambda: len(self.history.accepted) >= wanted, f"{count} more payments are accepted", 60)

    async def recovers(self, what: str) -> None:
        """Wait until a payment that is accepted from now on goes its whole way, and all before it has ended."""
        begun = time.monotonic()
        await self.more(1)
        [row] = await self.installation.rows("SELECT now() AS now")

        async def has_ended() -> bool:
            [left] = await self.installation.rows(
                "SELECT count(*) AS n FROM payments WHERE created_at < $1 AND status IN ('created', 'processing')",
                row["now"],
            )
            return bool(left["n"] == 0)

        await wait_until(has_ended, f"all that was accepted before {what} was over has ended", RECOVERY_S)
        print(f"recovery from {what}: {time.monotonic() - begun:.1f} s")


@asynccontextmanager
async def under_load(settings: Settings, url: str, directory: Path) -> AsyncIterator[Load]:
    """One of each process on that Redis; at the end all is as it must be, and nobody had to be restarted."""
    async with installed(settings, url, directory) as installation:
        load = Load(installation, await installation.merchants(10))
        await start(installation, "psp-sim", "serve", "worker", "scheduler")
        async with anyio.create_task_group() as paying:
            paying.start_soon(load.run)
            await load.more()
            yield load
            load.stop()
        assert not load.history.refused, load.history.refused
        assert load.history.lost == 0
        await until_quiet(installation)
        await check_laws(installation, load.history.accepted)
        for process in installation.processes:
            assert process.popen.poll() is None, process.verb
            assert "Traceback" not in process.log.read_text(), process.log
        await anyio.to_thread.run_sync(installation.end)


# -- sentinels ------------------------------------------------------------------------------------------------------


@pytest.fixture
async def watched() -> AsyncIterator[Watched]:
    async with watched_by_sentinels() as watched:
        yield watched


@pytest.mark.long
async def test_a_primary_may_be_killed_and_another_demoted(
    settings: Settings, watched: Watched, tmp_path: Path
) -> None:
    async with under_load(settings, watched.url, tmp_path) as load:
        first = await watched.primary()
        first.kill()
        second = await watched.until_moved(first)
        await load.recovers("a killed primary")
        assert await consumers(second) > 0, "nobody reads from the new primary"
        first.start()
        await wait_until(lambda: follows(first, second), "the first one follows the second", 60)
        await load.more()
        async with second.client() as client:
            await client.execute_command("CLIENT KILL", "TYPE", "pubsub")
        await wait_until(lambda: fails_over(watched), "the sentinels agree to move it back", 60)
        assert await watched.until_moved(second) is first
        await load.recovers("a demoted primary")
        assert await consumers(first) > 0, "nobody reads from the new primary"


async def fails_over(watched: Watched) -> bool:
    """Ask for a failover; for a while after the last one, and until they know the replica, they refuse it."""
    async with watched.sentinels[0].client() as client:
        answer = await client.execute_command("SENTINEL FAILOVER", "payments", EMPTY_RESPONSE="refused")
    return bool(answer != "refused")


async def follows(server: RedisServer, primary: RedisServer) -> bool:
    try:
        async with server.client() as client:
            about = await client.info("replication")
    except (RedisError, OSError):
        return False
    found = (about["role"], about.get("master_port"), about.get("master_link_status"))
    return found == ("slave", primary.port, "up")


async def consumers(server: RedisServer) -> int:
    """How many readers the streams have here."""
    count = 0
    async with server.client() as client:
        for stream in (COMMANDS, *STREAMS):
            if await client.exists(stream):
                count += sum(group["consumers"] for group in await client.xinfo_groups(stream))
    return count


# -- cluster --------------------------------------------------------------------------------------------------------


@pytest.fixture
async def cluster() -> AsyncIterator[Cluster]:
    """The first of the three primaries has a replica."""
    async with redis_cluster(replicas=1) as cluster:
        yield cluster


@pytest.mark.long
async def test_nodes_of_a_cluster_may_be_replaced_or_gone_for_a_while(
    settings: Settings, cluster: Cluster, tmp_path: Path
) -> None:
    async with under_load(settings, cluster.url, tmp_path) as load:
        first, second, _ = cluster.primaries
        [replica] = cluster.replicas
        held = [stream for stream in STREAMS if await owner(cluster, stream) is first]
        assert held
        first.kill()
        await wait_until(lambda: owns(cluster, replica, held), "the replica owns what the first one had", 60)
        await load.recovers("a node that was replaced")
        first.start()  # as a replica of its replica
        await cluster.until_whole()
        second.kill()  # which nobody can replace: without it there is no cluster
        await load.more()
        second.start()
        await cluster.until_whole()
        await load.recovers("a node that was away")


async def test_streams_may_move_between_the_nodes_of_a_cluster(
    settings: Settings, cluster: Cluster, tmp_path: Path
) -> None:
    async with under_load(settings, cluster.url, tmp_path) as load:
        last = cluster.primaries[2]
        moved = [COMMANDS, *STREAMS[:8]]
        before = {stream: await owner(cluster, stream) for stream in moved}
        assert any(source is not last for source in before.values())
        for stream, source in before.items():
            if source is not last:
                await move(stream, source, last)
        await load.more()
        await load.recovers("streams that moved")
        assert await owns(cluster, last, moved)


async def move(stream: str, source: RedisServer, target: RedisServer) -> None:
    """Move a slot as `valkey-cli --cluster reshard` does, with all that is in it."""
    slot = key_slot(stream.encode())
    async with source.client() as old, target.client() as new:
        old_id, new_id = [(await one.execute_command("CLUSTER MYID")).decode() for one in (old, new)]
        await new.execute_command("CLUSTER SETSLOT", slot, "IMPORTING", old_id)
        await old.execute_command("CLUSTER SETSLOT", slot, "MIGRATING", new_id)
        while keys := await old.execute_command("CLUSTER GETKEYSINSLOT", slot, 100):
            where = ("127.0.0.1", target.port, "", 0, 5000, "AUTH", target.password)
            await old.execute_command("MIGRATE", *where, "KEYS", *keys)
        for one in (new, old):
            await one.execute_command("CLUSTER SETSLOT", slot, "NODE", new_id)


async def owns(cluster: Cluster, node: RedisServer, streams: list[str]) -> bool:
    return all([await owner(cluster, stream) is node for stream in streams])


async def owner(cluster: Cluster, stream: str) -> RedisServer:
    """Who owns a stream, as the third node sees it."""
    slot = key_slot(stream.encode())
    async with cluster.primaries[2].client() as client:
        for first, last, (_, port, *_), *_ in await client.execute_command("CLUSTER SLOTS"):
            if first <= slot <= last:
                return next(node for node in cluster.nodes if node.port == port)
    raise AssertionError(f"nobody owns {stream}")
