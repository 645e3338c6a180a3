"""PostgreSQL and the way to it: W5, P1 to P3, P7, P8, N1."""

from __future__ import annotations

import os
import signal
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from functools import partial
from typing import Any

import anyio
import asyncpg

from paynode.domain.errors import Transient
from paynode.storage.postgres import Role, close, connect
from tests.scenarios.of_processes import since
from tests.support.nemesis import Proof, Scenario
from tests.support.proxy import Act, Fault, Proxy, Weather
from tests.support.stage import Stage

# What goes wrong with a session of ours when others are ended, or the server is.
_LOST = (Transient, OSError, asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError)
# In the document of every batch, of which one statement writes and commits it.
COMMIT = b'"lease_s"'

_DATABASE = frozenset({"database"})


@asynccontextmanager
async def beside(work: Callable[[], Coroutine[Any, Any, None]]) -> AsyncIterator[None]:
    """`work` runs until the block ends."""
    async with anyio.create_task_group() as group:
        group.start_soon(work)
        yield
        group.cancel_scope.cancel()


@asynccontextmanager
async def committers_ended(stage: Stage) -> AsyncIterator[Proof]:
    """Again and again the sessions of committers that are in a transaction are ended.

    The line is made slow, so that a transaction lasts long enough to be met in its middle.
    """
    ended, lines = 0, [stage.to_database[name] for name in ("worker-1", "worker-2")]
    for line in lines:
        line.weather = Weather(delay_s=0.01)

    async def end() -> None:
        nonlocal ended
        while True:
            with suppress(*_LOST):
                async with stage.owner() as owner:
                    while True:
                        rows = await owner.fetch(
                            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                            "WHERE application_name LIKE '%-committer-%' AND xact_start IS NOT NULL"
                        )
                        ended += len(rows)
                        await anyio.sleep(0.1 if rows else 0.005)
            await anyio.sleep(0.2)

    async def proof() -> int:
        return ended

    try:
        async with beside(end):
            yield proof
    finally:
        for line in lines:
            line.heal()


@asynccontextmanager
async def backend_killed(stage: Stage) -> AsyncIterator[Proof]:
    """kill -9 of one backend: PostgreSQL ends all sessions and recovers, for nobody knows what it has broken."""
    before = stage.database.log.count("was terminated by signal 9")
    with suppress(*_LOST):
        async with stage.owner() as owner:
            rows = await owner.fetch("SELECT pid FROM pg_stat_activity WHERE datname IS NOT NULL")
            os.kill(stage.random.choice(rows)["pid"], signal.SIGKILL)

    async def proof() -> int:
        return since(before, stage.database.log.count("was terminated by signal 9"))

    yield proof


@asynccontextmanager
async def postmaster_ended(stage: Stage, *, is_killed: bool) -> AsyncIterator[Proof]:
    """kill -9 of the postmaster, or its immediate stop; started again when healed."""
    before = stage.database.pid
    if is_killed:
        stage.database.kill()
    else:
        stage.database.stop_at_once()

    async def proof() -> int:
        # Its log begins anew with it.
        is_another = stage.database.pid != before
        return int(is_another and "database system was not properly shut down" in stage.database.log)

    try:
        yield proof
    finally:
        stage.database.start()


@asynccontextmanager
async def commits_cut(stage: Stage) -> AsyncIterator[Proof]:
    """Every tenth batch of the workers is cut off: before the server has it, or after."""
    proxies = [stage.to_database["worker-1"], stage.to_database["worker-2"]]
    before = [proxy.bitten["commit"] for proxy in proxies]
    for proxy in proxies:
        proxy.faults = [
            Fault(name="commit", pattern=COMMIT, act=Act.LOSE_REQUEST, share=0.05),
            Fault(name="commit", pattern=COMMIT, act=Act.LOSE_REPLY, share=0.05),
        ]

    async def proof() -> int:
        return since(sum(before), sum(proxy.bitten["commit"] for proxy in proxies))

    try:
        yield proof
    finally:
        for proxy in proxies:
            proxy.heal()


@asynccontextmanager
async def accepting_cut(stage: Stage) -> AsyncIterator[Proof]:
    """The ingress's own commits are cut off, before or after: who was told nothing asks again."""
    proxies = [stage.to_database["serve-1"], stage.to_database["serve-2"]]
    before = sum(proxy.bitten["accepting"] for proxy in proxies)
    for proxy in proxies:
        proxy.faults = [
            Fault(name="accepting", pattern=b'"event_type"', act=act, share=0.1)
            for act in (Act.LOSE_REQUEST, Act.LOSE_REPLY)
        ]

    async def proof() -> int:
        return since(before, sum(proxy.bitten["accepting"] for proxy in proxies))

    try:
        yield proof
    finally:
        for proxy in proxies:
            proxy.heal()


@asynccontextmanager
async def connections_used_up(stage: Stage) -> AsyncIterator[Proof]:
    """Somebody else takes every connection, and then our sessions end: nobody gets a new one."""
    refused, before = 0, _turned_away(stage)
    async with AsyncExitStack() as stack:
        owner = await stack.enter_async_context(stage.owner())
        await owner.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
            "WHERE usename LIKE 'paynode\\_%' AND pid <> pg_backend_pid()"
        )
        for _ in range(400):
            try:
                one = await connect(stage.installation.settings, Role.OWNER, application_name="greedy")
            except _LOST:
                refused += 1
                break
            stack.push_async_callback(close, one)

        async def proof() -> int:
            return refused and since(before + refused, _turned_away(stage))  # less ourselves

        yield proof


def _turned_away(stage: Stage) -> int:
    log = stage.database.log
    return log.count("remaining connection slots are reserved") + log.count("too many clients already")


@asynccontextmanager
async def locks_crossed(stage: Stage) -> AsyncIterator[Proof]:
    """Somebody locks wallets and heads in the wrong order: the server breaks deadlocks by ending one of the two."""
    before = await _deadlocks(stage)

    async def cross() -> None:
        while True:
            with suppress(*_LOST):
                async with stage.owner() as owner, owner.transaction():
                    await owner.execute("SET LOCAL deadlock_timeout = '1s'")
                    await owner.execute("SELECT FROM ledger_heads ORDER BY random() LIMIT 6 FOR UPDATE")
                    await anyio.sleep(0.05)
                    await owner.execute("SELECT FROM wallets ORDER BY random() LIMIT 6 FOR UPDATE")
            await anyio.sleep(0.01)

    async def proof() -> int:
        return since(before, await _deadlocks(stage))

    async with beside(cross):
        yield proof


async def _deadlocks(stage: Stage) -> int:
    [row] = await stage.installation.rows("SELECT sum(deadlocks)::int AS n FROM pg_stat_database")
    return int(row["n"])


@asynccontextmanager
async def harmed(
    stage: Stage, *, verb: str, harm: Callable[[Proxy], None], word: str, is_database: bool = True
) -> AsyncIterator[Proof]:
    """Something is done to the line of one process to the database, or to Redis."""
    proxies = stage.to_database if is_database else stage.to_redis
    proxy = proxies[stage.one_of(verb)]
    before = proxy.bitten[word]
    harm(proxy)

    async def proof() -> int:
        return since(before, proxy.bitten[word])

    try:
        yield proof
    finally:
        proxy.heal()


def make_slow(proxy: Proxy) -> None:
    """Like a line to another continent."""
    proxy.weather = Weather(delay_s=0.05, jitter_s=0.04)


def make_thin(proxy: Proxy) -> None:
    """Like a line that somebody else fills."""
    proxy.weather = Weather(bytes_per_s=100_000)


def make_short(proxy: Proxy) -> None:
    """Connections break after 30 kB, in the middle of anything."""
    proxy.weather = Weather(cut_after=30_000)


COMMITTERS_ENDED = Scenario(
    id="W5", name="committers ended", act=committers_ended, lasts_s=1.5, takes=frozenset({"line"})
)
BACKEND_KILLED = Scenario(id="P1", name="backend killed", act=backend_killed, lasts_s=0.5, takes=_DATABASE)
POSTMASTER_KILLED = Scenario(
    id="P2", name="postmaster killed", act=partial(postmaster_ended, is_killed=True), takes=_DATABASE
)
STOPPED_AT_ONCE = Scenario(
    id="P2", name="PostgreSQL stopped at once", act=partial(postmaster_ended, is_killed=False), takes=_DATABASE
)
COMMITS_CUT = Scenario(id="P3", name="commits cut", act=commits_cut, lasts_s=2, takes=frozenset({"line"}))
ACCEPTING_CUT = Scenario(id="P3", name="accepting cut", act=accepting_cut, takes=frozenset({"line"}))
USED_UP = Scenario(id="P7", name="connections used up", act=connections_used_up, takes=_DATABASE)
LOCKS_CROSSED = Scenario(id="P8", name="locks crossed", act=locks_crossed, lasts_s=3, takes=_DATABASE | {"line"})
_LINE = frozenset({"line"})
SILENCE = Scenario(
    id="N1",
    name="silence to PostgreSQL",
    act=partial(harmed, verb="worker", harm=Proxy.hold, word="held"),
    lasts_s=2.5,
    takes=frozenset({"worker", "line"}),
)
HALF_OPEN = Scenario(
    id="N1",
    name="half-open to PostgreSQL",
    act=partial(harmed, verb="worker", harm=Proxy.tear_all, word="half_open"),
    lasts_s=0.5,
    recovers_within_s=20,  # nothing but the statement time-out tells a client that nobody is there
    takes=frozenset({"worker", "line"}),
)
SLOW = Scenario(
    id="N1",
    name="slow line to PostgreSQL",
    act=partial(harmed, verb="serve", harm=make_slow, word="delayed"),
    takes=_LINE,
)
THIN = Scenario(
    id="N1",
    name="thin line to PostgreSQL",
    act=partial(harmed, verb="worker", harm=make_thin, word="thinned"),
    takes=_LINE,
)
SHORT = Scenario(
    id="N1",
    name="short connections to PostgreSQL",
    act=partial(harmed, verb="worker", harm=make_short, word="cut_after"),
    takes=_LINE,
)
SCENARIOS = (
    COMMITTERS_ENDED,
    BACKEND_KILLED,
    POSTMASTER_KILLED,
    STOPPED_AT_ONCE,
    COMMITS_CUT,
    ACCEPTING_CUT,
    USED_UP,
    LOCKS_CROSSED,
    SILENCE,
    HALF_OPEN,
    SLOW,
    THIN,
    SHORT,
)
