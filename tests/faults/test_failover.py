"""The primary goes away for good, its synchronous standby takes its place, and later the old one comes back."""

from __future__ import annotations

import signal
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from paynode import config
from paynode.domain.ids import MERCHANT, PAYMENT, parse, public
from paynode.domain.partition import partition_of
from paynode.storage.migrating import migrate
from tests.faults.running import epochs, said, start, until_quiet
from tests.support import database as databases
from tests.support.installation import Installation, Reply, installed
from tests.support.laws import check_laws
from tests.support.replicas import Pair, pair
from tests.support.trouble import CLIENTS, paying
from tests.support.waiting import wait_until

# What is promised; from the moment in which the standby was told to take over.
RECOVERY_S = 15.0
PARTITIONS = 32

# What shows of transactions that began after an instant. Others may come to light after it: the standby had them before
# it was promoted, and its word on it arrived late. A lease lasts a second.
WRITTEN_SINCE = """SELECT
    (SELECT count(*) FROM payments WHERE updated_at > '{0}') + (SELECT count(*) FROM outbox WHERE created_at > '{0}')
    + (SELECT count(*) FROM psp_attempts WHERE claimed_at > '{0}')
    + (SELECT count(*) FROM partitions WHERE lease_until > timestamptz '{0}' + interval '1 s')"""


@pytest.fixture
def a_pair() -> Iterator[Pair]:
    with pair() as made:
        yield made


@pytest.fixture
async def own(a_pair: Pair, redis_url: str, tmp_path: Path) -> AsyncIterator[Installation]:
    """An installation whose URL names both servers, the primary first."""
    settings = databases.pointed_at(config.load(), await a_pair.begin(), tmp_path / "home")
    await migrate(settings)
    async with installed(settings, redis_url, tmp_path) as installation:
        # A silent server costs a process this much and two seconds more, before it looks for another.
        installation.environment = {**installation.environment, "PAYNODE_DATABASE__STATEMENT_TIMEOUT_MS": "1500"}
        yield installation


@pytest.mark.parametrize(
    "fault",
    [
        pytest.param(signal.SIGKILL, id="dies"),
        pytest.param(signal.SIGSTOP, id="falls silent", marks=pytest.mark.long),
    ],
)
async def test_a_promoted_standby_is_found_and_nothing_acknowledged_is_lost(
    own: Installation, a_pair: Pair, fault: signal.Signals
) -> None:
    merchants = await own.merchants(10)
    _, _, _, zombie = await start(own, "psp-sim", "serve", "scheduler", "worker")
    [zombies_name] = await owners(own)
    await start(own, "worker")
    await wait_until(lambda: has_owners(own, 2), "both workers own partitions")
    async with paying(own, merchants) as load:
        await wait_until(lambda: load.accepted >= 50, "50 payments are accepted")
        zombie.popen.send_signal(signal.SIGSTOP)  # it sleeps over all of it, with its batch and its epochs in hand
        a_pair.pause() if fault is signal.SIGSTOP else a_pair.kill()
        fresh = load.accepted + CLIENTS  # that many may have been answered, and not heard yet
        begun = time.monotonic()
        await a_pair.promote()
        await wait_until(lambda: load.accepted > fresh, "payments are accepted again", RECOVERY_S)
        accepted_s = time.monotonic() - begun
        answers = load.history.accepted
        await wait_until(lambda: is_any_captured(own, answers[fresh:]), "and paid", RECOVERY_S - accepted_s)
        print(f"\naccepted after {accepted_s:.1f} s, paid after {time.monotonic() - begun:.1f} s")

        a_pair.resume() if fault is signal.SIGSTOP else a_pair.start()
        since = await a_pair.ask("SELECT clock_timestamp()::text")
        await wait_until(lambda: has_lost_all(own, zombies_name), "the other worker owns everything", RECOVERY_S)
        after = await epochs(own)
        zombie.popen.send_signal(signal.SIGCONT)
        written = {row["id"] for row in await own.rows("SELECT id FROM ledger_entries")}
        seen = load.accepted
        await wait_until(lambda: load.accepted >= seen + 50, "50 more are accepted", 30)
    await until_quiet(own)

    assert set(load.history.refused) <= {503}, load.history.refused
    assert load.history.lost == 0, "nobody is left without an answer"
    assert await a_pair.standby.ask("SELECT left(pg_walfile_name(pg_current_wal_lsn()), 8)") == "00000002"
    await wait_until(lambda: said(zombie, "partition_lost") > 0, "it has noticed that it was overtaken", 30)
    assert await a_pair.ask("SELECT NOT pg_is_in_recovery()"), "the old one runs and takes writes ..."
    assert await a_pair.ask(WRITTEN_SINCE.format(since)) == 0, "... and nobody has written there ..."
    sessions = f"SELECT count(*) FROM pg_stat_activity WHERE usename LIKE 'paynode_%' AND backend_start > '{since}'"
    await wait_until(lambda: equals(a_pair, sessions, 0), "... nor stays there", 60)
    rows = await own.rows("SELECT id, merchant_id::text AS merchant_id, epoch FROM ledger_entries")
    late = [row for row in rows if row["id"] not in written]
    assert late, "nothing was booked after it came back"
    for row in late:
        assert row["epoch"] >= after[partition_of(public(MERCHANT, row["merchant_id"]), PARTITIONS)], "L13"
    await check_laws(own, load.history.accepted)


async def equals(server: Pair, statement: str, value: object) -> bool:
    return await server.ask(statement) == value


async def owners(own: Installation) -> list[str]:
    async def have_all_one() -> bool:
        return not await own.rows("SELECT FROM partitions WHERE owner IS NULL")

    await wait_until(have_all_one, "every partition has an owner")
    return [row["owner"] for row in await own.rows("SELECT DISTINCT owner FROM partitions")]


async def has_owners(own: Installation, number: int) -> bool:
    return len(await owners(own)) == number


async def has_lost_all(own: Installation, owner: str) -> bool:
    return not await own.rows("SELECT FROM partitions WHERE owner = $1", owner)


async def is_any_captured(own: Installation, created: list[Reply]) -> bool:
    ids = [parse(PAYMENT, reply.json["id"]) for reply in created]
    return bool(await own.rows("SELECT FROM payments WHERE id = ANY($1::uuid[]) AND status = 'captured'", ids))
