"""Reading the outbox where it is kept: in order and whole, and no command in two hands."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence

import anyio
import pytest

from paynode.config import Settings
from paynode.domain.detour import DueRow, row_of
from paynode.storage.outbox_feed import PgCommandRows, PgDueRows
from paynode.storage.postgres import Pool, Role, Session, pool, session
from paynode.storage.queries import load

EVENTS, COMMANDS = "paynode:{p07}:events", "paynode:{psp-sim}:commands"
IDLE_MS = 60_000

INSERT = """
INSERT INTO outbox (id, stream, type, merchant_id, payment_id, operation_id, body, available_at, published_at)
SELECT gen_random_uuid(), $1, 'psp.submit', gen_random_uuid(), gen_random_uuid(), gen_random_uuid(), '{}',
    clock_timestamp() + $3 * interval '1 second', CASE WHEN number % 2 = 0 THEN clock_timestamp() END
FROM generate_series(1, $2::int) AS number
RETURNING id::text AS id
"""
MANY_ATTEMPTS = """
INSERT INTO psp_attempts
(id, operation_id, payment_id, psp, path, request, gateway, send_by, deadline_at, outcome, concluded_at)
SELECT gen_random_uuid(), gen_random_uuid(), gen_random_uuid(), 'sim', '/', '', 'g', now(), now() + interval '1 s',
    'approved', now()
FROM generate_series(1, 20000)
"""


@pytest.fixture
async def owner(settings: Settings) -> AsyncIterator[Session]:
    async with session(settings, Role.OWNER, application_name="test") as connection:
        yield connection


@pytest.fixture
async def committers(settings: Settings) -> AsyncIterator[Pool]:
    async with pool(settings, Role.COMMITTER, application_name="test") as connections:
        yield connections


@pytest.fixture
async def gateways(settings: Settings) -> AsyncIterator[Pool]:
    async with pool(settings, Role.GATEWAY, application_name="test") as connections:
        yield connections


async def insert(owner: Session, stream: str, count: int, *, in_s: float = -1) -> list[str]:
    return [row["id"] for row in await owner.fetch(INSERT, stream, count, in_s)]


async def one_pass(rows: PgDueRows, count: int) -> list[DueRow]:
    """All pages from the first to the last."""
    found: list[DueRow] = []
    while page := await rows.page(EVENTS, found[-1] if found else None, count):
        found += page
    return found


async def test_a_pass_gives_what_is_due_in_its_order_and_nothing_else(owner: Session, committers: Pool) -> None:
    late = await insert(owner, EVENTS, 7)
    early = await insert(owner, EVENTS, 8, in_s=-60)
    await insert(owner, EVENTS, 3, in_s=60)
    await insert(owner, COMMANDS, 3)
    rows = PgDueRows(committers)
    for count in (1, 4, 5, 100):
        found = await one_pass(rows, count)
        assert [(row.at, row.id) for row in found] == sorted((row.at, row.id) for row in found)
        assert {row.id for row in found[:8]} == set(early)
        assert {row.id for row in found[8:]} == set(late), "published or not"
    assert row_of(found[0].entry.id) == found[0].entry.ref == found[0].id
    assert found[0].entry.merchant.startswith("mer_")


async def test_a_row_that_is_committed_late_is_found_by_the_next_pass(
    owner: Session, settings: Settings, committers: Pool
) -> None:
    rows = PgDueRows(committers)
    async with session(settings, Role.OWNER, application_name="slow") as slow:
        transaction = slow.transaction()
        await transaction.start()
        [first] = await insert(slow, EVENTS, 1, in_s=-60)
        others = await insert(owner, EVENTS, 2)
        assert {row.id for row in await one_pass(rows, 1)} == {*others}
        await transaction.commit()
    assert (await one_pass(rows, 10))[0].id == first


async def test_a_command_is_taken_by_one_of_them_until_its_time_is_over(owner: Session, gateways: Pool) -> None:
    issued = await insert(owner, COMMANDS, 100)
    taken: list[str] = []

    async def take(rows: PgCommandRows) -> None:
        while page := await rows.take(COMMANDS, 7):
            taken.extend(row.id for row in page)
            assert all(row.times == 1 for row in page)

    async with anyio.create_task_group() as group:
        for _ in range(4):
            group.start_soon(take, PgCommandRows(gateways, idle_ms=IDLE_MS))
    assert sorted(taken) == sorted(issued)

    await PgCommandRows(gateways, idle_ms=IDLE_MS).release(issued[10:13])
    released = await PgCommandRows(gateways, idle_ms=IDLE_MS).take(COMMANDS, 100)
    assert {row.id for row in released} == {*issued[10:13]}

    forgetful = PgCommandRows(gateways, idle_ms=1)
    await forgetful.renew(issued[:10])
    await anyio.sleep(0.05)
    again = await forgetful.take(COMMANDS, 100)
    assert {(row.id, row.times) for row in again} == {(ref, 2) for ref in issued[:10]}


async def test_what_is_being_sent_or_concluded_is_passed_over(
    owner: Session, settings: Settings, gateways: Pool
) -> None:
    called, concluded, free = await insert(owner, COMMANDS, 3)
    await owner.execute(
        """INSERT INTO psp_attempts
        (id, operation_id, payment_id, psp, path, request, gateway, send_by, deadline_at)
        SELECT gen_random_uuid(), operation_id, payment_id, 'sim', '/', '', 'g', now(), now() + interval '1 min'
        FROM outbox WHERE id = $1""",
        called,
    )
    async with session(settings, Role.OWNER, application_name="other") as other, other.transaction():
        await other.execute("DELETE FROM outbox WHERE id = $1", concluded)
        with anyio.fail_after(5):
            rows = PgCommandRows(gateways, idle_ms=IDLE_MS)
            assert [row.id for row in await rows.take(COMMANDS, 10)] == [free]
            await rows.renew([concluded, free])


@pytest.mark.parametrize("is_analysed", [False, True])
async def test_what_is_due_is_found_by_its_index_however_much_waits_elsewhere(
    owner: Session, settings: Settings, is_analysed: bool
) -> None:
    await owner.execute(MANY_ATTEMPTS)
    for stream in (EVENTS, COMMANDS, "paynode:{p08}:events"):
        await insert(owner, stream, 2000)
    if is_analysed:
        await owner.execute("ANALYZE psp_attempts")
        await owner.execute("ANALYZE outbox")
    await owner.execute("SET plan_cache_mode = force_generic_plan")
    arguments = {
        "find_due_rows": f"'{EVENTS}', '1970-01-01+00', '00000000-0000-0000-0000-000000000000', 1000, '{EVENTS}:pos'",
        "take_commands": f"'{COMMANDS}', 64, 60000",
    }
    for name, values in arguments.items():
        await owner.execute(f"PREPARE {name} AS {load('outbox_feed')[name]}")
        plan = text(await owner.fetch(f"EXPLAIN EXECUTE {name}({values})"))
        assert "outbox_stream" in plan, plan
        assert "Seq Scan on psp_attempts" not in plan, plan
        assert "Seq Scan on outbox" not in plan, plan


def text(plan: Sequence[object]) -> str:
    return "\n".join(str(row[0]) for row in plan)  # type: ignore[index]


async def test_every_page_begins_with_the_lane_that_is_read_first(owner: Session, committers: Pool) -> None:
    ordinary, first = await insert(owner, EVENTS, 5, in_s=-60), await insert(owner, f"{EVENTS}:pos", 2)
    rows, found, after = PgDueRows(committers), list[str](), None
    for _ in range(3):
        page = await rows.page(EVENTS, after, 2)
        assert {row.id for row in page if row.is_pos} == {*first}
        assert [row.is_pos for row in page] == sorted((row.is_pos for row in page), reverse=True)
        assert all(row.entry.is_pos is row.is_pos and row.entry.ref == row.id for row in page)
        after = next((row for row in reversed(page) if not row.is_pos), after)
        found += [row.id for row in page if not row.is_pos]
    assert {*found} == {*ordinary}
