"""Tries are counted before and taken back after; and a pointer on a foreign stream finds no row to bury."""

from __future__ import annotations

from paynode.config import Settings
from paynode.storage.postgres import Role, Session, pool
from paynode.storage.suspects import PgSuspects
from tests.storage import rows

STREAM, OTHER = "paynode:{p03}:events", "paynode:{psp-sim}:commands"


async def test_a_try_that_nobody_died_of_is_taken_back(settings: Settings, owner: Session) -> None:
    async with pool(settings, Role.COMMITTER, application_name="test", size=1) as database:
        suspects = PgSuspects(database)
        assert [await suspects.count(STREAM, "5-0") for _ in range(2)] == [1, 2]
        await suspects.uncount(STREAM, "5-0")
        assert await suspects.tries(STREAM, "5-0") == 1
        await suspects.uncount(STREAM, "5-0")
        assert await owner.fetchval("SELECT count(*) FROM suspects") == 0
        await suspects.uncount(STREAM, "5-0")
        assert await suspects.tries(STREAM, "5-0") == 0


async def test_a_row_waits_on_its_own_stream_alone(settings: Settings, owner: Session) -> None:
    row = rows.message(stream=OTHER)
    await rows.insert(owner, "outbox", row)
    async with pool(settings, Role.COMMITTER, application_name="test", size=1) as database:
        suspects = PgSuspects(database)
        assert await suspects.is_waiting(str(row["id"]), OTHER)
        assert not await suspects.is_waiting(str(row["id"]), STREAM)
