"""Redis servers of a test's own, that may be killed, stopped for a while and started again: one, a cluster, sentinels.

All listen on loopback, end with the test process whatever becomes of it, and keep their ports over a restart.
"""

from __future__ import annotations

import os
import signal
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import ExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import redis.asyncio as redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

from paynode.embedded.binaries import find_redis
from paynode.embedded.files import write_private
from paynode.embedded.home import Home, open_home
from paynode.embedded.spawning import Server
from tests.support.directories import open_directory
from tests.support.installation import free_ports
from tests.support.waiting import wait_until, wait_until_sync

PASSWORD: Final = "secret"
SENTINEL_PASSWORD: Final = "other secret"
SERVICE: Final = "payments"
# Milliseconds without an answer after which a node counts as down. Short, because the tests wait for it; on a machine
# that stands still for longer there is a failover more, which does no harm.
DOWN_AFTER_MS: Final = 1000
_START_S: Final = 60.0

_ONE: Final = """\
bind 127.0.0.1
port {port}
daemonize no
dir ./{name}
{more}
"""
_DATA: Final = f"""\
requirepass {PASSWORD}
masterauth {PASSWORD}
save ""
maxmemory-policy noeviction
repl-diskless-sync-delay 0
appendonly yes
appendfsync everysec
"""
_CLUSTER: Final = f"""\
cluster-enabled yes
cluster-config-file nodes.conf
cluster-node-timeout {DOWN_AFTER_MS}
"""


@dataclass(slots=True)
class RedisServer:
    """One server. `start` and what follows from it belong into the main thread."""

    name: str
    port: int
    more: str
    arguments: Sequence[str]
    password: str
    home: Home
    program: Path
    lock: int
    _server: Server | None = None

    @property
    def directory(self) -> Path:
        """Where its data are."""
        return self.home.path / self.name

    def start(self) -> None:
        """Start it, on the data of before if there are any."""
        assert self._server is None
        if not self.directory.exists():
            self.home.make_directory(self.name)
            # In the directory that is the server's own: sentinels, and servers that they move, rewrite it.
            text = _ONE.format(port=self.port, name=self.name, more=self.more)
            write_private(self.directory / "server.conf", text, self.home.account)
        self._server = Server(
            self.name,
            [str(self.program), f"{self.name}/server.conf", *self.arguments],
            self.home,
            lock=self.lock,
            death_signal=signal.SIGKILL,
        )

    def send(self, number: signal.Signals) -> None:
        """Any signal."""
        assert self._server is not None
        os.kill(self._server.pid, number)

    def kill(self) -> None:
        """kill -9."""
        self.send(signal.SIGKILL)
        self.wait_until_ended()

    def stop(self) -> None:
        """As an operator does: it writes down what is left."""
        self.send(signal.SIGTERM)
        self.wait_until_ended()

    def wait_until_ended(self) -> None:
        """Return when the process is gone."""
        server = self._server
        assert server is not None
        wait_until_sync(server.has_exited, f"{self.name} has ended", 30)
        self._server = None

    def end(self) -> None:
        """End it if it runs."""
        if self._server is not None:
            self.kill()

    @asynccontextmanager
    async def client(self) -> AsyncIterator[Any]:
        """A client of this server alone, in whose answers types do not matter."""
        async with redis.Redis(
            port=self.port,
            password=self.password or None,
            protocol=2,
            socket_timeout=5,
            retry=Retry(NoBackoff(), 0),
        ) as client:
            yield client

    async def until_ready(self) -> None:
        """Return when it answers."""

        async def answers() -> bool:
            assert self._server is not None
            assert not self._server.has_exited(), self._server.exit_report()
            try:
                async with self.client() as client:
                    return bool(await client.ping())
            except (RedisError, OSError):
                return False

        await wait_until(answers, f"{self.name} answers", _START_S)


@dataclass(slots=True)
class Servers:
    """Makes servers below one directory."""

    home: Home
    program: Path
    lock: int
    made: list[RedisServer] = field(default_factory=list)

    def make(self, name: str, port: int, more: str, *arguments: str, password: str = PASSWORD) -> RedisServer:
        """One server, not yet started."""
        server = RedisServer(name, port, more, arguments, password, self.home, self.program, self.lock)
        self.made.append(server)
        return server


@contextmanager
def redis_servers() -> Iterator[Servers]:
    """All that were made have ended at the end."""
    with ExitStack() as stack:
        home = open_home(stack.enter_context(open_directory()))
        lock = os.open(os.devnull, os.O_RDONLY)
        stack.callback(os.close, lock)
        servers = Servers(home, find_redis(home), lock)
        try:
            yield servers
        finally:
            for server in servers.made:
                server.end()


@asynccontextmanager
async def one_server() -> AsyncIterator[tuple[RedisServer, str]]:
    """A server of one's own, and its URL."""
    with redis_servers() as servers:
        [port] = free_ports(1)
        server = servers.make("redis", port, _DATA)
        server.start()
        await server.until_ready()
        yield server, f"redis://:{PASSWORD}@127.0.0.1:{port}/0"


@dataclass(slots=True)
class Cluster:
    """Nodes: first the primaries, then one replica for each of the first of them."""

    primaries: list[RedisServer]
    replicas: list[RedisServer]
    url: str

    @property
    def nodes(self) -> list[RedisServer]:
        """All of them."""
        return [*self.primaries, *self.replicas]

    async def until_whole(self, timeout: float = 60.0) -> None:
        """Wait until each node that runs holds every slot for served, as far as it can see."""

        async def is_whole() -> bool:
            try:
                for node in self.nodes:
                    if node._server is None:
                        continue
                    async with node.client() as client:
                        info = await client.cluster("INFO")
                        if info["cluster_state"] != "ok" or info["cluster_slots_ok"] != "16384":
                            return False
            except (RedisError, OSError):
                return False
            return True

        await wait_until(is_whole, "the cluster is whole", timeout)


@asynccontextmanager
async def redis_cluster(*, replicas: int = 0) -> AsyncIterator[Cluster]:
    """A cluster of three primaries, and of replicas for the first of them."""
    with redis_servers() as servers:
        ports = free_ports(2 * (3 + replicas))
        nodes = [
            servers.make(f"node-{number}", port, f"{_DATA}{_CLUSTER}cluster-port {bus}")
            for number, (port, bus) in enumerate(zip(ports[::2], ports[1::2], strict=True))
        ]
        buses = dict(zip(ports[::2], ports[1::2], strict=True))
        for node in nodes:
            node.start()
        for number, node in enumerate(nodes):
            await node.until_ready()
            async with node.client() as client:
                # Each its own epoch: two that claim the same one would have to find out first who wins.
                await client.execute_command("CLUSTER SET-CONFIG-EPOCH", number + 1)
                if number < 3:
                    first, last = 16384 * number // 3, 16384 * (number + 1) // 3 - 1
                    await client.execute_command("CLUSTER ADDSLOTSRANGE", first, last)
                for other in nodes[:number]:
                    await client.execute_command("CLUSTER MEET", "127.0.0.1", other.port, buses[other.port])
        hosts = ",".join(f"127.0.0.1:{node.port}" for node in nodes[:3])
        cluster = Cluster(nodes[:3], nodes[3:], f"redis+cluster://:{PASSWORD}@{hosts}")
        await _until_all_know_all(cluster)
        for replica, primary in zip(cluster.replicas, cluster.primaries, strict=False):
            await _replicate(replica, primary)
        await cluster.until_whole()
        yield cluster


async def _until_all_know_all(cluster: Cluster) -> None:
    async def know() -> bool:
        known = set()
        for node in cluster.nodes:
            async with node.client() as client:
                known.add(int((await client.cluster("INFO"))["cluster_known_nodes"]))
        return known == {len(cluster.nodes)}

    await wait_until(know, "the nodes know each other", 60)


async def _replicate(replica: RedisServer, primary: RedisServer) -> None:
    async with primary.client() as client:
        primary_id = (await client.execute_command("CLUSTER MYID")).decode()
    async with replica.client() as client:
        await client.execute_command("CLUSTER REPLICATE", primary_id)
        await wait_until(lambda: _is_in_step(client), "the replica is in step", 60)


async def _is_in_step(client: Any) -> bool:
    return bool((await client.info("replication")).get("master_link_status") == "up")


@dataclass(slots=True)
class Watched:
    """A primary with its replica, and the three sentinels that watch them."""

    servers: list[RedisServer]
    sentinels: list[RedisServer]
    url: str

    async def primary(self) -> RedisServer:
        """Whom the sentinels hold for the primary."""
        async with self.sentinels[0].client() as client:
            _, port = await client.execute_command("SENTINEL GET-MASTER-ADDR-BY-NAME", SERVICE)
        return next(server for server in self.servers if server.port == int(port))

    async def until_moved(self, old: RedisServer, timeout: float = 60.0) -> RedisServer:
        """Wait until the sentinels have made another one primary; which."""

        async def has_moved() -> bool:
            return await self.primary() is not old

        await wait_until(has_moved, "the sentinels have moved the service", timeout)
        return await self.primary()


@asynccontextmanager
async def watched_by_sentinels() -> AsyncIterator[Watched]:
    """Two servers and three sentinels, who have all found each other."""
    with redis_servers() as factory:
        ports = free_ports(5)
        primary = factory.make("redis-0", ports[0], _DATA)
        replica = factory.make("redis-1", ports[1], f"{_DATA}replicaof 127.0.0.1 {ports[0]}")
        for server in (primary, replica):
            server.start()
            await server.until_ready()
        async with replica.client() as client:
            await wait_until(lambda: _is_in_step(client), "the replica is in step", 60)
        sentinels = [
            factory.make(f"sentinel-{port}", port, _sentinel(ports[0]), "--sentinel", password=SENTINEL_PASSWORD)
            for port in ports[2:]
        ]
        for sentinel in sentinels:
            sentinel.start()
            await sentinel.until_ready()
        hosts = ",".join(f"127.0.0.1:{port}" for port in ports[2:])
        secret = SENTINEL_PASSWORD.replace(" ", "%20")
        url = f"redis+sentinel://:{PASSWORD}@{hosts}/{SERVICE}?sentinel_password={secret}"
        watched = Watched([primary, replica], sentinels, url)
        await wait_until(lambda: _all_found(watched), "the sentinels have found each other and the replica", 60)
        yield watched


def _sentinel(port: int) -> str:
    return f"""\
requirepass "{SENTINEL_PASSWORD}"
sentinel sentinel-pass "{SENTINEL_PASSWORD}"
sentinel monitor {SERVICE} 127.0.0.1 {port} 2
sentinel auth-pass {SERVICE} {PASSWORD}
sentinel down-after-milliseconds {SERVICE} {DOWN_AFTER_MS}
sentinel failover-timeout {SERVICE} 3000
"""


async def _all_found(watched: Watched) -> bool:
    for sentinel in watched.sentinels:
        async with sentinel.client() as client:
            state = (await client.sentinel_masters())[SERVICE]
            replicas = await client.sentinel_slaves(SERVICE)
        if state["num-other-sentinels"] != 2 or len(replicas) != 1 or replicas[0]["master-link-status"] != "ok":
            return False
    return True
