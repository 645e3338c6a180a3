"""Owners that are stopped and come back: what they hold is taken from them, and what they want is refused."""

from __future__ import annotations

import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import anyio
import pytest

from paynode.config import Settings
from paynode.domain.ids import MERCHANT, public
from paynode.domain.partition import partition_of
from paynode.storage.batch_rows import ENTRY_COLUMNS
from paynode.storage.postgres import Role, Session, connect
from tests.faults.running import epochs, said, start, until_quiet
from tests.support.installation import Installation, Process
from tests.support.laws import check_laws
from tests.support.load import History, pay_many
from tests.support.proxy import Proxy
from tests.support.waiting import wait_until

LEASE_S = 1.0
PARTITIONS = 32


@pytest.mark.long
async def test_a_worker_that_was_stopped_commits_nothing_and_charges_nobody_twice(bare: Installation) -> None:
    merchants, history = await bare.merchants(20), History()
    _, _, _, first = await start(bare, "psp-sim", "serve", "scheduler", "worker")
    await wait_until(lambda: has_one_owner(bare), "the first owns everything")
    [name] = [row["owner"] for row in await bare.rows("SELECT DISTINCT owner FROM partitions")]
    [second] = await start(bare, "worker")
    await wait_until(lambda: is_shared(bare), "both own sixteen partitions")

    tokens = ("tok_approve", "tok_slow_900")
    async with anyio.create_task_group() as load:
        load.start_soon(lambda: pay_many(bare, merchants, history, count=120, clients=6, tokens=tokens))
        await stop_in_a_call(bare, first, name)
        await anyio.sleep(3 * LEASE_S)
        await wait_until(lambda: has_one_owner(bare), "the second has taken over", 5)
    after = await epochs(bare)
    written = {row["id"] for row in await bare.rows("SELECT id FROM ledger_entries")}
    first.popen.send_signal(signal.SIGCONT)
    await pay_many(bare, merchants, history, count=120, clients=6, tokens=tokens, prefix="later")
    await until_quiet(bare)

    await wait_until(lambda: said(first, "partition_lost") > 0, "it has noticed", 5)
    assert first.popen.poll() is None, "it goes on as a worker like any other"
    assert said(second, "partitions_taken") >= 1
    rows = await bare.rows("SELECT id, merchant_id::text AS merchant_id, epoch FROM ledger_entries")
    late = [row for row in rows if row["id"] not in written]
    assert late, "nothing was booked after it came back"
    for row in late:
        assert row["epoch"] >= after[partition_of(public(MERCHANT, row["merchant_id"]), PARTITIONS)], "L13"
    assert len(history.accepted) == 240, history.refused
    await check_laws(bare, history.accepted)


@pytest.mark.long
async def test_a_worker_that_is_cut_off_from_the_database_is_overtaken_and_comes_back(
    bare: Installation, to_database: Proxy
) -> None:
    """Silence, not an error: what it had sent arrives late, in the middle of somebody else's time."""
    merchants, history = await bare.merchants(20), History()
    await start(bare, "psp-sim", "serve", "scheduler", "worker")
    [silenced] = await start(bare, "worker", database=to_database)
    async with anyio.create_task_group() as load:
        load.start_soon(lambda: pay_many(bare, merchants, history, count=300, clients=4))
        await wait_until(lambda: is_shared(bare), "both own sixteen partitions")
        to_database.hold()
        await wait_until(lambda: has_one_owner(bare), "the other has taken over", 5)
        await anyio.sleep(LEASE_S)
        to_database.release()
    assert to_database.bitten["held"] > 0, "the fault did not bite"
    await until_quiet(bare)
    await wait_until(lambda: said(silenced, "partition_lost") > 0, "it has noticed", 5)
    assert len(history.accepted) == 300, history.refused
    await check_laws(bare, history.accepted)


@pytest.mark.parametrize("where", ["in the middle of COPY", "between the lease and COMMIT"])
async def test_what_an_owner_holds_that_stopped_in_its_transaction_is_taken_from_it(
    bare: Installation, owner: Session, where: str
) -> None:
    merchants, history = await bare.merchants(5), History()
    await start(bare, "psp-sim", "serve", "worker --roles gateway")
    await pay_many(bare, merchants, history, count=10, clients=5)
    await wait_until(lambda: has_evidence(bare, 10), "the PSP has answered")
    await owner.execute("UPDATE partitions SET owner = 'ghost', epoch = 1, lease_until = clock_timestamp()")
    async with ghost(bare.settings, where):
        await start(bare, "worker --roles merchants", "scheduler")
        # Far below the ten seconds after which the server ends an idle transaction, and one in COPY never.
        await until_quiet(bare, 6)
    await check_laws(bare, history.accepted)


@asynccontextmanager
async def ghost(settings: Settings, where: str) -> AsyncIterator[None]:
    """A committer's session that goes no further: its process has been stopped."""
    stuck = await connect(settings, Role.COMMITTER, application_name="ghost-committer-0")
    try:
        async with anyio.create_task_group() as group:
            await stuck.execute("BEGIN")
            await stuck.execute("DELETE FROM outbox WHERE type = 'psp.evidence'")
            if where == "in the middle of COPY":
                group.start_soon(copy_for_ever, stuck)
            else:
                await stuck.execute("UPDATE partitions SET lease_until = clock_timestamp() + interval '1 hour'")
            yield
            group.cancel_scope.cancel()
    finally:
        stuck.terminate()


async def copy_for_ever(stuck: Session) -> None:
    async def never() -> AsyncIterator[bytes]:
        await anyio.sleep_forever()
        yield b""

    await stuck.copy_to_table("ledger_entries", source=never(), columns=ENTRY_COLUMNS)


async def stop_in_a_call(bare: Installation, process: Process, name: str) -> None:
    """SIGSTOP while a call is under way; one that ended between the look and the signal was none: again."""
    for _ in range(50):
        await wait_until(lambda: is_calling(bare, name), f"a call of {name} is under way")
        process.popen.send_signal(signal.SIGSTOP)
        if await is_calling(bare, name):
            return
        process.popen.send_signal(signal.SIGCONT)
    raise AssertionError("every call had just ended: the fault did not bite")


async def is_shared(bare: Installation) -> bool:
    rows = await bare.rows("SELECT count(*) AS n FROM partitions WHERE owner IS NOT NULL GROUP BY owner")
    return [row["n"] for row in rows] == [16, 16]


async def has_one_owner(bare: Installation) -> bool:
    rows = await bare.rows("SELECT owner FROM partitions GROUP BY owner")
    return len(rows) == 1 and rows[0]["owner"] is not None


async def is_calling(bare: Installation, worker: str) -> bool:
    return bool(await bare.rows("SELECT FROM psp_attempts WHERE gateway = $1 AND outcome IS NULL", worker))


async def has_evidence(bare: Installation, count: int) -> bool:
    rows = await bare.rows("SELECT count(*) FILTER (WHERE type = 'psp.evidence') AS n, count(*) AS all FROM outbox")
    return bool(rows[0]["n"] == rows[0]["all"] >= count)
