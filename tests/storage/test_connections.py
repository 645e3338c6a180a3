"""Connections: as whom, with which limits, how they end, and what their errors mean."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import anyio
import asyncpg
import pytest

from paynode import config
from paynode.config import Settings
from paynode.domain.errors import Conflict, Transient, Unavailable
from paynode.storage.logins import LoginUnknown, Role, role_url
from paynode.storage.postgres import Pool, Session, borrowed, connect, pool, session, translated
from tests.support.database import pointed_at
from tests.support.waiting import wait_until

_PASSWORDS = {"ingress": "p@ss/word", "gateway": "g", "committer": "c", "reader": "r"}


def _settings(url: str, home: Path, **passwords: str) -> Settings:
    return config.load({"data_dir": home, "database": {"url": url, "passwords": passwords}})


@pytest.mark.parametrize(
    ("owner", "expected"),
    [
        ("postgresql://o:x@db/pay", "postgresql://paynode_ingress:p%40ss%2Fword@db/pay"),
        ("postgresql://o@[::1]:5433/pay", "postgresql://paynode_ingress:p%40ss%2Fword@[::1]:5433/pay"),
        ("postgresql://db/pay?sslmode=require", "postgresql://paynode_ingress:p%40ss%2Fword@db/pay?sslmode=require"),
        ("postgresql://o:x@a:5432,b:5433/pay", "postgresql://paynode_ingress:p%40ss%2Fword@a:5432,b:5433/pay"),
        ("postgresql://o:x@/pay?host=/run/pg", "postgresql://paynode_ingress:p%40ss%2Fword@/pay?host=/run/pg"),
        ("postgresql://db/pay?user=o&password=x", "postgresql://paynode_ingress:p%40ss%2Fword@db/pay"),
    ],
)
def test_a_role_reaches_the_owners_database_under_its_own_name(owner: str, expected: str, tmp_path: Path) -> None:
    settings = _settings(owner, tmp_path, **_PASSWORDS)
    assert role_url(settings, Role.INGRESS) == expected
    assert role_url(settings, Role.OWNER) == owner


def test_without_a_url_the_running_development_servers_are_meant(tmp_path: Path) -> None:
    (tmp_path / "dev.json").write_text(json.dumps({"database_url": "postgresql://o:x@127.0.0.1:5432/postgres"}))
    assert role_url(_settings("", tmp_path), Role.OWNER) == "postgresql://o:x@127.0.0.1:5432/postgres"


def test_a_missing_url_and_a_missing_password_say_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(LoginUnknown, match=r"database\.url is not set"):
        role_url(_settings("", tmp_path), Role.OWNER)
    with pytest.raises(LoginUnknown, match="paynode migrate"):
        role_url(_settings("postgresql://o:x@db/pay", tmp_path), Role.READER)


@pytest.mark.parametrize("role", [Role.INGRESS, Role.GATEWAY, Role.COMMITTER, Role.READER])
async def test_every_process_logs_in_as_its_role_with_limits_and_utc(untouched: Settings, role: Role) -> None:
    async with session(untouched, role, application_name="paynode test") as connection:
        shown = {
            name: await connection.fetchval(f"SHOW {name}")
            for name in ("application_name", "timezone", "statement_timeout", "lock_timeout", "search_path")
        }
        assert await connection.fetchval("SELECT current_user") == f"paynode_{role}"
    assert shown == {
        "application_name": "paynode test",
        "timezone": "UTC",
        "statement_timeout": "10s",
        "lock_timeout": "5s",
        "search_path": "public, pg_temp",
    }


@pytest.mark.parametrize(
    ("statement", "meaning"),
    [
        ("SELECT pg_sleep(5)", Unavailable),  # 57014, by the statement timeout below
        ("SELECT pg_terminate_backend(pg_backend_pid())", Unavailable),
        ("DO $$ BEGIN RAISE SQLSTATE '40001'; END $$", Conflict),
        ("DO $$ BEGIN RAISE SQLSTATE '40P01'; END $$", Conflict),
        ("DO $$ BEGIN RAISE SQLSTATE '23505'; END $$", Conflict),
        ("DO $$ BEGIN RAISE SQLSTATE '25006'; END $$", Unavailable),
        ("DO $$ BEGIN RAISE SQLSTATE '53100'; END $$", Unavailable),
        ("DO $$ BEGIN RAISE SQLSTATE '55P03'; END $$", Unavailable),
        ("DO $$ BEGIN RAISE SQLSTATE '08006'; END $$", Unavailable),
        ("DO $$ BEGIN RAISE SQLSTATE '57P03'; END $$", Unavailable),
    ],
)
async def test_what_infrastructure_does_is_transient(
    untouched: Settings, statement: str, meaning: type[Transient]
) -> None:
    async with session(untouched, Role.READER, application_name="test", statement_timeout_ms=100) as connection:
        with pytest.raises(meaning), translated():
            await connection.execute(statement)


async def test_a_closed_connection_is_transient(untouched: Settings) -> None:
    async with session(untouched, Role.READER, application_name="test") as connection:
        pass
    with pytest.raises(Unavailable), translated():
        await connection.fetch("SELECT 1")


async def test_a_statement_from_before_a_migration_is_transient(owner: Session) -> None:
    await owner.execute("CREATE TABLE changing (a integer)")
    await owner.fetch("SELECT * FROM changing")
    async with owner.transaction():
        await owner.execute("ALTER TABLE changing ADD COLUMN b integer")
        with pytest.raises(Unavailable), translated():
            await owner.fetch("SELECT * FROM changing")


@pytest.mark.parametrize(
    ("statement", "arguments", "kept"),
    [
        ("SELEKT 1", (), asyncpg.PostgresSyntaxError),
        ("SELECT $1::integer", ("one",), asyncpg.DataError),
        ("SELECT $1::integer", (1, 2), asyncpg.InterfaceError),
        ("DO $$ BEGIN RAISE SQLSTATE '23514'; END $$", (), asyncpg.CheckViolationError),
    ],
)
async def test_a_bug_stays_what_it_is(
    untouched: Settings, statement: str, arguments: tuple[object, ...], kept: type[Exception]
) -> None:
    async with session(untouched, Role.READER, application_name="test") as connection:
        with pytest.raises(kept), translated():
            await connection.fetch(statement, *arguments)


def test_timeouts_and_refused_connections_are_transient() -> None:
    for error in (TimeoutError(), ConnectionRefusedError(111, "refused"), asyncpg.InternalClientError("x")):
        with pytest.raises(Unavailable), translated():
            raise error


def test_an_error_of_our_own_passes() -> None:
    with pytest.raises(KeyError), translated():
        raise KeyError("ours")


@asynccontextmanager
async def _silent_server() -> AsyncIterator[int]:
    """Takes connections and never says a word, like a host whose network is cut."""
    released = asyncio.Event()

    async def keep(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await released.wait()
        writer.close()

    server = await asyncio.start_server(keep, "127.0.0.1", 0)
    async with server:
        yield server.sockets[0].getsockname()[1]
        released.set()


async def test_connecting_to_a_silent_host_gives_up_in_time(untouched: Settings, home: Path) -> None:
    async with _silent_server() as port:
        there = pointed_at(untouched, f"postgresql://o:x@127.0.0.1:{port}/pay", home)
        hurried = there.model_copy(update={"database": there.database.model_copy(update={"connect_timeout_s": 0.1})})
        with anyio.fail_after(2), pytest.raises(Unavailable):
            await connect(hurried, Role.OWNER, application_name="test")


async def test_a_pool_is_closed_in_bounded_time_although_somebody_keeps_a_connection(
    settings: Settings, owner: Session
) -> None:
    async def is_gone() -> bool:
        return not await owner.fetchval("SELECT count(*) FROM pg_stat_activity WHERE application_name = 'kept'")

    with anyio.fail_after(5):
        async with pool(settings, Role.READER, application_name="kept", size=1) as connections:
            await connections.acquire()
    await wait_until(is_gone, "the server knows of no session of the pool")


_PID = "SELECT pg_backend_pid()"


async def _pids(connections: Pool) -> set[int]:
    async with borrowed(connections) as first, borrowed(connections) as second:
        return {await first.fetchval(_PID), await second.fetchval(_PID)}


async def _fail(connections: Pool, statement: str) -> None:
    async with borrowed(connections) as connection:
        await connection.execute(statement)


async def test_after_a_lost_session_the_whole_pool_is_renewed(untouched: Settings) -> None:
    async with pool(untouched, Role.READER, application_name="pooled", size=2) as connections:
        before = await _pids(connections)
        with pytest.raises(Unavailable):
            await _fail(connections, "SELECT pg_terminate_backend(pg_backend_pid())")
        assert not before & await _pids(connections)


async def test_a_lock_that_is_not_to_be_had_does_not_cost_the_pool_its_connections(untouched: Settings) -> None:
    async with pool(untouched, Role.READER, application_name="pooled", size=2) as connections:
        before = await _pids(connections)
        with pytest.raises(Unavailable):
            await _fail(connections, "DO $$ BEGIN RAISE SQLSTATE '55P03'; END $$")
        assert await _pids(connections) == before
