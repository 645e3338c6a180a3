"""The log-in roles, which all databases of a server share."""

from __future__ import annotations

from pathlib import Path

import anyio
import asyncpg
import pytest

from paynode.config import Settings
from paynode.embedded.servers import Running
from paynode.storage.logins import LOGIN_ROLES, Role
from paynode.storage.migrating import migrate
from paynode.storage.postgres import session
from paynode.storage.roles import RolesRefused, verifier
from tests.support import database as databases


async def _log_in(settings: Settings, role: Role) -> None:
    async with session(settings, role, application_name="test") as connection:
        assert await connection.fetchval("SELECT session_user") == role.login


async def _as_owner(settings: Settings, statement: str) -> None:
    async with session(settings, Role.OWNER, application_name="test") as connection:
        await connection.execute(statement)


async def test_a_password_that_changed_is_set_and_the_old_one_ends(empty: Settings, tmp_path: Path) -> None:
    await migrate(empty)
    moved = empty.model_copy(update={"data_dir": tmp_path / "elsewhere"})
    await migrate(moved)
    for role in LOGIN_ROLES:
        await _log_in(moved, role)
        with pytest.raises(asyncpg.InvalidPasswordError):
            await _log_in(empty, role)


async def test_a_role_that_is_right_is_not_written(empty: Settings) -> None:
    await migrate(empty)
    read = "SELECT xmin::text, rolpassword FROM pg_authid WHERE rolname LIKE 'paynode_%' ORDER BY rolname"
    async with session(empty, Role.OWNER, application_name="test") as owner:
        before = await owner.fetch(read)
        await migrate(empty)
        assert await owner.fetch(read) == before


async def test_databases_of_one_server_may_be_migrated_at_the_same_time(
    own_server: Running, empty: Settings, tmp_path: Path
) -> None:
    """With different passwords too: then all of them write the same rows of the server's catalogue."""
    urls = [
        databases.of_name(own_server.database_url, await databases.create(own_server.database_url)) for _ in range(6)
    ]
    async with anyio.create_task_group() as migrations:
        for number, url in enumerate(urls):
            migrations.start_soon(migrate, databases.pointed_at(empty, url, tmp_path / f"home{number % 3}"))
    for url in urls:
        async with session(databases.pointed_at(empty, url, tmp_path), Role.OWNER, application_name="test") as owner:
            assert await owner.fetchval("SELECT count(*) FROM partitions") == empty.streams.partitions
        await databases.drop(url)


async def test_a_role_that_lost_its_log_in_gets_it_back(empty: Settings) -> None:
    await migrate(empty)
    await _as_owner(empty, "ALTER ROLE paynode_reader NOLOGIN")
    await migrate(empty)
    await _log_in(empty, Role.READER)


async def test_a_role_with_rights_over_the_server_is_refused(empty: Settings) -> None:
    await migrate(empty)
    await _as_owner(empty, "ALTER ROLE paynode_gateway CREATEROLE")
    with pytest.raises(RolesRefused, match="ALTER ROLE paynode_gateway NOSUPERUSER"):
        await migrate(empty)
    await _as_owner(empty, "ALTER ROLE paynode_gateway NOCREATEROLE")
    await migrate(empty)


async def test_strangers_may_not_even_connect(empty: Settings) -> None:
    await migrate(empty)
    await _as_owner(empty, f"CREATE ROLE stranger LOGIN PASSWORD '{verifier('stranger')}'")
    try:
        async with session(empty, Role.OWNER, application_name="test") as owner:
            address = await owner.fetchrow("SELECT host(inet_server_addr()), inet_server_port(), current_database()")
        assert address is not None
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await asyncpg.connect(
                host=address[0], port=address[1], database=address[2], user="stranger", password="stranger"
            )
    finally:
        await _as_owner(empty, "DROP ROLE stranger")


async def test_no_statement_shows_a_password(empty: Settings, own_server: Running) -> None:
    given = {role.value: f"plain-{role}" for role in LOGIN_ROLES}
    passwords = empty.database.passwords.model_copy(update=given)
    settings = empty.model_copy(update={"database": empty.database.model_copy(update={"passwords": passwords})})
    await _as_owner(empty, "ALTER SYSTEM SET log_statement = 'all'")
    await _as_owner(empty, "SELECT pg_reload_conf()")
    await migrate(settings)
    for role in LOGIN_ROLES:
        await _log_in(settings, role)
    await _as_owner(empty, "ALTER SYSTEM RESET log_statement")
    await _as_owner(empty, "SELECT pg_reload_conf()")
    log = own_server.servers["postgres"].log.read_text()
    assert "ALTER ROLE paynode_reader" in log
    assert "plain-" not in log


def test_a_password_with_more_than_one_spelling_is_refused() -> None:
    with pytest.raises(RolesRefused, match="printable ASCII"):
        verifier("pässword")
