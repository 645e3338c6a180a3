"""Real faults under load. Each test proves that its fault bit; else it would show nothing."""

from __future__ import annotations

from functools import partial

import anyio
import pytest

from tests.support.installation import Installation
from tests.support.laws import check_laws
from tests.support.load import History, pay_many
from tests.support.waiting import wait_until


@pytest.mark.long
async def test_a_worker_killed_in_mid_batch_loses_and_doubles_nothing(installation: Installation) -> None:
    merchants, history = await installation.merchants(10), History()
    [first] = [process for process in installation.processes if process.verb == "worker"]
    async with anyio.create_task_group() as load:
        load.start_soon(lambda: pay_many(installation, merchants, history, count=500, clients=16))
        for done in (100, 250):
            await wait_until(partial(_has_accepted, history, done), f"{done} payments are accepted")
            before = await _epoch(installation)
            first.kill()
            first = installation.start("worker")
            await wait_until(partial(_has_risen, installation, before), "the new worker owns the partitions")
    assert len(history.accepted) == 500, history.refused
    await installation.until_settled()
    assert await _epoch(installation) >= 3, "no partition was ever taken over: the fault did not bite"
    await check_laws(installation, history.accepted)


def _has_accepted(history: History, count: int) -> bool:
    return len(history.accepted) >= count


async def _epoch(installation: Installation) -> int:
    [row] = await installation.rows("SELECT min(epoch) AS epoch FROM partitions")
    return int(row["epoch"])


async def _has_risen(installation: Installation, before: int) -> bool:
    return await _epoch(installation) > before


@pytest.mark.long
async def test_redis_may_forget_everything_under_load(installation: Installation) -> None:
    merchants, history = await installation.merchants(10), History()
    async with anyio.create_task_group() as load:
        load.start_soon(lambda: pay_many(installation, merchants, history, count=500, clients=16))
        for done in (100, 200, 300):
            await wait_until(partial(_has_accepted, history, done), f"{done} payments are accepted")
            await installation.flush_redis()
    assert len(history.accepted) == 500, history.refused
    await installation.until_settled()
    await check_laws(installation, history.accepted)
    republished = sum(
        process.log.read_text().count('"republished"')
        for process in installation.processes
        if process.verb == "scheduler"
    )
    assert republished > 0, "nothing had to be published again: the fault did not bite"


@pytest.mark.long
async def test_a_worker_killed_and_redis_emptied_together_with_a_psp_that_stumbles(installation: Installation) -> None:
    merchants, history = await installation.merchants(5), History()
    tokens = ("tok_approve", "tok_hang_after", "tok_approve", "tok_error_before", "tok_decline", "tok_dup_callback")
    [first] = [process for process in installation.processes if process.verb == "worker"]
    async with anyio.create_task_group() as load:
        load.start_soon(lambda: pay_many(installation, merchants, history, count=300, clients=12, tokens=tokens))
        await wait_until(lambda: len(history.accepted) >= 100, "100 payments are accepted")
        first.kill()
        await installation.flush_redis()
        installation.start("worker")
    await installation.until_settled(90)
    await check_laws(installation, history.accepted)
    [row] = await installation.rows("SELECT count(*) AS n FROM evidence WHERE outcome = 'unknown'")
    assert row["n"] > 0, "no outcome was ever in doubt: the fault did not bite"


@pytest.mark.long
async def test_two_workers_share_the_partitions_and_one_takes_over_when_the_other_leaves(
    installation: Installation,
) -> None:
    merchants, history = await installation.merchants(20), History()
    second = installation.start("worker")

    async def owners() -> dict[str | None, int]:
        rows = await installation.rows("SELECT owner, count(*) AS n FROM partitions GROUP BY owner")
        return {row["owner"]: row["n"] for row in rows}

    async def is_shared() -> bool:
        return sorted((await owners()).values()) == [16, 16]

    async def is_taken_over() -> bool:
        return list((await owners()).values()) == [32]

    async with anyio.create_task_group() as load:
        load.start_soon(lambda: pay_many(installation, merchants, history, count=400, clients=16))
        await wait_until(is_shared, "both own sixteen partitions", 5)
        await wait_until(lambda: len(history.accepted) >= 200, "200 payments are accepted")
        assert second.stop() == 0
        await wait_until(is_taken_over, "the first owns all of them again", 5)
    assert len(history.accepted) == 400, history.refused
    await installation.until_settled()
    await check_laws(installation, history.accepted)


async def test_an_ingress_killed_between_commit_and_answer_is_adopted_by_the_next(installation: Installation) -> None:
    [merchant] = await installation.merchants(1)
    [serve] = [process for process in installation.processes if process.verb == "serve"]
    history = History()
    async with anyio.create_task_group() as load:
        load.start_soon(lambda: pay_many(installation, [merchant], history, count=200, clients=16))
        await wait_until(lambda: len(history.accepted) >= 50, "50 payments are accepted")
        serve.kill()
    assert history.lost > 0, "no request was ever cut off: the fault did not bite"
    installation.start("serve")
    again = History()
    await pay_many(installation, [merchant], again, count=200, clients=16)
    assert len(again.accepted) == 200, again.refused
    await installation.until_settled()
    assert len(await installation.book()) == 200
    await check_laws(installation, history.accepted + again.accepted)


async def test_sigterm_drains_every_process_in_time(installation: Installation) -> None:
    merchants, history = await installation.merchants(5), History()
    await pay_many(installation, merchants, history, count=100, clients=16)
    codes = {process.verb: process.stop() for process in installation.processes if process.verb != "psp-sim"}
    assert codes == {"serve": 0, "worker": 0, "scheduler": 0}
    owners = await installation.rows("SELECT DISTINCT owner FROM partitions")
    assert [row["owner"] for row in owners] == [None]
    for verb in ("serve", "worker", "scheduler"):
        installation.start(verb)
    await installation.until_settled()
    await check_laws(installation, history.accepted)
