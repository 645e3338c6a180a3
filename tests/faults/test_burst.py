"""A worker with `--burst` ends when nothing is left, and not before."""

from __future__ import annotations

import anyio
import pytest

from tests.faults.running import said, start, until_quiet
from tests.support.installation import Installation, Process
from tests.support.laws import check_laws
from tests.support.load import History, pay_many
from tests.support.waiting import wait_until


async def test_a_burst_does_all_there_is_and_ends(bare: Installation) -> None:
    """Without a scheduler: whatever must be published again, or for the first time, it publishes itself."""
    merchants, history = await bare.merchants(5), History()
    await start(bare, "psp-sim", "serve")
    await pay_many(bare, merchants, history, count=60, clients=8, tokens=("tok_approve", "tok_slow_300"))
    await bare.flush_redis()
    assert await ended(bare, "worker --burst") == 0
    left = await bare.rows("SELECT status FROM payments WHERE status <> 'captured'")
    assert not left, "it ended before they had"
    await until_quiet_by(bare, "worker --burst")
    assert len(history.accepted) == 60, history.refused
    await check_laws(bare, history.accepted)
    assert not await bare.rows("SELECT owner FROM partitions WHERE owner IS NOT NULL"), "all were given back"


@pytest.mark.long
async def test_a_burst_of_one_role_leaves_what_is_the_others(bare: Installation) -> None:
    merchants, history = await bare.merchants(5), History()
    await start(bare, "psp-sim", "serve", "scheduler")
    await pay_many(bare, merchants, history, count=20, clients=4)
    assert await ended(bare, "worker --burst --roles merchants,notifier") == 0
    assert said(bare.processes[-1], "notifier_idle") == 1, "it says that it has nothing to do"
    assert await count(bare, "psp.submit") == 20
    assert await ended(bare, "worker --burst --roles gateway") == 0
    assert await count(bare, "psp.submit") == 0
    assert await count(bare, "psp.evidence") >= 20
    assert await ended(bare, "worker --burst --roles notifier") == 0
    await start(bare, "worker")
    await until_quiet(bare)
    await check_laws(bare, history.accepted)


async def ended(installation: Installation, verb: str) -> int:
    """Start it and wait until it ends by itself."""
    [process] = await start(installation, verb)
    await wait_until(lambda: process.popen.poll() is not None, f"{verb} has ended", 40)
    return exit_code(process)


def exit_code(process: Process) -> int:
    assert process.popen.returncode is not None
    return process.popen.returncode


async def until_quiet_by(installation: Installation, verb: str) -> None:
    """The PSP may call back after the burst: another one for what came late."""
    with anyio.fail_after(60):
        while True:
            assert await ended(installation, verb) == 0
            try:
                await until_quiet(installation, 1)
            except AssertionError:
                continue
            return


async def count(installation: Installation, kind: str) -> int:
    [row] = await installation.rows("SELECT count(*) AS n FROM outbox WHERE type = $1", kind)
    return int(row["n"])
