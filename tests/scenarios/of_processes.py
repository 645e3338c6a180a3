"""Processes that are killed, stopped and asked to go: W1 to W4, H2."""

from __future__ import annotations

import signal
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from functools import partial

import anyio

from tests.support.history import Asked
from tests.support.installation import Process
from tests.support.nemesis import Proof, Scenario
from tests.support.stage import Stage
from tests.support.waiting import wait_until

# What the simulator's callbacks and the lease of a worker take, and some more on a busy machine.
_STOPPED_S = 3.0
# The ten seconds that a drain may take, on a machine that has much else to do.
_DRAINED_S = 40.0
# Seconds within which somebody comes by at every point of a process that works.
_CRASH_S = 20.0


async def stop(stage: Stage, name: str) -> int:
    """SIGTERM, and the exit code after the drain."""
    process = stage.cast[name].popen
    process.send_signal(signal.SIGTERM)
    await wait_until(lambda: process.poll() is not None, f"{name} has drained", _DRAINED_S)
    return process.returncode


def since(count: int, now: int) -> int:
    """How many more."""
    return now - count


@asynccontextmanager
async def worker_killed(stage: Stage) -> AsyncIterator[Proof]:
    """kill -9, and it is started again at once: its partitions go to the other one, or to its successor."""
    name, before = stage.one_of("worker"), stage.witness.takeovers

    async def proof() -> int:
        return since(before, stage.witness.takeovers)

    with stage.in_hand(name):
        stage.cast[name].kill()
        try:
            yield proof
        finally:
            await stage.start(name)


@asynccontextmanager
async def ingress_killed(stage: Stage) -> AsyncIterator[Proof]:
    """kill -9 with requests on their way: their clients hear nothing, and ask the other one."""
    name, before = stage.one_of("serve"), len([one for one in stage.history.asked if one.lost_by])

    async def proof() -> int:
        return since(before, len([one for one in stage.history.asked if one.lost_by]))

    with stage.in_hand(name):
        stage.cast[name].kill()
        try:
            yield proof
        finally:
            await stage.start(name)


@asynccontextmanager
async def worker_stopped(stage: Stage) -> AsyncIterator[Proof]:
    """SIGSTOP for longer than its lease, then SIGCONT: a zombie that believes that it owns what it has lost."""
    name, before = stage.one_of("worker"), stage.witness.takeovers
    process = stage.cast[name].popen
    process.send_signal(signal.SIGSTOP)

    async def proof() -> int:
        return since(before, stage.witness.takeovers)

    try:
        yield proof
    finally:
        process.send_signal(signal.SIGCONT)


@asynccontextmanager
async def everything_restarted(stage: Stage) -> AsyncIterator[Proof]:
    """SIGTERM to one process after the other: each drains, ends with 0, and no request is answered 5xx over it."""
    asked, codes = len(stage.history.asked), list[int]()
    for name in ("serve-1", "worker-1", "scheduler", "serve-2", "worker-2"):
        if not stage.is_running(name):
            continue
        with stage.in_hand(name):
            codes.append(await stop(stage, name))
            await stage.start(name)

    async def proof() -> int:
        errors = {one.body for one in stage.history.asked[asked:] if one.status and one.status >= 500}
        assert not errors, f"W4: answered {sorted(errors)[:3]}"
        assert not any(codes), f"W4: exit codes {codes}"
        return len(codes)

    yield proof


@asynccontextmanager
async def _crashed(stage: Stage, *, points: Sequence[str]) -> AsyncIterator[Proof]:
    """A process that ends itself by SIGKILL when it comes to a named point for the third time; then the next point."""
    name, victims = stage.one_of("serve" if points[0].startswith("ingress") else "worker"), list[Process]()

    async def proof() -> int:
        crashed = sum(victim.popen.returncode == -signal.SIGKILL for victim in victims)
        return crashed if crashed == len(points) else 0

    with stage.in_hand(name):
        if stage.is_running(name):
            await stop(stage, name)
        try:
            for point in points:
                victims.append(await stage.start(name, module="tests.support.bugs", PAYNODE_TEST_BUG=f"crash:{point}"))
                with anyio.move_on_after(_CRASH_S):
                    while stage.is_running(name):  # noqa: ASYNC110 - polled: it ends by itself
                        await anyio.sleep(0.05)
                if stage.is_running(name):  # nobody came by
                    await anyio.to_thread.run_sync(victims.pop().kill)
            yield proof
        finally:
            await stage.start(name)


@asynccontextmanager
async def one_key_fifty_times(stage: Stage) -> AsyncIterator[Proof]:
    """Fifty times the same request at once over both ingresses, one of which is killed meanwhile: one payment."""
    merchant, load = stage.load.merchants[0], stage.load
    key = f"fifty-{stage.random.randrange(10**9)}"
    asked = [Asked(merchant_id=merchant.id, key=key, amount=777) for _ in range(50)]
    with stage.in_hand(stage.one_of("serve")) as name:
        async with anyio.create_task_group() as clients:
            for number, one in enumerate(asked):
                clients.start_soon(load.ask, merchant, one, number)
            await anyio.sleep(stage.random.uniform(0.005, 0.05))
            stage.cast[name].kill()
        await stage.start(name)
    again = Asked(merchant_id=merchant.id, key=key, amount=777)
    for _ in range(20):
        again = Asked(merchant_id=merchant.id, key=key, amount=777)
        await load.ask(merchant, again, 0)
        if again.is_accepted:
            break
        await anyio.sleep(0.5)
    heard = {one.body for one in (*asked, again) if one.status == 201}
    assert len(heard) == 1, f"H2: {len(heard)} different answers: {[one.status for one in asked]}"

    async def proof() -> int:
        return sum(one.lost_by != "" for one in asked)

    yield proof


WORKER_KILLED = Scenario(
    id="W1", name="worker killed", act=worker_killed, recovers_within_s=5, is_a_blow=True, takes=frozenset({"worker"})
)
WORKER_STOPPED = Scenario(
    id="W3", name="worker stopped", act=worker_stopped, lasts_s=_STOPPED_S, takes=frozenset({"worker"})
)
# Alone with everything else: what another fault makes of a request would be laid at its door.
ALL = frozenset({"worker", "ingress", "database", "redis", "line"})
ROLLING = Scenario(id="W4", name="rolling restart", act=everything_restarted, lasts_s=0, takes=ALL)
INGRESS_KILLED = Scenario(id="H2", name="ingress killed", act=ingress_killed, takes=frozenset({"ingress"}))
FIFTY = Scenario(
    id="H2", name="one key 50 times", act=one_key_fifty_times, lasts_s=0, takes=frozenset({"ingress", "database"})
)
# Named as `tests.support.bugs.crashes` knows them.
CRASH_POINTS = (
    "ingress accepted",
    "ingress published",
    "before the call",
    "after the call",
    "attempt concluded",
    "before the commit",
    "after the commit",
)
CRASHES = tuple(
    Scenario(
        id="W2",
        name=f"crash: {point}",
        act=partial(_crashed, points=(point,)),
        lasts_s=0,
        takes=frozenset({"ingress" if point.startswith("ingress") else "worker"}),
    )
    for point in CRASH_POINTS
)
# For the fast set: starting is what takes time, and each crash is the end of one start.
CRASHES_IN_TURN = (
    Scenario(id="W2", name="ingress crashes", act=partial(_crashed, points=["ingress published"]), lasts_s=0),
    Scenario(
        id="W2",
        name="worker crashes in turn",
        act=partial(_crashed, points=["before the call", "after the call", "after the commit"]),
        lasts_s=0,
    ),
)
SCENARIOS = (WORKER_KILLED, WORKER_STOPPED, ROLLING, INGRESS_KILLED, FIFTY, *CRASHES)
