"""A flaw, what brings it to light, and the laws that must see it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from random import Random
from typing import Final, TypeAlias

import anyio
import asyncpg
import redis.asyncio as redis
from uuid_utils import uuid4

from paynode.config import Settings
from paynode.domain.errors import Transient
from paynode.domain.road import commands_stream
from tests.scenarios.of_postgresql import COMMIT
from tests.support.case import Usage, gather, has_more_to_tell, logs_of, streams_of, usage_of
from tests.support.history import CANARY, History
from tests.support.installation import Installation, Process, installed
from tests.support.laws import judge
from tests.support.load import Load
from tests.support.proxy import Act, Fault, Proxy
from tests.support.waiting import wait_until
from tests.support.witness import Witness

_RATE_PER_S: Final = 30.0
# Seconds to wait for what must come on a machine of any speed; and those without any progress after which a flawed
# paynode is taken to have come to a halt. A sound one is waited for.
_PATIENCE_S: Final = 60.0
_HALT_S: Final = 2.5


@dataclass(slots=True, kw_only=True)
class Ground:
    """Where a trial takes place: a database and a Redis of its own, all of paynode in one or a few processes."""

    installation: Installation
    bug: str
    load: Load
    witness: Witness
    to_database: Proxy
    processes: list[Process] = field(default_factory=list)

    async def start(self, *verbs: str) -> Process:
        """Start verbs with the flaw, all in one process."""
        installation = self.installation
        log = installation.settings.data_dir / f"{self.bug.replace(' ', '-')}-{len(installation.processes)}.log"
        popen = _spawn([sys.executable, "-m", "tests.support.bugs", *verbs], log, self._environment())
        process = Process(" ".join(verbs), popen, log)
        installation.processes.append(process)
        self.processes.append(process)
        for _ in verbs:
            assert popen.stdout is not None
            with anyio.fail_after(60):
                line = await anyio.to_thread.run_sync(popen.stdout.readline, abandon_on_cancel=True)
            assert line.startswith("ready"), log.read_text()[-3000:]
        return process

    def _environment(self) -> dict[str, str]:
        url = self.to_database.through(self.installation.settings.database.url)
        return {
            **os.environ,
            **self.installation.environment,
            "PAYNODE_DATABASE__URL": url,
            "PAYNODE_TEST_BUG": self.bug,
        }

    async def accepted(self, more: int) -> None:
        """Wait for so many more payments."""
        enough = len(self.load.history.accepted) + more
        await wait_until(lambda: len(self.load.history.accepted) >= enough, f"{more} more are accepted", _PATIENCE_S)

    async def rows(self, statement: str) -> Sequence[asyncpg.Record]:
        """A look into the database, or a reach; nothing when somebody has just ended our session too."""
        with suppress(Transient, OSError, asyncpg.PostgresError):
            return await self.installation.rows(statement)
        return []

    def usage(self) -> list[Usage]:
        """What the processes hold."""
        return usage_of((one.verb, one.popen.pid) for one in self.processes if one.popen.poll() is None)


def _spawn(command: Sequence[str], log: Path, environment: Mapping[str, str]) -> subprocess.Popen[str]:
    with log.open("w") as stderr:
        return subprocess.Popen(
            command, env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=stderr, text=True
        )


Provoke: TypeAlias = Callable[[Ground], Awaitable[None]]


async def nothing(ground: Ground) -> None:
    """Paying is enough."""
    await ground.accepted(30)


async def cut_commits(ground: Ground) -> None:
    """Some COMMITs of the committers never arrive: what they were to write is rolled back."""
    ground.to_database.faults = [Fault(name="commit", pattern=COMMIT, act=Act.LOSE_REQUEST, share=0.5)]
    await wait_until(lambda: ground.to_database.bitten["commit"] >= 6, "six were cut off", _PATIENCE_S)
    ground.to_database.heal()
    await ground.accepted(5)


async def end_ingress(ground: Ground) -> None:
    """End the sessions of the ingress again and again."""
    for _ in range(15):
        await ground.accepted(1)
        await end_sessions(ground, "ingress%")


async def end_committers(ground: Ground) -> None:
    """End the sessions of the committers again and again: what was in hand is delivered again each time."""
    for _ in range(40):
        await ground.accepted(1)
        await end_sessions(ground, "%-committer-%")


async def end_sessions(ground: Ground, names: str) -> None:
    """Those whose application has such a name."""
    await ground.rows(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() "
        f"AND application_name LIKE '{names}'"
    )
    await anyio.sleep(0.02)


async def forget(ground: Ground) -> None:
    """FLUSHDB, a few times under load; in the same moment somebody publishes, before any group is made again."""
    async with redis.Redis.from_url(ground.installation.settings.redis.url, protocol=2) as road:
        for _ in range(5):
            await ground.accepted(8)
            async with road.pipeline(transaction=True) as at_once:
                at_once.flushdb()
                at_once.xadd(commands_stream("sim"), {"ref": str(uuid4())})
                await at_once.execute()


async def kill(ground: Ground) -> None:
    """kill -9 of the process that the ingress is in, and start it again."""
    await ground.accepted(20)
    process = ground.processes.pop(0)
    process.kill()
    await ground.start(*process.verb.split())
    await ground.accepted(10)


async def stop_a_worker(ground: Ground) -> None:
    """A second worker comes; the first is stopped until it has lost everything, and goes on."""
    await ground.accepted(10)
    [worker] = [process for process in ground.processes if process.verb == "worker"]
    worker.popen.send_signal(signal.SIGSTOP)
    before = ground.witness.takeovers
    try:
        await ground.start("worker")
        await wait_until(lambda: ground.witness.takeovers >= before + 32, "the other has taken over", _PATIENCE_S)
    finally:
        worker.popen.send_signal(signal.SIGCONT)
    enough = len(ground.load.history.accepted) + 100
    await wait_until(
        lambda: bool(ground.witness.violations) or len(ground.load.history.accepted) >= enough,
        "it has had its time to write",
        _PATIENCE_S,
    )


async def cut_accepting(ground: Ground) -> None:
    """Cut off the replies to what the ingress commits."""
    ground.to_database.faults = [Fault(name="accepting", pattern=b'"event_type"', act=Act.LOSE_REPLY, share=0.3)]
    await wait_until(lambda: ground.to_database.bitten["accepting"] >= 3, "three were cut off", _PATIENCE_S)
    ground.to_database.heal()
    await ground.accepted(10)


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """`laws` are those of which one must be broken; `mix` the tokens, when the usual ones do not do."""

    bug: str
    provoke: Provoke = nothing
    laws: frozenset[str]
    processes: Sequence[Sequence[str]] = (("psp-sim", "serve", "worker", "scheduler"),)


_APART: Final = (("psp-sim", "serve", "scheduler"), ("worker",))
TRIALS: Final = (
    Trial(bug="acknowledge before commit", provoke=cut_commits, laws=frozenset({"L3", "L4"})),
    Trial(bug="resend after time-out", laws=frozenset({"L4"})),
    # Two who both believe that they own a partition: one writes late, or takes what the other never sees.
    Trial(bug="no epoch check", provoke=stop_a_worker, laws=frozenset({"L13", "L10"}), processes=_APART),
    Trial(bug="dedupe by entry", laws=frozenset({"L10"})),
    Trial(bug="sweep of what was not published", provoke=forget, laws=frozenset({"L3", "L10"})),
    Trial(bug="group at the end", provoke=forget, laws=frozenset({"L10"})),
    Trial(bug="dead letter by deliveries", provoke=end_committers, laws=frozenset({"L11"})),
    Trial(bug="wallet outside the transaction", provoke=cut_commits, laws=frozenset({"L5", "L6"})),
    Trial(bug="stored error", provoke=end_ingress, laws=frozenset({"L9", "L18"})),
    Trial(bug="cut commit is failed", provoke=cut_accepting, laws=frozenset({"L2"})),
    Trial(bug="answer before commit", provoke=kill, laws=frozenset({"L1"})),
    Trial(bug="key in the log", laws=frozenset({"L17"})),
    Trial(bug="descriptors leak", laws=frozenset({"L16"})),
)


async def everything(ground: Ground) -> None:
    """All of these, one after the other."""
    for provoke in (cut_commits, forget, end_ingress, cut_accepting, kill, stop_a_worker):
        await provoke(ground)


# A paynode without a flaw: whoever sees something there cries wolf.
CONTROL: Final = Trial(bug="none", provoke=everything, laws=frozenset(), processes=_APART)


async def broken_by(trial: Trial, settings: Settings, redis_url: str, directory: Path, seed: int) -> Sequence[str]:
    """Hold the trial; what was seen, as `L4: ...`."""
    async with prepared(trial, settings, redis_url, directory, seed) as ground:
        ground.load.merchants = await ground.installation.merchants(5)
        async with anyio.create_task_group() as group:
            group.start_soon(partial(ground.witness.run, interval_s=0.2))
            group.start_soon(ground.load.run)
            await ground.accepted(5)
            before = ground.usage()
            await trial.provoke(ground)
            ground.load.is_over = True
            await _come_to_rest(ground)
            await ground.witness.look()
            group.cancel_scope.cancel()
        case = await gather(ground.installation)
        case = replace(
            case,
            asked=ground.load.history.asked,
            logs=logs_of(ground.installation),
            secrets=frozenset({CANARY, *(merchant.api_key for merchant in ground.load.merchants)}),
            before=before if trial.provoke is nothing else (),
            after=ground.usage(),
        )
    seen = [f"{law}: {violation}" for law, violations in judge(case).items() for violation in violations]
    return [*ground.witness.violations, *seen]


async def _come_to_rest(ground: Ground) -> None:
    """A sound paynode does, however long it takes; of a flawed one it is enough that nothing moves any more."""
    with anyio.move_on_after(_PATIENCE_S if ground.bug == "none" else 10):
        await ground.load.drained()
    before, since = "", time.monotonic()
    with anyio.move_on_after(_PATIENCE_S):
        while await _is_moving(ground) and (ground.bug == "none" or time.monotonic() - since < _HALT_S):
            if (now := await _progress(ground)) != before:
                before, since = now, time.monotonic()
            await anyio.sleep(0.1)


async def _progress(ground: Ground) -> str:
    """Something that changes with whatever gets done; what is only tried again and again changes nothing."""
    rows = await ground.rows(
        "SELECT (SELECT count(*) FROM outbox) AS outbox, (SELECT count(*) FROM evidence) AS evidence, "
        "(SELECT count(*) FROM psp_attempts WHERE outcome IS NOT NULL) AS attempts"
    )
    return str([tuple(row) for row in rows])


async def _is_moving(ground: Ground) -> bool:
    rows = await ground.rows("SELECT count(*) AS n FROM outbox")
    if not rows or rows[0]["n"] or has_more_to_tell(ground.installation):
        return True
    streams = await streams_of(ground.installation)
    return any(stream.waiting for stream in streams.values())


@asynccontextmanager
async def prepared(
    trial: Trial, settings: Settings, redis_url: str, directory: Path, seed: int
) -> AsyncIterator[Ground]:
    """The ground, with everything running; all of it killed at the end."""
    async with (
        installed(settings, redis_url, directory) as installation,
        Proxy.to(settings.database.url, seed=seed) as to_database,
    ):
        load = Load(
            installation=installation,
            merchants=(),
            history=History(),
            urls=[installation.settings.http.base_url],
            rate_per_s=_RATE_PER_S,
            random=Random(seed),
            in_flight_max=8,  # on a slow machine it is as slow as paynode is
            pause_s=0.2,
            prefix="trial",
        )
        ground = Ground(
            installation=installation,
            bug=trial.bug,
            load=load,
            witness=Witness(installation.settings),
            to_database=to_database,
        )
        try:
            for verbs in trial.processes:
                await ground.start(*verbs)
            yield ground
        finally:
            for process in installation.processes:
                if process.popen.poll() is None:
                    process.kill()
