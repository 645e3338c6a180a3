"""What is found although nobody heard that it was committed: told only once it is where a failover keeps it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator
from datetime import UTC, datetime

import anyio
import pytest
from uuid_utils import uuid7

from paynode import config
from paynode.config import Settings
from paynode.domain.accepting import Accepted, Received
from paynode.domain.errors import Unavailable
from paynode.storage.accepting import PgAccepting
from paynode.storage.callbacks import PgCallbacks
from paynode.storage.migrating import migrate
from paynode.storage.postgres import Role, pool, session
from tests.storage import rows
from tests.storage.test_accepting import payment
from tests.support.database import pointed_at
from tests.support.replicas import Pair, pair
from tests.support.waiting import wait_until

_WAITING = "FROM pg_stat_activity WHERE wait_event = 'SyncRep' AND usename = 'paynode_ingress'"


@pytest.fixture(scope="module")
def a_pair() -> Iterator[Pair]:
    with pair() as made:
        yield made


@pytest.fixture(scope="module")
async def hurried(a_pair: Pair) -> Settings:
    """A migrated pair, and settings under which the wait for a standby that says nothing is soon over."""
    told = config.load({"database": {"statement_timeout_ms": 300}})
    settings = pointed_at(told, await a_pair.begin(), a_pair.home)
    await migrate(settings)
    return settings


@pytest.fixture
async def merchant_id(hurried: Settings) -> str:
    merchant = rows.merchant()
    async with session(hurried, Role.OWNER, application_name="test") as owner:
        await rows.insert(owner, "merchants", merchant)
    return str(merchant["id"])


def callback() -> Received:
    """One that speaks of nothing we know."""
    return Received(
        inbox_id=str(uuid7()),
        psp="sim",
        event_id=str(uuid7()),
        our_reference="unknown",
        raw=b"{}",
        claim="{}",
        at=datetime.now(UTC),
    )


async def test_what_was_committed_without_the_standby_is_not_told_before_the_standby_has_it(
    a_pair: Pair, hurried: Settings, merchant_id: str
) -> None:
    asked, received = payment(merchant_id), callback()
    async with pool(hurried, Role.INGRESS, application_name="test") as connections:
        accepting, callbacks = PgAccepting(connections), PgCallbacks(connections)
        await a_pair.ask("CHECKPOINT")
        a_pair.standby.pause()
        try:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(refused, lambda: accepting.accept([asked]))
                tasks.start_soon(refused, lambda: callbacks.store(received))
                await wait_until(lambda: are_waiting(a_pair, 2), "both wait for the standby")
                await a_pair.ask(f"SELECT count(pg_terminate_backend(pid)) {_WAITING}")
            kept = "SELECT (SELECT count(*) FROM payments) = 1 AND (SELECT count(*) FROM inbox) = 1"
            assert await a_pair.ask(kept), "they are visible, else the fault did not bite"
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(refused, lambda: accepting.find([asked]))
                tasks.start_soon(refused, lambda: callbacks.store(received))
        finally:
            a_pair.standby.resume()
        assert await accepting.find([asked]) == [Accepted(payment_id=asked.view.id)]
        await callbacks.store(received)


async def test_a_commit_that_waits_for_the_standby_is_never_cancelled(
    a_pair: Pair, hurried: Settings, merchant_id: str
) -> None:
    """Neither when its time is up nor when its request is: cancelled, it would be done and not be on the standby."""
    asked = [payment(merchant_id) for _ in range(2)]
    ids = [one.view.id for one in asked]
    visible = f"SELECT count(*) FROM payments WHERE id IN ('{ids[0]}', '{ids[1]}')"
    async with pool(hurried, Role.INGRESS, application_name="test") as connections:
        accepting = PgAccepting(connections)
        a_pair.standby.pause()
        try:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(refused, lambda: accepting.accept(asked[:1]))
                with anyio.CancelScope() as given_up:
                    tasks.start_soon(cancel_when_two_wait, a_pair, given_up)
                    await accepting.accept(asked[1:])
            assert given_up.cancelled_caught
            assert await are_waiting(a_pair, 2), "they wait on, although nobody waits for them"
            assert await a_pair.ask(visible) == 0
        finally:
            a_pair.standby.resume()
        await wait_until(lambda: equals(a_pair, visible, 2), "what waited is committed everywhere")


async def refused(act: Callable[[], Awaitable[object]]) -> None:
    try:
        await act()
    except Unavailable:
        return
    raise AssertionError("it was told")


async def cancel_when_two_wait(a_pair: Pair, scope: anyio.CancelScope) -> None:
    await wait_until(lambda: are_waiting(a_pair, 2), "both wait for the standby")
    scope.cancel()


async def are_waiting(a_pair: Pair, count: int) -> bool:
    return await equals(a_pair, f"SELECT count(*) {_WAITING}", count)


async def equals(a_pair: Pair, statement: str, value: int) -> bool:
    return await a_pair.ask(statement) == value
