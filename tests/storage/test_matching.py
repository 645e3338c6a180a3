"""Callbacks kept aside: taken in turn, ever more rarely, and matched once, in one transaction."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import anyio
import pytest
from uuid_utils import uuid7

from paynode.config import Settings
from paynode.domain.accepting import Received
from paynode.domain.callbacks import Aside, fact_of
from paynode.domain.payment import Source
from paynode.domain.psp import Outcome
from paynode.storage.bodies import decode_fact
from paynode.storage.callbacks import PgCallbacks
from paynode.storage.postgres import Pool, Role, Session, pool, session
from tests.storage import rows

STREAM = "paynode:{p07}:events"
CLAIM = (
    '{"outcome":"approved","reference":"ch_1","amount":1000,"currency":"EUR","page_url":null,"reason":"",'
    '"psp_at_ms":7,"is_psp_failure":false}'
)
# A UUID in its canonical form, of nothing.
ID = "01890000-0000-7000-8000-00000000abcd"
WEEK_S, LOOK_MAX_S = 604_800.0, 3600.0


@pytest.fixture
async def owner(settings: Settings) -> AsyncIterator[Session]:
    async with session(settings, Role.OWNER, application_name="test") as connection:
        yield connection


@pytest.fixture
async def scheduler(settings: Settings) -> AsyncIterator[Pool]:
    async with pool(settings, Role.GATEWAY, application_name="test") as connections:
        yield connections


async def keep_aside(settings: Settings, reference: str, *, age: timedelta = timedelta(), psp: str = "sim") -> str:
    """As the ingress does it, logged in as it; the row's id."""
    received = Received(
        inbox_id=str(uuid7()),
        psp=psp,
        event_id=str(uuid7()),
        our_reference=reference,
        raw=b"raw",
        claim=CLAIM,
        at=datetime.now(UTC) - age,
    )
    async with pool(settings, Role.INGRESS, application_name="test", size=1) as connections:
        await PgCallbacks(connections).store(received)
    return received.inbox_id


async def operation(owner: Session, operation_id: str, **changes: Any) -> None:
    merchant, payment = rows.merchant(), rows.payment()
    payment = {**payment, "merchant_id": merchant["id"]}
    await rows.insert(owner, "merchants", merchant)
    await rows.insert(owner, "payments", payment)
    what = rows.operation(id=operation_id, payment_id=payment["id"], merchant_id=merchant["id"], **changes)
    await rows.insert(owner, "operations", what)


async def take(scheduler: Pool, count: int = 10) -> list[Aside]:
    return list(await PgCallbacks(scheduler).take_aside(count, look_for_s=WEEK_S, look_max_s=LOOK_MAX_S))


async def wait_s(owner: Session, inbox_id: str) -> float | None:
    seconds = await owner.fetchval(
        "SELECT extract(EPOCH FROM look_at - clock_timestamp())::float FROM inbox WHERE id = $1", inbox_id
    )
    return None if seconds is None else float(seconds)


async def test_a_callback_that_came_before_its_operation_was_known_is_matched_later(
    settings: Settings, owner: Session, scheduler: Pool
) -> None:
    reference = str(uuid7())
    inbox_id = await keep_aside(settings, reference)
    [found] = await take(scheduler)
    assert (found.inbox_id, found.operated) == (inbox_id, None)
    await operation(owner, reference)
    assert await take(scheduler) == [], "it is not its turn"
    await owner.execute("UPDATE inbox SET look_at = clock_timestamp()")
    [found] = await take(scheduler)
    assert found.operated is not None
    assert found.operated.operation_id == reference
    fact = fact_of(found.claim, found.operated, event_id=found.inbox_id)
    callbacks, told = PgCallbacks(scheduler), list[bool]()

    async def match() -> None:
        told.append(await callbacks.match(found, fact, STREAM))

    async with anyio.create_task_group() as tasks:
        for _ in range(5):
            tasks.start_soon(match)
    assert sorted(told) == [False] * 4 + [True]
    [row] = await owner.fetch("SELECT *, body::text AS text FROM outbox")
    assert (str(row["id"]), row["stream"], row["type"], row["published_at"]) == (inbox_id, STREAM, "psp.evidence", None)
    assert decode_fact(row["text"]) == fact
    assert (fact.outcome, fact.source, fact.psp_at_ms) == (Outcome.APPROVED, Source.CALLBACK, 7)
    assert await owner.fetchval("SELECT payment_id FROM inbox") == row["payment_id"]
    await owner.execute("UPDATE inbox SET look_at = clock_timestamp()")
    assert await take(scheduler) == [], "what has its payment is not looked for"


async def test_one_that_has_found_its_operation_at_its_last_look_is_looked_at_again(
    settings: Settings, owner: Session, scheduler: Pool
) -> None:
    """Whoever was to match it died: nobody else would ever know that money moved."""
    reference = str(uuid7())
    await operation(owner, reference)
    old = timedelta(seconds=2 * WEEK_S)
    inbox_id, lost = await keep_aside(settings, reference, age=old), await keep_aside(settings, str(uuid7()), age=old)
    assert {one.inbox_id: one.operated is not None for one in await take(scheduler)} == {inbox_id: True, lost: False}
    assert (await wait_s(owner, inbox_id) or 0) > 0
    assert await wait_s(owner, lost) is None
    await owner.execute("UPDATE inbox SET look_at = clock_timestamp() WHERE look_at IS NOT NULL")
    [again] = await take(scheduler)
    assert (again.inbox_id, again.operated is not None) == (inbox_id, True)


async def test_one_that_is_a_reason_to_ask_becomes_a_question(
    settings: Settings, owner: Session, scheduler: Pool
) -> None:
    reference = str(uuid7())
    await operation(owner, reference, request='{"as": "it was asked"}')
    inbox_id = await keep_aside(settings, reference)
    [found] = await take(scheduler)
    callbacks = PgCallbacks(scheduler)
    assert [await callbacks.match_by_asking(found), await callbacks.match_by_asking(found)] == [True, False]
    [row] = await owner.fetch("SELECT *, body::text AS text FROM outbox")
    assert (row["stream"], row["type"], row["text"]) == (
        "paynode:{psp-sim}:commands:follow-up",
        "psp.inquire",
        '{"as": "it was asked"}',
    )
    assert (str(row["id"]), str(row["operation_id"])) == (inbox_id, reference)


async def test_another_psps_operation_is_none_of_its_business(
    settings: Settings, owner: Session, scheduler: Pool
) -> None:
    reference = str(uuid7())
    await operation(owner, reference, psp="other")
    await keep_aside(settings, reference)
    [found] = await take(scheduler)
    assert found.operated is None


@pytest.mark.parametrize("reference", ["", "no-uuid", "x" * 100, ID.upper(), "{" + ID + "}"])
async def test_what_is_no_id_of_ours_is_looked_at_and_found_by_nobody(
    settings: Settings, scheduler: Pool, reference: str
) -> None:
    await keep_aside(settings, reference)
    [found] = await take(scheduler)
    assert found.operated is None


async def test_each_look_is_twice_as_far_away_and_after_a_week_nobody_looks(
    settings: Settings, owner: Session, scheduler: Pool
) -> None:
    inbox_id = await keep_aside(settings, "of nobody")
    waits = []
    for _ in range(15):
        await owner.execute("UPDATE inbox SET look_at = clock_timestamp()")
        await take(scheduler)
        waits.append(await wait_s(owner, inbox_id))
    for number, wait in enumerate(waits):
        due_s = min(2.0**number, LOOK_MAX_S)
        assert wait is not None
        assert due_s - 30 < wait <= due_s  # less what a slow machine takes to look
    await owner.execute("UPDATE inbox SET received_at = received_at - interval '8 days', look_at = clock_timestamp()")
    assert len(await take(scheduler)) == 1, "looked at once more"
    assert await wait_s(owner, inbox_id) is None
    assert await owner.fetchval("SELECT count(*) FROM inbox") == 1, "and kept for ever"


async def test_a_round_is_bounded_and_two_at_once_share_it(settings: Settings, owner: Session, scheduler: Pool) -> None:
    first = await keep_aside(settings, "of nobody")
    await owner.execute(
        """INSERT INTO inbox (id, psp, event_id, our_reference, raw, claim)
        SELECT gen_random_uuid(), psp, 'evt-' || n, our_reference, raw, claim
        FROM inbox, generate_series(1, 99) AS n WHERE id = $1""",
        first,
    )
    taken: list[Aside] = []

    async def take_some() -> None:
        taken.extend(await take(scheduler, 30))

    async with anyio.create_task_group() as tasks:
        for _ in range(3):
            tasks.start_soon(take_some)
    assert len(taken) == len({one.inbox_id for one in taken}) == 90
    assert len(await take(scheduler, 30)) == 10


async def test_looking_reads_what_is_due_and_not_the_whole_history(owner: Session) -> None:
    await owner.execute(
        """INSERT INTO inbox (id, psp, event_id, our_reference, raw, claim, payment_id, look_at)
        SELECT gen_random_uuid(), 'sim', 'evt-' || n, 'r', 'raw', '{}',
            CASE WHEN n % 100 > 0 THEN gen_random_uuid() END, clock_timestamp() + interval '1 hour'
        FROM generate_series(1, 20000) AS n"""
    )
    await owner.execute("ANALYZE inbox")
    plan = await owner.fetch(
        "EXPLAIN SELECT id FROM inbox WHERE payment_id IS NULL AND look_at <= clock_timestamp() "
        "ORDER BY look_at LIMIT 9"
    )
    assert "inbox_aside" in " ".join(row[0] for row in plan)


def test_what_an_older_ingress_wrote_down_is_read_too() -> None:
    from paynode.storage.callbacks import _claimed

    assert _claimed('{"outcome":"declined","reason":"x","what_a_newer_one_knows":1}').outcome is Outcome.DECLINED
    assert replace(_claimed(CLAIM), reason="y").reason == "y"
