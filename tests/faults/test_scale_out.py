"""Any number of workers share the partitions: they join, leave, die, flap and are cut off, and the books stay right."""

from __future__ import annotations

import os
import signal
from collections import Counter
from collections.abc import Mapping
from functools import partial

import anyio
import pytest

from paynode.storage.postgres import Session
from tests.faults.running import said, start, until_quiet
from tests.support.installation import Installation, Process
from tests.support.laws import check_laws
from tests.support.load import History, pay_many
from tests.support.waiting import wait_until

PARTITIONS = 32
# Seconds in which shares are fair again, whoever came or went.
FAIR_S = 5.0
# The default: so long that a killed owner who is replaced in time cannot have been found out by its lease.
LEASE_S = 3.0
BACKLOG = 1000
# Seconds for what must happen and for which nobody has promised a time.
PATIENCE_S = 60.0
MERCHANTS = "worker --roles merchants"


@pytest.fixture
def patient(bare: Installation) -> Installation:
    """With leases as long as they are in production."""
    bare.environment = {**bare.environment, "PAYNODE_WORKER__LEASE_S": str(LEASE_S)}
    return bare


@pytest.mark.long
async def test_workers_that_join_leave_and_flap_end_in_fair_shares(patient: Installation, owner: Session) -> None:
    merchants, history = await patient.merchants(20), History()
    *_, first = await start(patient, "psp-sim", "serve", "scheduler", "worker --roles gateway", MERCHANTS)
    await until_fair(owner, 1)
    async with anyio.create_task_group() as load:
        load.start_soon(lambda: pay_many(patient, merchants, history, count=300, clients=3))
        joined = [await join(patient) for _ in range(2)]
        await until_fair(owner, 3)
        assert await anyio.to_thread.run_sync(first.stop) == 0
        await until_fair(owner, 2)
        for death in (Process.stop, Process.kill, Process.kill, Process.stop):
            flapping = await join(patient)
            await wait_until(lambda: lives(owner, 3), "it has joined", PATIENCE_S)
            await anyio.to_thread.run_sync(death, flapping)
        await until_fair(owner, 2)
    await until_quiet(patient, PATIENCE_S)
    assert all(process.popen.poll() is None for process in joined)
    assert len(history.accepted) == 300, history.refused
    await check_laws(patient, history.accepted)


async def test_a_killed_owner_is_replaced_within_a_second_and_has_died(patient: Installation, owner: Session) -> None:
    """On a machine that is busy with something else a try may take longer; that one does not shows what tells."""
    await join(patient)
    tries: list[float] = []
    while not tries or (tries[-1] > 1.0 and len(tries) < 8):
        await until_fair(owner, 1)
        victim, [name] = patient.processes[-1], await owners(owner)
        await join(patient)
        await until_fair(owner, 2)
        await owner.execute("UPDATE partitions SET unclean_deaths = 0")
        killed_at = await clock(owner)
        victim.popen.kill()
        await wait_until(partial(has_no_partition, owner, name), "the other owns all of them", PATIENCE_S)
        tries.append(await clock(owner) - killed_at)
        victim.popen.wait()
    assert tries[-1] <= 1.0, tries
    assert await owner.fetchval("SELECT sum(unclean_deaths) FROM partitions") == PARTITIONS // 2, "its own, once each"


async def test_a_stopped_owner_is_replaced_when_its_lease_has_ended_and_has_not_died(
    patient: Installation, owner: Session
) -> None:
    process = await join(patient)
    await until_fair(owner, 1)
    [name] = await owners(owner)
    await join(patient)
    await until_fair(owner, 2)
    stopped_at = await clock(owner)
    process.popen.send_signal(signal.SIGSTOP)
    await wait_until(lambda: has_no_partition(owner, name), "the other owns all of them", PATIENCE_S)
    seconds = await clock(owner) - stopped_at
    assert LEASE_S / 2 < seconds <= (LEASE_S + 2) * slowness()
    assert await owner.fetchval("SELECT count(*) FROM partitions WHERE unclean_deaths > 0") == 0
    process.popen.send_signal(signal.SIGCONT)
    await wait_until(lambda: said(process, "partition_lost") == PARTITIONS // 2, "it has noticed", PATIENCE_S)
    await until_fair(owner, 2)


@pytest.mark.long
async def test_a_worker_whose_presence_is_cut_goes_on(patient: Installation, owner: Session) -> None:
    merchants, history = await patient.merchants(20), History()
    await start(patient, "psp-sim", "serve", "scheduler", "worker", MERCHANTS)
    await until_fair(owner, 2)
    async with anyio.create_task_group() as load:
        load.start_soon(lambda: pay_many(patient, merchants, history, count=300, clients=3))
        for _ in range(10):
            assert await owner.fetchval(
                "SELECT count(pg_terminate_backend(pid, 5000)) FROM pg_stat_activity "
                "WHERE application_name LIKE 'worker-%-presence' AND datname = current_database()"
            )
            await wait_until(lambda: lives(owner, 2), "both are back", PATIENCE_S)
    await until_fair(owner, 2)
    await until_quiet(patient, PATIENCE_S)
    assert all(process.popen.poll() is None for process in patient.processes)
    assert len(history.accepted) == 300, history.refused
    await check_laws(patient, history.accepted)


@pytest.mark.long
async def test_workers_may_be_added_while_a_backlog_drains(patient: Installation, owner: Session) -> None:
    # Two messages in a transaction: so slow that the backlog is still there when the last one has joined.
    patient.environment = {**patient.environment, "PAYNODE_WORKER__BATCH_SIZE": "2"}
    merchants, history = await patient.merchants(50), History()
    await start(patient, "psp-sim", "serve", "scheduler", "worker --roles gateway")
    await pay_many(patient, merchants, history, count=BACKLOG, clients=16)
    await wait_until(lambda: is_waiting(owner, BACKLOG), "the PSP has answered all of it", PATIENCE_S)
    await join(patient)
    await wait_until(lambda: is_booked(owner, 20), "it drains", PATIENCE_S)
    await start(patient, MERCHANTS, "worker --roles merchants,notifier")
    await until_fair(owner, 3)
    assert await booked(owner) < BACKLOG, "there was no backlog any more: nothing was shown"
    await until_quiet(patient, 4 * PATIENCE_S)
    assert len(history.accepted) == BACKLOG, history.refused
    await check_laws(patient, history.accepted)


async def join(installation: Installation) -> Process:
    """One more worker for merchants."""
    [process] = await start(installation, MERCHANTS)
    return process


async def until_fair(owner: Session, workers: int) -> None:
    """Each worker that lives holds its share, exactly."""
    shares: Mapping[str, int] = {}

    async def is_fair() -> bool:
        nonlocal shares
        shares = await owners(owner)
        return len(shares) == workers and sum(shares.values()) == PARTITIONS and set(shares.values()) <= fair

    fair = {PARTITIONS // workers, -(-PARTITIONS // workers)}
    try:
        await wait_until(is_fair, f"{workers} workers have fair shares", FAIR_S * slowness())
    except AssertionError as error:
        rows = await owner.fetch("SELECT id, alive_until > clock_timestamp() AS is_alive FROM workers")
        raise AssertionError(f"{error}: {shares}, {[tuple(row) for row in rows]}") from None


def slowness() -> float:
    """How many times longer than on a machine of our own things may take: what others make of it says nothing of us."""
    processors = os.cpu_count() or 1
    return max(1.0, os.getloadavg()[0] / processors - 1.0)  # one of them is us


async def owners(owner: Session) -> Mapping[str, int]:
    """How many partitions each owner holds."""
    rows = await owner.fetch("SELECT owner FROM partitions WHERE owner IS NOT NULL")
    return Counter(row["owner"] for row in rows)


async def has_no_partition(owner: Session, name: str) -> bool:
    held = await owners(owner)
    return name not in held and sum(held.values()) == PARTITIONS


async def lives(owner: Session, count: int) -> bool:
    found = await owner.fetchval(
        "SELECT count(*) FROM workers WHERE alive_until > clock_timestamp() "
        "AND session_is_gone(backend_pid, backend_start, backend_server) IS NOT TRUE"
    )
    return bool(found == count)


async def clock(owner: Session) -> float:
    """The database's own clock, in seconds: the one by which leases end."""
    return float(await owner.fetchval("SELECT extract(epoch FROM clock_timestamp())::float8"))


async def is_waiting(owner: Session, count: int) -> bool:
    """So many payments wait for the actor of their merchant: their answers at least, and callbacks beside them."""
    return bool(
        await owner.fetchval("SELECT count(DISTINCT payment_id) FROM outbox WHERE type = 'psp.evidence'") == count
    )


async def booked(owner: Session) -> int:
    return int(await owner.fetchval("SELECT count(*) FROM payments WHERE status = 'captured'"))


async def is_booked(owner: Session, count: int) -> bool:
    return await booked(owner) >= count
