"""A whole paynode as it is run: every part a process of its own, on real servers, on loopback."""

from __future__ import annotations

import json
import os
import random
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import ExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import aiohttp
import asyncpg
import redis.asyncio as redis

from paynode import config
from paynode.config import Settings
from paynode.domain.errors import Transient
from paynode.domain.money import FeePlan
from paynode.domain.terms import Terms
from paynode.embedded.servers import Running
from paynode.storage import merchants
from paynode.storage.invariants import check
from paynode.storage.postgres import Role, session
from tests.support import database as databases
from tests.support.waiting import wait_until

# A process that does not end within this is killed and the test fails: the drain has 10 s.
_STOP_S = 12.0

# Below those that Linux gives to outgoing connections (net.ipv4.ip_local_port_range), and chosen by real chance: a
# library of the tests sets the seed of the module's own.
_PORTS: Final = range(10_000, 32_768)
_CHANCE: Final = random.SystemRandom()

# Everything that waits in production waits shortly here, in the same proportions.
HURRY: Mapping[str, str] = {
    "PAYNODE_GATEWAY__CALL_DEADLINE_S": "1.5",
    "PAYNODE_GATEWAY__SEND_WITHIN_S": "0.5",
    # Many rungs: no fault of a test lasts so long that people must look.
    "PAYNODE_GATEWAY__INQUIRY_LADDER_S": str([0.3, 0.6] + [1.2] * 200),
    "PAYNODE_GATEWAY__NOT_SENT_RETRY_S": "0.2",
    "PAYNODE_GATEWAY__NOT_SENT_RETRY_MAX_S": "2",
    "PAYNODE_GATEWAY__RECLAIM_IDLE_MS": "2500",
    "PAYNODE_GATEWAY__BREAKER_OPEN_S": "0.3",
    "PAYNODE_GATEWAY__RETRY_EVERY_S": "0.05",
    "PAYNODE_GATEWAY__RETRY_PAUSE_MAX_S": "2",
    "PAYNODE_RELAY__INTERVAL_S": "0.2",
    "PAYNODE_RELAY__REPUBLISH_AFTER_S": "1",
    "PAYNODE_RELAY__LEASE_S": "2",
    "PAYNODE_WORKER__LEASE_S": "1",
    "PAYNODE_STREAMS__BLOCK_MS": "200",
    "PAYNODE_STREAMS__PARTITIONS": "32",
    # No test is refused because the machine is slow; those about that say how slow it may be.
    "PAYNODE_OVERLOAD__TARGET_MS": "60000",
    "PAYNODE_OVERLOAD__READS_MAX": "1000000",
}


@dataclass(slots=True)
class Process:
    """One started verb."""

    verb: str
    popen: subprocess.Popen[str]
    log: Path

    def has_ended(self) -> bool:
        """Whether it runs no more."""
        return self.popen.poll() is not None

    def kill(self) -> None:
        """kill -9: no drain, no goodbye."""
        self.popen.kill()
        self.popen.wait(_STOP_S)

    def stop(self) -> int:
        """SIGTERM, and the exit code after the drain."""
        self.popen.send_signal(signal.SIGTERM)
        return self.popen.wait(_STOP_S)


@dataclass(frozen=True, slots=True, kw_only=True)
class Merchant:
    """A merchant and its key."""

    id: str
    api_key: str


@dataclass(slots=True, kw_only=True)
class Reply:
    """An answer, read to its end."""

    status: int
    headers: Mapping[str, str]
    raw: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.raw)


# What merchants of tests are paid on, unless told otherwise.
TERMS: Final = Terms(fees=FeePlan(fixed=0, basis_points=150))


@dataclass(slots=True, kw_only=True)
class Installation:
    """Its processes, and hands to reach into it."""

    settings: Settings
    environment: Mapping[str, str]
    http: aiohttp.ClientSession
    processes: list[Process] = field(default_factory=list)

    # -- processes ------------------------------------------------------------------------------------------------

    def start(self, verb: str, *, module: str = "paynode", **environment: str) -> Process:
        """Start a verb and wait until it says that it is ready; `module` is what runs it."""
        log = self.settings.data_dir / f"{verb}-{len(self.processes)}.log"
        with log.open("w") as stderr:
            popen = subprocess.Popen(
                [sys.executable, "-m", module, *verb.split()],
                env={**os.environ, **self.environment, **environment},
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=stderr,
                text=True,
            )
        process = Process(verb, popen, log)
        self.processes.append(process)
        assert popen.stdout is not None
        line = popen.stdout.readline()
        assert line.startswith("ready"), f"{verb}: {line!r}\n{log.read_text()[-4000:]}"
        return process

    def start_all(self) -> None:
        """One of each process that a payment passes through."""
        for verb in ("psp-sim", "serve", "worker", "scheduler"):
            self.start(verb)

    def end(self) -> None:
        """End all that still runs; the processes that were started here and no others."""
        running = [process for process in self.processes if process.popen.poll() is None]
        for process in running:
            process.popen.send_signal(signal.SIGTERM)
            process.popen.send_signal(signal.SIGCONT)  # one that a test stopped, and that could not hear the other
        for process in running:
            try:
                process.popen.wait(_STOP_S)
            except subprocess.TimeoutExpired:
                process.kill()
                raise AssertionError(f"{process.verb} did not stop\n{process.log.read_text()[-4000:]}") from None
        for process in self.processes:
            if process.popen.stdout is not None:
                process.popen.stdout.close()

    # -- the outside ----------------------------------------------------------------------------------------------

    async def merchants(self, count: int, terms: Terms = TERMS) -> list[Merchant]:
        """New merchants with keys."""
        async with session(self.settings, Role.OWNER, application_name="test") as connection:
            made = await merchants.create_many(
                connection,
                [f"Merchant {number}" for number in range(count)],
                terms=terms,
                psps=["sim"],
            )
        return [Merchant(id=one.id, api_key=one.api_key or "") for one in made]

    async def pay(self, merchant: Merchant, key: str, *, prefer: str = "", **body: Any) -> Reply:
        """POST /v1/payments."""
        content = {"order_id": key, "amount": 1000, "currency": "EUR", "method": token("tok_approve")} | body
        headers = {"Authorization": f"Bearer {merchant.api_key}", "Idempotency-Key": f'"{key}"'}
        if prefer:
            headers["Prefer"] = prefer
        return await self.send("POST", "/v1/payments", json=content, headers=headers)

    async def get(self, merchant: Merchant, path: str) -> Any:
        """A GET by a merchant, as JSON."""
        reply = await self.send("GET", path, headers={"Authorization": f"Bearer {merchant.api_key}"})
        assert reply.status == 200, reply.raw
        return reply.json

    async def send(self, method: str, path: str, **arguments: Any) -> Reply:
        """Any request; a path is of the ingress."""
        url = path if path.startswith("http") else self.settings.http.base_url + path
        async with self.http.request(method, url, allow_redirects=False, **arguments) as response:
            return Reply(status=response.status, headers=dict(response.headers), raw=await response.read())

    async def book(self) -> list[dict[str, Any]]:
        """The charge book of the simulator: what the cards were really charged."""
        reply = await self.send("GET", self.settings.psp["sim"].url + "/book")
        return [json.loads(line) for line in reply.raw.splitlines()]

    # -- the inside -----------------------------------------------------------------------------------------------

    async def rows(self, statement: str, *arguments: object) -> list[asyncpg.Record]:
        """A look into the database."""
        async with session(self.settings, Role.OWNER, application_name="test") as connection:
            return list(await connection.fetch(statement, *arguments))

    async def flush_redis(self) -> None:
        """FLUSHALL of what this installation has."""
        async with redis.Redis.from_url(self.settings.redis.url, protocol=2) as client:
            await client.flushdb()

    async def until_settled(self, timeout: float = 60.0) -> None:
        """Wait until no payment is under way and nothing is left to process."""

        async def is_settled() -> bool:
            try:
                [row] = await self.rows(
                    "SELECT (SELECT count(*) FROM payments WHERE status IN ('created', 'processing', 'unknown')) "
                    "+ (SELECT count(*) FROM outbox) AS left"
                )
            except (Transient, OSError, asyncpg.PostgresError):
                return False
            return bool(row["left"] == 0)

        await wait_until(is_settled, "every payment has ended and the outbox is empty", timeout)

    async def broken_laws(self) -> list[str]:
        """What `paynode doctor` would find."""
        async with session(self.settings, Role.READER, application_name="test") as connection:
            findings = await check(connection, due_max_s=60)
        return [f"{finding}" for finding in findings if finding.breaches.total]


def token(name: str) -> dict[str, str]:
    """A token payment's method."""
    return {"type": "token", "token": name}


def free_ports(count: int) -> list[int]:
    """Ports that nobody uses right now, and that no outgoing connection gets: a process that was killed gets its own
    again."""
    found: list[int] = []
    with ExitStack() as bound:
        while len(found) < count:
            place, port = bound.enter_context(socket.socket()), _CHANCE.choice(_PORTS)
            with suppress(OSError):  # somebody uses it
                place.bind(("127.0.0.1", port))
                found.append(port)
    return found


@asynccontextmanager
async def installed(settings: Settings, redis_url: str, data_dir: Path) -> AsyncIterator[Installation]:
    """An installation with no process started yet; all of them ended at the end."""
    http_port, admin_port, scheduler_port, sim_port, shop_port = free_ports(5)
    environment = {
        **HURRY,
        "PAYNODE_DATABASE__URL": settings.database.url,
        "PAYNODE_REDIS__URL": redis_url,
        "PAYNODE_DATA_DIR": str(settings.data_dir),
        "PAYNODE_HTTP__PORT": str(http_port),
        "PAYNODE_ADMIN__PORT": str(admin_port),
        "PAYNODE_ADMIN__SCHEDULER_PORT": str(scheduler_port),
        "PAYNODE_SIM__PORT": str(sim_port),
        "PAYNODE_SIM__BOOK": str(data_dir / "book.ndjson"),
        "PAYNODE_PSP__SIM__URL": f"http://127.0.0.1:{sim_port}",
        "PAYNODE_SHOP__PORT": str(shop_port),
    }
    told = {
        "data_dir": settings.data_dir,
        "database": {"url": settings.database.url},
        "redis": {"url": redis_url},
        "http": {"port": http_port},
        "admin": {"port": admin_port, "scheduler_port": scheduler_port},
        "sim": {"port": sim_port},
        "shop": {"port": shop_port},
        "psp": {"sim": {"url": f"http://127.0.0.1:{sim_port}"}},
    }
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=40)) as http:
        installation = Installation(settings=config.load(told), environment=environment, http=http)
        try:
            yield installation
        finally:
            installation.end()


@asynccontextmanager
async def shared_by_tests(
    servers: Running, template: str, home: Path, data_dir: Path, *, redis_database: int, **environment: str
) -> AsyncIterator[Installation]:
    """One of each process on a database of its own, for several tests; each sharing has a Redis database of its own.

    `environment` is for all of its processes.
    """
    url = await databases.clone(servers.database_url, template)
    redis_url = servers.redis_url.rpartition("/")[0] + f"/{redis_database}"
    async with installed(databases.pointed_at(config.load(), url, home), redis_url, data_dir) as installation:
        await installation.flush_redis()
        installation.environment = {**installation.environment, **environment}
        installation.start_all()
        yield installation
    await databases.drop(url)
