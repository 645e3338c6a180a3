"""Migrations: applied once, in order, by whoever comes first; refused when the past is not the same."""

from __future__ import annotations

import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import anyio
import pytest

from paynode.config import Settings
from paynode.domain.errors import Unavailable
from paynode.storage import migrating
from paynode.storage.migrating import MIGRATIONS, MigrationRefused, migrate, read
from paynode.storage.postgres import Role, Session, session
from tests.storage import rows
from tests.support.verbs import Said, paynode

_ALL = [migration.name for migration in read(MIGRATIONS)]


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """A copy of the migrations, to be changed."""
    return Path(shutil.copytree(MIGRATIONS, tmp_path / "migrations"))


@asynccontextmanager
async def _owner(settings: Settings) -> AsyncIterator[Session]:
    async with session(settings, Role.OWNER, application_name="test") as connection:
        yield connection


async def test_four_first_starts_at_once_all_succeed_and_each_migration_is_applied_once(empty: Settings) -> None:
    said: list[Said] = []

    async def start() -> None:
        said.append(await paynode(empty, "migrate", "--output", "json"))

    async with anyio.create_task_group() as starting:
        for _ in range(4):
            starting.start_soon(start)
    assert [(one.code, one.err) for one in said] == [(0, "")] * 4
    applied = [migration["name"] for one in said for migration in one.json["data"]]
    assert applied == _ALL
    for role in (Role.INGRESS, Role.GATEWAY, Role.COMMITTER, Role.READER):
        async with session(empty, role, application_name="test"):
            pass


async def test_a_second_run_changes_nothing(empty: Settings) -> None:
    assert [migration.name for migration in (await migrate(empty)).applied] == _ALL
    assert await migrate(empty) == migrating.Migrated(applied=(), version=read(MIGRATIONS)[-1].version)


async def test_an_applied_migration_that_was_edited_is_refused_by_its_name(empty: Settings, directory: Path) -> None:
    await migrate(empty, directory=directory)
    edited = directory / "0003_road.sql"
    edited.write_text(edited.read_text() + "-- a harmless comment\n")
    with pytest.raises(MigrationRefused, match="0003_road was edited after it was applied"):
        await migrate(empty, directory=directory)


async def test_an_old_program_refuses_the_schema_of_a_newer_one(empty: Settings, directory: Path) -> None:
    newer = directory / "9999_newer.sql"
    newer.write_text("-- migrate:up\nCREATE TABLE newer (a integer);\n")
    await migrate(empty, directory=directory)
    with pytest.raises(MigrationRefused, match=r"9999.*newer paynode"):
        await migrate(empty)


async def test_a_migration_slipped_in_before_an_applied_one_is_refused(empty: Settings, directory: Path) -> None:
    (directory / "0100_last.sql").write_text("-- migrate:up\nCREATE TABLE last (a integer);\n")
    await migrate(empty, directory=directory)
    (directory / "0050_late.sql").write_text("-- migrate:up\nCREATE TABLE late (a integer);\n")
    with pytest.raises(MigrationRefused, match="0050_late was added before 0100"):
        await migrate(empty, directory=directory)


async def test_a_migration_that_fails_leaves_nothing_behind(empty: Settings, directory: Path) -> None:
    torn = directory / "0100_torn.sql"
    torn.write_text("-- migrate:up\nCREATE TABLE half (a integer);\nSELECT 1 / 0;\n")
    with pytest.raises(Exception, match="division by zero"):
        await migrate(empty, directory=directory)
    async with _owner(empty) as owner:
        assert await owner.fetchval("SELECT to_regclass('half')") is None
        assert await owner.fetchval("SELECT max(version) FROM schema_migrations") == read(MIGRATIONS)[-1].version
    torn.write_text("-- migrate:up\nCREATE TABLE half (a integer);\n")
    assert [migration.name for migration in (await migrate(empty, directory=directory)).applied] == ["torn"]


async def test_waiting_for_somebody_else_who_migrates_is_bounded(empty: Settings) -> None:
    async with _owner(empty) as holder:
        await holder.execute("SELECT pg_advisory_lock($1)", migrating._LOCK)
        with anyio.fail_after(5), pytest.raises(Unavailable, match="has been migrating"):
            await migrate(empty, lock_wait_s=0.3)
        said = await paynode(empty, "migrate", "--lock-wait", "0.1")
        assert said.code == 75
        assert "another process has been migrating" in said.err
    await migrate(empty, lock_wait_s=5)


async def test_another_number_of_partitions_is_refused(empty: Settings) -> None:
    await migrate(empty)
    fewer = empty.model_copy(update={"streams": empty.streams.model_copy(update={"partitions": 16})})
    with pytest.raises(MigrationRefused, match="migrated with 32 partitions and the settings say 16"):
        await migrate(fewer)
    async with _owner(empty) as owner:
        found = await owner.fetch("SELECT partition FROM partitions ORDER BY partition")
    assert [row["partition"] for row in found] == list(range(32))


async def test_a_server_that_is_too_old_is_refused(empty: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(migrating, "_POSTGRES_MIN", 99)
    with pytest.raises(MigrationRefused, match="too old"):
        await migrate(empty)


async def test_an_entry_lies_in_the_partition_of_its_month_and_strangers_in_the_default(owner: Session) -> None:
    await rows.insert(owner, "ledger_entries", rows.ledger_entry())
    await rows.insert(owner, "ledger_entries", rows.ledger_entry(id="ffffffff-ffff-7fff-bfff-ffffffffffff"))
    where = "SELECT tableoid::regclass::text FROM ledger_entries ORDER BY id"
    month = await owner.fetchval("SELECT to_char(now() AT TIME ZONE 'UTC', '\"ledger_entries_\"YYYY_MM')")
    assert [row[0] for row in await owner.fetch(where)] == [month, "ledger_entries_default"]


@pytest.mark.parametrize(
    ("name", "content", "complaint"),
    [
        ("0009_back.sql", "-- migrate:up\nSELECT 1;\n-- migrate:down\nSELECT 2;\n", "forward only"),
        ("0009_plain.sql", "SELECT 1;\n", "does not begin with `-- migrate:up`"),
        ("9_short.sql", "-- migrate:up\nSELECT 1;\n", "is not named like"),
        ("0001_twice.sql", "-- migrate:up\nSELECT 1;\n", "two of one version"),
    ],
)
def test_a_file_that_is_no_forward_migration_is_refused(
    directory: Path, name: str, content: str, complaint: str
) -> None:
    (directory / name).write_text(content)
    with pytest.raises(MigrationRefused, match=complaint):
        read(directory)
