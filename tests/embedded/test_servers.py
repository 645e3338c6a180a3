"""The embedded servers: what they promise, and that no death of their parent leaves one behind."""

from __future__ import annotations

import socket
from pathlib import Path

import asyncpg
import pytest
import redis.asyncio as redis

from paynode.embedded.errors import DataDirectoryBusy, ServerExited
from paynode.embedded.servers import Running, Servers
from tests.embedded.holding import holding, starting
from tests.support.pids import look, wait_until_gone, with_children
from tests.support.waiting import wait_until_sync


async def _ask(database_url: str, query: str) -> object:
    connection = await asyncpg.connect(database_url)
    try:
        return await connection.fetchval(query)
    finally:
        await connection.close()


async def _redis(redis_url: str, *command: str) -> object:
    async with redis.Redis.from_url(redis_url, protocol=2, decode_responses=True) as client:
        answer: object = await client.execute_command(*command)  # type: ignore[no-untyped-call]
        return answer


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("fsync", "on"),
        ("full_page_writes", "on"),
        ("synchronous_commit", "on"),
        ("data_checksums", "on"),
        ("server_encoding", "UTF8"),
        ("lc_messages", "C"),
        ("password_encryption", "scram-sha-256"),
        ("listen_addresses", "127.0.0.1"),
    ],
)
async def test_postgresql_runs_with_what_money_needs(servers: Running, setting: str, value: str) -> None:
    assert await _ask(servers.database_url, f"SHOW {setting}") == value


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("appendonly", "yes"),
        ("appendfsync", "everysec"),
        ("maxmemory-policy", "noeviction"),
        ("bind", "127.0.0.1"),
    ],
)
async def test_valkey_loses_nothing_and_evicts_nothing(servers: Running, setting: str, value: str) -> None:
    assert await _redis(servers.redis_url, "CONFIG", "GET", setting) == [setting, value]


async def test_both_servers_ask_for_a_password(servers: Running) -> None:
    with pytest.raises(asyncpg.InvalidPasswordError):
        await _ask(_without_password(servers.database_url, "paynode:wrong@"), "SELECT 1")
    with pytest.raises(redis.AuthenticationError):
        await _redis(_without_password(servers.redis_url, ""), "PING")


def _without_password(url: str, instead: str) -> str:
    scheme, _, rest = url.partition("://")
    return f"{scheme}://{instead}{rest.partition('@')[2]}"


async def test_data_and_addresses_survive_a_restart(data_dir: Path) -> None:
    with Servers(data_dir) as first:
        await _ask(first.database_url, "CREATE TABLE kept AS SELECT 42 AS answer")
        await _redis(first.redis_url, "XADD", "kept", "1-1", "field", "value")
    with Servers(data_dir) as second:
        assert second.database_url == first.database_url
        assert second.redis_url == first.redis_url
        assert await _ask(second.database_url, "SELECT answer FROM kept") == 42
        assert await _redis(second.redis_url, "XLEN", "kept") == 1


async def test_a_port_that_was_taken_meanwhile_is_replaced(data_dir: Path) -> None:
    with Servers(data_dir) as first:
        pass
    port = int(first.redis_url.rpartition(":")[2].partition("/")[0])
    with socket.create_server(("127.0.0.1", port)), Servers(data_dir) as second:
        assert second.redis_url != first.redis_url
        assert await _redis(second.redis_url, "PING") is True


def test_stopping_leaves_no_process(data_dir: Path) -> None:
    with Servers(data_dir) as running:
        processes = with_children(server.pid for server in running.servers.values())
    assert len(processes) > 2  # PostgreSQL has helpers
    assert not [process for process in processes if process.is_running()]


def test_a_given_server_is_used_and_not_started(data_dir: Path) -> None:
    with Servers(data_dir, database_url="postgresql://elsewhere/paynode") as running:
        assert running.database_url == "postgresql://elsewhere/paynode"
        assert set(running.servers) == {"valkey"}


def test_with_both_servers_given_nothing_is_touched(data_dir: Path) -> None:
    with Servers(data_dir, database_url="postgresql://elsewhere", redis_url="redis://elsewhere") as running:
        assert not running.servers
    assert not data_dir.exists()


def test_a_second_owner_of_a_data_directory_is_refused_at_once(data_dir: Path) -> None:
    with Servers(data_dir) as running:
        with pytest.raises(DataDirectoryBusy, match="another paynode"), Servers(data_dir):
            pass
        assert all(look(server.pid) for server in running.servers.values())


async def test_a_killed_parent_leaves_no_process_and_the_next_start_has_its_data(data_dir: Path) -> None:
    with holding(data_dir) as held:
        processes = with_children(held.pids.values())
        await _ask(held.database_url, "CREATE TABLE kept AS SELECT 42 AS answer")
        held.process.kill()
        held.process.wait()
        # At once: it has to wait for the orphans by itself.
        with Servers(data_dir) as running:
            assert await _ask(running.database_url, "SELECT answer FROM kept") == 42
    wait_until_gone(processes)


def test_a_parent_killed_while_it_makes_the_database_leaves_neither_process_nor_half_a_database(data_dir: Path) -> None:
    with starting(data_dir) as parent:
        draft = data_dir / "servers" / "postgres.new" / "PG_VERSION"
        wait_until_sync(draft.exists, "initdb began to write")
        processes = with_children([parent.pid])
        parent.kill()
        with Servers(data_dir) as running:
            assert set(running.servers) == {"postgres", "valkey"}
    assert len(processes) > 1
    wait_until_gone(processes)


def test_a_server_that_does_not_start_shows_the_end_of_its_log_and_stops_the_other(data_dir: Path) -> None:
    with Servers(data_dir) as running:
        pass
    manifest = data_dir / "servers" / "valkey" / "appendonlydir" / "appendonly.aof.manifest"
    manifest.write_text("not a manifest\n")
    with pytest.raises(ServerExited, match=r"(?s)valkey ended with status 1.*manifest"), Servers(data_dir):
        pass
    assert not any(look(server.pid) for server in running.servers.values())
    assert not (data_dir / "servers" / "postgres" / "postmaster.pid").exists()


def test_secrets_are_readable_by_their_owner_alone(data_dir: Path) -> None:
    with Servers(data_dir):
        modes = {path.name: path.stat().st_mode & 0o777 for path in (data_dir / "servers").iterdir() if path.is_file()}
    assert set(modes.values()) == {0o600}, modes
