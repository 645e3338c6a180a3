"""Tries are counted before and taken back after; what is buried is nobody else's: of this stream, in nobody's hand."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from paynode.config import Settings
from paynode.domain.message import DeadLetter, Unreadable
from paynode.storage.commands import PgCommands
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


async def test_a_command_is_not_buried_while_somebody_may_be_at_it(settings: Settings, owner: Session) -> None:
    """A process that was stopped has claimed it after another found no attempt: its answer would go with the row."""
    row = rows.message(stream=OTHER, type="psp.submit")
    await rows.insert(owner, "outbox", row)
    claimed = {"id": rows.new_id(), "operation_id": row["operation_id"], "payment_id": row["payment_id"], "psp": "sim"}
    soon = {"send_by": datetime.now(UTC), "deadline_at": datetime.now(UTC) + timedelta(seconds=60)}
    await rows.insert(owner, "psp_attempts", {**claimed, **soon, "path": "/", "request": b"", "gateway": "g"})
    what = Unreadable(ref=str(row["id"]), reason="kills_its_gateway", detail="")
    letter = DeadLetter(id=rows.new_id(), stream=OTHER, entry_id="1-0", what=what, attempts=3, first_failed_at_ms=0)
    async with pool(settings, Role.GATEWAY, application_name="test", size=1) as database:
        commands = PgCommands(database)
        assert await commands.bury([letter]) == frozenset()
        await owner.execute("UPDATE psp_attempts SET outcome = 'not_sent', concluded_at = clock_timestamp()")
        assert await commands.bury([letter]) == {letter.id}
