"""A database that is there and refuses: no connection left, deadlocks, conflicts. All is slower, and nothing else."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import anyio
import pytest

from paynode import config
from paynode.storage.migrating import migrate
from paynode.storage.postgres import Session
from tests.faults.running import said, start, until_quiet
from tests.support import database as databases
from tests.support.directories import open_directory
from tests.support.installation import Installation, Reply, installed
from tests.support.laws import check_laws
from tests.support.replicas import Node
from tests.support.trouble import CLIENTS, crowd, paying
from tests.support.waiting import wait_until

TOKENS = ("tok_approve", "tok_approve", "tok_decline")


# Of 200 connections so many are kept for superusers: the rest is soon used up.
RESERVED = 150


@pytest.fixture
def server() -> Iterator[Node]:
    with open_directory() as directory:
        node = Node(directory / "primary")
        yield node
        node.stop()


@pytest.fixture
async def small(server: Node, redis_url: str, tmp_path: Path) -> AsyncIterator[Installation]:
    """An installation on a server of its own that has few connections."""
    server.start()
    await server.alter("superuser_reserved_connections", str(RESERVED))
    server.stop()
    settings = databases.pointed_at(config.load(), server.start(), tmp_path / "home")
    await migrate(settings)
    async with installed(settings, redis_url, tmp_path) as installation:
        yield installation


async def test_without_a_connection_left_the_ingress_says_so_and_all_recovers(small: Installation) -> None:
    merchants, refused = await small.merchants(10), list[Reply]()
    processes = await start(small, "psp-sim", "serve", "worker", "scheduler")
    async with crowd(small.settings.database.url) as others, paying(small, merchants, tokens=TOKENS) as load:
        await wait_until(lambda: load.accepted >= 30, "30 payments are accepted")
        while len(refused) < 10:  # whatever frees a connection, somebody else is there first
            await others.fill("paynode_%")
            reply = await small.pay(merchants[0], f"refused-{others.refusals}")
            (refused if reply.status == 503 else load.history.accepted).append(reply)
        await others.leave()
        seen = load.accepted
        await wait_until(lambda: load.accepted > seen + CLIENTS + 20, "and goes on by itself")
    for reply in refused:
        assert int(reply.headers["Retry-After"]) >= 1
        assert reply.headers["Content-Type"] == "application/problem+json"
        assert reply.json["code"] in ("unavailable", "conflict"), reply.raw
        assert b"Traceback" not in reply.raw
    assert set(load.history.refused) <= {503}, load.history.refused
    assert load.history.lost == 0, "nobody is left without an answer"
    assert all(process.popen.poll() is None for process in processes), "no process has ended over it"
    await until_quiet(small)
    await check_laws(small, load.history.accepted)


@pytest.mark.long
async def test_a_storm_of_deadlocks_slows_and_condemns_nobody(bare: Installation, owner: Session) -> None:
    merchants = await bare.merchants(4)
    # Whoever looks for a deadlock and finds one is its victim: the outsider never looks, the committer does so when the
    # outsider has had the time to close the circle.
    database = await owner.fetchval("SELECT current_database()")
    await owner.execute(f"ALTER ROLE paynode_committer IN DATABASE {database} SET deadlock_timeout = '300ms'")
    await owner.execute("SET deadlock_timeout = '60s'")
    bare.environment = {**bare.environment, "PAYNODE_WORKER__COMMITTERS": "1"}  # so that merchants share batches
    await start(bare, "psp-sim", "serve", "scheduler")
    [worker] = await start(bare, "worker")
    async with paying(bare, merchants) as load:
        await wait_until(lambda: have_wallets(owner, 4), "every merchant has a wallet", 20)
        with anyio.fail_after(30):
            while await deadlocks(bare) < 3:
                await cross(owner)
    assert not load.history.refused, load.history.refused
    await until_quiet(bare)
    assert said(worker, "commit_failed") >= 3
    await check_laws(bare, load.history.accepted)
    assert not await bare.rows("SELECT FROM dead_letters")


async def cross(owner: Session) -> None:
    """Lock wallets from the last to the first, where the committer goes from the first to the last."""
    async with owner.transaction():
        last = await owner.fetchval("SELECT merchant_id FROM wallets ORDER BY merchant_id DESC LIMIT 1 FOR UPDATE")
        await wait_until(lambda: holds_somebody_up(owner), "a batch waits for the last wallet")
        await owner.fetch("SELECT FROM wallets WHERE merchant_id < $1 ORDER BY merchant_id DESC FOR UPDATE", last)


async def holds_somebody_up(owner: Session) -> bool:
    waiting = "SELECT FROM pg_locks WHERE NOT granted AND pg_backend_pid() = ANY(pg_blocking_pids(pid))"
    return bool(await owner.fetch(waiting))


async def deadlocks(bare: Installation) -> int:
    rows = await bare.rows("SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()")
    return int(rows[0]["deadlocks"])


async def have_wallets(owner: Session, count: int) -> bool:
    return bool(await owner.fetchval("SELECT count(*) FROM wallets") == count)


@pytest.mark.long
async def test_a_storm_of_serialization_failures_slows_and_condemns_nobody(bare: Installation, owner: Session) -> None:
    merchants = await bare.merchants(10)
    await owner.execute(
        """CREATE SEQUENCE storm_hits;
        GRANT USAGE ON storm_hits TO public;
        CREATE FUNCTION storm() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
            IF random() < 0.6 THEN
                PERFORM nextval('storm_hits'); -- outlives the transaction
                RAISE SQLSTATE '40001';
            END IF;
            RETURN NULL;
        END $$"""
    )
    tables = ("operations", "psp_attempts", "ledger_entries", "evidence")  # of the ingress, the gateway, the committer
    for table in tables:
        await owner.execute(f"CREATE TRIGGER storm AFTER INSERT ON {table} FOR EACH STATEMENT EXECUTE FUNCTION storm()")
    await start(bare, "psp-sim", "serve", "worker", "scheduler")
    async with paying(bare, merchants, tokens=TOKENS) as load:
        await wait_until(lambda: has_hit(owner, 40), "the storm has hit 40 times", 30)
        for table in tables:
            await owner.execute(f"DROP TRIGGER storm ON {table}")
        seen = load.accepted
        await wait_until(lambda: load.accepted > seen + CLIENTS + 20, "and goes on by itself", 10)
    assert set(load.history.refused) <= {503}, load.history.refused
    await until_quiet(bare)
    await check_laws(bare, load.history.accepted)
    assert not await bare.rows("SELECT FROM dead_letters")


async def has_hit(owner: Session, count: int) -> bool:
    return bool(await owner.fetchval("SELECT last_value FROM storm_hits") >= count)
