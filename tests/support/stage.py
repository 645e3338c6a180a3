"""A whole installation that faults are played upon: two of each process that there may be two of, proxies before all
servers, servers of its own, clients that pay, and a witness.
"""

from __future__ import annotations

import os
import secrets
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from random import Random
from typing import Final

import anyio
from redis.asyncio import Redis

from paynode import config
from paynode.embedded.spawning import dying_with_parent
from paynode.storage.migrating import migrate
from paynode.storage.postgres import Role, Session, session
from tests.support import database as databases
from tests.support.case import Case, Usage, gather, has_more_to_tell, logs_of, streams_of, usage_of
from tests.support.history import CANARY, History
from tests.support.installation import Installation, Process, free_ports, installed
from tests.support.laws_of_running import l16_nothing_grows
from tests.support.load import Load
from tests.support.own_servers import OwnServer
from tests.support.proxy import Proxy
from tests.support.waiting import wait_until
from tests.support.witness import Witness

CAST: Final[Mapping[str, str]] = {
    "sim": "psp-sim",
    "serve-1": "serve",
    "serve-2": "serve",
    "worker-1": "worker",
    "worker-2": "worker",
    "scheduler": "scheduler",
}
# Seconds between two looks of the witness, and those granted to a process to come up on a busy machine.
LOOK_S: Final = 0.25
_READY_S: Final = 60.0
# Seconds in which idle connections of all kinds are closed. A worker closes those to a PSP some 15 s after the last
# call, and of a burst there are as many as calls at once; on a busy machine 20 s were too few.
_IDLE_S: Final = 60.0
_CALLS: Final = {"sales": b"POST /v1/", "inquiries": b"GET /v1/operations"}


@dataclass(slots=True, kw_only=True)
class Stage:
    """`cast` are the processes by name, `held` those that a scenario has in hand and nobody else is to start;
    `poison` is what was put into the streams on purpose.
    """

    installation: Installation
    database: OwnServer
    redis: OwnServer
    to_database: Mapping[str, Proxy]
    to_redis: Mapping[str, Proxy]
    to_psp: Proxy
    urls: Sequence[str]
    environments: Mapping[str, Mapping[str, str]]
    random: Random
    load: Load
    witness: Witness
    history: History
    cast: dict[str, Process] = field(default_factory=dict)
    poison: Counter[tuple[str, str]] = field(default_factory=Counter)
    counts: Counter[str] = field(default_factory=Counter)
    before: Sequence[Usage] = ()
    held: set[str] = field(default_factory=set)

    # -- processes ------------------------------------------------------------------------------------------------

    async def start(self, name: str, *, module: str = "paynode", **environment: str) -> Process:
        """Start one of the cast, and wait until it says that it is ready."""
        process = self._spawn(name, module, environment)
        assert process.popen.stdout is not None
        with anyio.fail_after(_READY_S):  # in a thread: it waits for the proxies, which live in this loop
            line = await anyio.to_thread.run_sync(process.popen.stdout.readline, abandon_on_cancel=True)
        if not line.startswith("ready"):  # a server that it needs is away: whoever revives it comes again
            self.counts["not ready"] += 1
            await anyio.to_thread.run_sync(partial(process.popen.wait, _READY_S))
        return process

    def _spawn(self, name: str, module: str, environment: Mapping[str, str]) -> Process:
        verb, settings = CAST[name], self.installation.settings
        log = settings.data_dir / f"{name}-{self.counts[name]}.log"
        self.counts[name] += 1
        with log.open("w") as stderr:
            popen = subprocess.Popen(
                [sys.executable, "-m", module, verb],
                env={**os.environ, **self.installation.environment, **self.environments[name], **environment},
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=stderr,
                text=True,
                preexec_fn=dying_with_parent(signal.SIGKILL),  # a run that is killed leaves nothing behind
            )
        process = self.cast[name] = Process(verb, popen, log)
        self.installation.processes.append(process)
        return process

    async def start_cast(self) -> None:
        """All of them, and the base of what they hold."""
        async with anyio.create_task_group() as group:
            for name in CAST:
                group.start_soon(self.start, name)
        dead = [name for name in CAST if not self.is_running(name)]
        assert not dead, f"{dead} did not start: " + self.cast[dead[0]].log.read_text()[-2000:]

    async def revive(self) -> int:
        """Start again whoever has died, as a supervisor would; how many that were."""
        dead = [name for name in CAST if not self.is_running(name) and name not in self.held]
        for name in dead:
            with self.in_hand(name):
                await self.start(name)
        self.counts["revived"] += len(dead)
        return len(dead)

    @contextmanager
    def in_hand(self, name: str) -> Iterator[str]:
        """Nobody else kills or starts it meanwhile."""
        self.held.add(name)
        try:
            yield name
        finally:
            self.held.discard(name)

    def is_running(self, name: str) -> bool:
        """Whether it lives (or is stopped, but there)."""
        return name in self.cast and self.cast[name].popen.poll() is None

    def one_of(self, verb: str) -> str:
        """One of the running ones of a kind."""
        names = [name for name, its in CAST.items() if its == verb]
        free = [name for name in names if self.is_running(name) and name not in self.held]
        return self.random.choice(free or names)

    def usage(self) -> list[Usage]:
        """What they hold now."""
        return usage_of((CAST[name], one.popen.pid) for name, one in self.cast.items() if self.is_running(name))

    # -- hands ----------------------------------------------------------------------------------------------------

    def said(self, word: str) -> int:
        """How often all the logs have a word."""
        return sum(text.count(word) for text in logs_of(self.installation).values())

    @asynccontextmanager
    async def owner(self) -> AsyncIterator[Session]:
        """A session of the schema's owner, beside the proxies."""
        async with session(self.installation.settings, Role.OWNER, application_name="nemesis") as connection:
            yield connection

    @asynccontextmanager
    async def road(self) -> AsyncIterator[Redis]:
        """The streams, beside the proxies."""
        async with Redis.from_url(self.redis.url, protocol=2, socket_timeout=5) as client:
            yield client

    def proxies(self) -> list[Proxy]:
        """All of them."""
        return [*self.to_database.values(), *self.to_redis.values(), self.to_psp]

    async def until_warm(self) -> None:
        """Wait until payments flow; what the processes hold then is the base that they must come back to."""
        await wait_until(lambda: len(self.history.accepted) >= self.load.rate_per_s, "payments flow", _READY_S)
        self.before = self.usage()

    def is_healthy(self) -> bool:
        """Everything is accepted, and nothing has waited for a second."""
        is_flowing = self.load.is_paused or self.history.accepted_within(1.0) >= 0.9 * self.load.rate_per_s
        return is_flowing and self.witness.oldest_s < 1.0 and time.time() - self.witness.looked_at < 1.0

    # -- the end --------------------------------------------------------------------------------------------------

    async def settle(self, timeout: float = 60.0) -> bool:
        """Pause the load and wait until nothing moves; False when something does not come to rest."""
        self.load.is_paused = True
        with anyio.move_on_after(timeout):
            await self.load.drained()
            while not await self._is_quiet():  # noqa: ASYNC110 - polled: it happens in other processes
                await anyio.sleep(0.1)
            await self.witness.look()
            return True
        return False

    async def _is_quiet(self) -> bool:
        [row] = await self.installation.rows("SELECT count(*) AS n FROM outbox")
        if row["n"] or has_more_to_tell(self.installation):
            return False
        streams = await streams_of(self.installation)
        return not any(stream.waiting for stream in streams.values())

    async def case(self) -> Case:
        """All that the laws look at; to be taken when everything is settled."""
        after = await self._usage_at_rest()
        case = await gather(self.installation)
        redelivered = self.said('"republished"') + self.counts["redelivered"]
        secret = {merchant.api_key for merchant in self.load.merchants}
        return replace(
            case,
            asked=self.history.asked,
            poison=self.poison,
            logs=logs_of(self.installation),
            secrets=frozenset({CANARY, *secret, *self._passwords()}),
            psp_calls=sum(self.to_psp.seen.values()),
            redelivered=redelivered,
            gateways=self._gateways(),
            before=self.before,
            after=after,
        )

    async def _usage_at_rest(self) -> list[Usage]:
        """What they hold when idle connections have been closed and idle consumers removed, which takes its time."""
        give_up_at = time.monotonic() + _IDLE_S
        while True:
            after = self.usage()
            streams = await streams_of(self.installation)
            now = Case(before=self.before, after=after, streams=streams, gateways=self._gateways())
            if time.monotonic() > give_up_at or not list(l16_nothing_grows(now)):
                return after
            await anyio.sleep(0.5)

    def _gateways(self) -> int:
        return sum(CAST[name] == "worker" and self.is_running(name) for name in CAST)

    def _passwords(self) -> set[str]:
        psp = self.installation.settings.psp["sim"]
        assert psp.adapter == "sim", "the judge of these tests"
        urls = (self.database.url, self.redis.url)
        return {psp.api_key, psp.webhook_secret, *(url.partition("@")[0].rpartition(":")[2] for url in urls)}


@asynccontextmanager
async def staged(
    directory: Path,
    *,
    seed: int,
    merchants: int = 20,
    rate_per_s: float = 60.0,
    in_flight_max: int = 100,
    history: History | None = None,
) -> AsyncIterator[Stage]:
    """A stage on servers of its own, with everything running and nobody paying yet."""
    async with AsyncExitStack() as stack:
        database, road = OwnServer(directory, "postgres"), OwnServer(directory, "valkey")
        stack.callback(database.stop)
        stack.callback(road.stop)
        settings = databases.pointed_at(config.load(), database.start(), directory / "home")
        settings.data_dir.mkdir(exist_ok=True)
        await migrate(settings)
        installation = await stack.enter_async_context(installed(settings, road.start(), directory))
        stage = await _set(stack, installation, database, road, Random(seed), seed, rate_per_s, history or History())
        stage.load.merchants = await installation.merchants(merchants)
        stage.load.in_flight_max = in_flight_max
        await stage.start_cast()
        stack.push_async_callback(_end, stage)
        tasks = await stack.enter_async_context(anyio.create_task_group())
        stack.callback(tasks.cancel_scope.cancel)
        tasks.start_soon(partial(stage.witness.run, interval_s=LOOK_S))
        yield stage


async def _end(stage: Stage) -> None:
    for proxy in stage.proxies():
        proxy.heal()
    await anyio.to_thread.run_sync(stage.installation.end)  # beside the loop: the proxies live in it


async def _set(
    stack: AsyncExitStack,
    installation: Installation,
    database: OwnServer,
    road: OwnServer,
    random: Random,
    seed: int,
    rate_per_s: float,
    history: History,
) -> Stage:
    clients = [name for name in CAST if name != "sim"]
    to_database = {name: await stack.enter_async_context(Proxy.to(database.url, seed=seed)) for name in clients}
    to_redis = {name: await stack.enter_async_context(Proxy.to(road.url, seed=seed)) for name in clients}
    to_psp = await stack.enter_async_context(Proxy.to(installation.settings.psp["sim"].url, seed=seed))
    to_psp.watched = _CALLS
    first = installation.settings.http.base_url
    port, admin = free_ports(2)
    environments: dict[str, Mapping[str, str]] = {"sim": {}}
    for name in clients:
        environments[name] = {
            "PAYNODE_DATABASE__URL": to_database[name].through(database.url),
            "PAYNODE_REDIS__URL": to_redis[name].through(road.url),
            "PAYNODE_PSP__SIM__URL": to_psp.through(installation.settings.psp["sim"].url),
            "PAYNODE_HTTP__PUBLIC_URL": first,
            "PAYNODE_GATEWAY__CONSUMER_IDLE_S": "5",
        }
    environments["serve-2"] = {
        **environments["serve-2"],
        "PAYNODE_HTTP__PORT": str(port),
        "PAYNODE_ADMIN__PORT": str(admin),
    }
    urls = [first, f"http://127.0.0.1:{port}"]
    load = Load(
        installation=installation,
        merchants=(),
        history=history,
        urls=urls,
        rate_per_s=rate_per_s,
        random=Random(seed),
        prefix=secrets.token_hex(3),
    )
    return Stage(
        installation=installation,
        database=database,
        redis=road,
        to_database=to_database,
        to_redis=to_redis,
        to_psp=to_psp,
        urls=urls,
        environments=environments,
        random=random,
        load=load,
        witness=Witness(installation.settings),
        history=history,
    )
