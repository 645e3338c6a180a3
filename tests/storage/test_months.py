"""The coming months of the ledger are made while it runs, and made again by nobody."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta

import anyio
import pytest

from paynode.actors.months import MonthMaker
from paynode.config import Settings
from paynode.domain.errors import Unavailable
from paynode.domain.months import MonthsMade
from paynode.storage.migrating import migrate
from paynode.storage.months import PgMonths
from paynode.storage.postgres import Pool, Role, Session, pool, session
from tests.storage import rows

NOTHING = MonthsMade(made=0, held_up=0)


class Told:
    """What the observer heard."""

    def __init__(self) -> None:
        self.heard: list[MonthsMade | Exception] = []

    def months_made(self, months: MonthsMade) -> None:
        self.heard.append(months)

    def months_failed(self, error: Exception) -> None:
        self.heard.append(error)


@pytest.fixture
async def scheduler(settings: Settings) -> AsyncIterator[Pool]:
    """Logged in as the scheduler is."""
    async with pool(settings, Role.GATEWAY, application_name="test", size=4) as connections:
        yield connections


async def _months(owner: Session) -> list[str]:
    """The attached months, by name."""
    found = await owner.fetch(
        "SELECT relid::regclass::text AS name FROM pg_partition_tree('ledger_entries') WHERE isleaf ORDER BY 1"
    )
    return [row["name"] for row in found if row["name"] != "ledger_entries_default"]


async def _drop_last(owner: Session, count: int) -> None:
    """As if nobody had migrated for so many months."""
    for name in (await _months(owner))[-count:]:
        await owner.execute(f"DROP TABLE {name}")


async def test_what_is_missing_is_made_once_by_however_many(owner: Session, scheduler: Pool) -> None:
    before = await _months(owner)
    await _drop_last(owner, 3)
    made = list[MonthsMade]()

    async def make() -> None:
        made.append(await PgMonths(scheduler).make_months())

    async with anyio.create_task_group() as making:
        for _ in range(4):
            making.start_soon(make)
    assert sorted(one.made for one in made) == [0, 0, 0, 3]
    assert await _months(owner) == before


async def test_a_month_that_was_made_later_is_as_unchangeable_and_as_readable(owner: Session, scheduler: Pool) -> None:
    indexes = """SELECT regexp_replace(indexdef, 'ledger_entries_[0-9_]+', '') FROM pg_indexes
        WHERE tablename = $1 ORDER BY 1"""
    first, *_, last = await _months(owner)
    await _drop_last(owner, 1)
    await PgMonths(scheduler).make_months()
    assert len(await owner.fetch(indexes, last)) == len(await owner.fetch(indexes, first)) == 3
    triggers = await owner.fetch("SELECT tgname FROM pg_trigger WHERE tgrelid = $1::regclass ORDER BY 1", last)
    assert [row["tgname"] for row in triggers] == ["ledger_entries_append_only", "no_truncate"]


async def test_neither_writers_nor_readers_of_a_month_are_waited_for(
    settings: Settings, owner: Session, scheduler: Pool
) -> None:
    await _drop_last(owner, 1)
    async with session(settings, Role.OWNER, application_name="test") as other, other.transaction():
        await rows.insert(other, "ledger_entries", rows.ledger_entry())
        await other.fetch("SELECT FROM ledger_entries WHERE id = $1", rows.new_id())
        with anyio.fail_after(2):
            assert (await PgMonths(scheduler).make_months()).made == 1


async def test_a_month_of_which_entries_lie_with_the_rest_is_left_there(owner: Session, scheduler: Pool) -> None:
    await _drop_last(owner, 2)
    soon = datetime.now(UTC) + timedelta(days=340)
    await rows.insert(owner, "ledger_entries", rows.ledger_entry(id=rows.new_id(soon)))
    assert await PgMonths(scheduler).make_months() == MonthsMade(made=1, held_up=1)
    assert await PgMonths(scheduler).make_months() == MonthsMade(made=0, held_up=1)


async def test_migrating_is_not_stopped_by_such_a_month(settings: Settings, owner: Session) -> None:
    await _drop_last(owner, 1)
    soon = datetime.now(UTC) + timedelta(days=370)
    await rows.insert(owner, "ledger_entries", rows.ledger_entry(id=rows.new_id(soon)))
    assert (await migrate(settings)).applied == ()


async def test_the_round_tells_what_was_missing_and_nothing_else(
    settings: Settings, owner: Session, scheduler: Pool
) -> None:
    told = Told()
    maker = MonthMaker(PgMonths(scheduler), told, interval_s=1)
    await maker.run_once()
    assert told.heard == []
    await _drop_last(owner, 2)
    await maker.run_once()
    assert told.heard == [MonthsMade(made=2, held_up=0)]


async def test_who_reads_the_whole_ledger_for_long_is_not_waited_for_for_ever(
    settings: Settings, owner: Session
) -> None:
    await _drop_last(owner, 1)
    impatient = settings.model_copy(update={"database": settings.database.model_copy(update={"lock_timeout_ms": 50})})
    async with (
        pool(impatient, Role.GATEWAY, application_name="test", size=1) as connections,
        session(settings, Role.READER, application_name="test") as reader,
        reader.transaction(),
    ):
        await reader.fetch("SELECT FROM ledger_entries")
        with pytest.raises(Unavailable):
            await PgMonths(connections).make_months()
