"""Brings the schema to the version of this program. May be started by any number of processes at once.

Migrations are files `<version>_<name>.sql` in dbmate's format, forward only: a way back that nobody ever ran is a
promise that nobody can keep. Each runs in one transaction together with its line in `schema_migrations`.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Final

import anyio

from paynode.config import Settings
from paynode.domain.errors import Unavailable
from paynode.storage import roles
from paynode.storage.postgres import Role, Session, session, translated
from paynode.storage.queries import load

_QUERIES: Final = load("migrating")
MIGRATIONS: Final = Path(__file__).with_name("migrations")

_FILE: Final = re.compile(r"(\d{4})_([a-z0-9_]+)\.sql", re.ASCII)
_POSTGRES_MIN: Final = 14
# An advisory lock is a number per database; this one is the name of the program in ASCII.
_LOCK: Final = int.from_bytes(b"paynode")
_POLL_S: Final = 0.1
# A first start takes about a second; a migration that rewrites a large table is run by hand, with a longer wait.
LOCK_WAIT_S: Final = 60.0


class MigrationRefused(Exception):
    """The database is not one that this program may change; the message says why and what to do."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Migration:
    """One file. The checksum is of its bytes: an applied migration is never edited, not even in a comment."""

    version: str
    name: str
    sha256: bytes
    sql: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Migrated:
    """What this run applied, and the version that the schema has now."""

    applied: tuple[Migration, ...]
    version: str


async def migrate(settings: Settings, *, directory: Path = MIGRATIONS, lock_wait_s: float = LOCK_WAIT_S) -> Migrated:
    """Make the roles, apply what is missing, make the ledger's months and the streams' partitions.

    Raises: MigrationRefused; RolesRefused; Unavailable, also when another process keeps the lock for `lock_wait_s`.
    """
    available = read(directory)
    # No statement timeout: building an index takes what it takes. lock_timeout stays, so that nobody queues behind us.
    async with session(settings, Role.OWNER, application_name="paynode migrate", statement_timeout_ms=0) as connection:
        _refuse_old_server(connection)
        with translated():
            await _take_lock(connection, lock_wait_s)
            await roles.make(connection, settings)
            await connection.execute(_QUERIES["create_history"])
            missing = await _missing(connection, available)
            for migration in missing:
                await _apply(connection, migration)
            await connection.execute(_QUERIES["make_ledger_months"])
            await _make_partitions(connection, settings.streams.partitions)
            # After an error the end of the session releases it.
            await connection.fetchval(_QUERIES["release_lock"], _LOCK)
    return Migrated(applied=missing, version=available[-1].version)


def read(directory: Path) -> tuple[Migration, ...]:
    """The migrations of a directory in their order.

    Raises: MigrationRefused for a file that is not a forward migration.
    """
    found = [_parse(path) for path in sorted(directory.glob("*.sql"))]
    versions = [migration.version for migration in found]
    if not found or len(set(versions)) != len(versions):
        raise MigrationRefused(f"{directory.name}: no migration, or two of one version")
    return tuple(found)


def _parse(path: Path) -> Migration:
    named = _FILE.fullmatch(path.name)
    if named is None:
        raise MigrationRefused(f"{path.name} is not named like 0001_merchants.sql")
    content = path.read_bytes()
    head, found, sql = content.decode("utf-8").partition("-- migrate:up\n")
    if head.strip() or not found:
        raise MigrationRefused(f"{path.name} does not begin with `-- migrate:up`")
    if "-- migrate:down" in sql:
        raise MigrationRefused(f"{path.name} has a way back: migrations go forward only")
    return Migration(version=named[1], name=named[2], sha256=sha256(content).digest(), sql=sql)


def _refuse_old_server(connection: Session) -> None:
    version = connection.get_server_version()
    if version.major < _POSTGRES_MIN:
        raise MigrationRefused(f"PostgreSQL {version.major} is too old: paynode needs {_POSTGRES_MIN} or newer")


async def _take_lock(connection: Session, wait_s: float) -> None:
    with anyio.move_on_after(wait_s) as waiting:
        while not await connection.fetchval(_QUERIES["try_lock"], _LOCK):  # noqa: ASYNC110 - nobody can wake us
            await anyio.sleep(_POLL_S)
    if waiting.cancelled_caught:
        raise Unavailable(f"another process has been migrating this database for {wait_s:g} s")


async def _missing(connection: Session, available: Sequence[Migration]) -> tuple[Migration, ...]:
    """What is to be applied, once it is certain that the database and this program have the same past."""
    applied = {row["version"]: row for row in await connection.fetch(_QUERIES["list_applied"])}
    known = {migration.version for migration in available}
    if strangers := sorted(applied.keys() - known):
        raise MigrationRefused(
            f"the database has migrations that this program does not know ({', '.join(strangers)}): "
            "it was migrated by a newer paynode"
        )
    for migration in available:
        if migration.version in applied and applied[migration.version]["sha256"] != migration.sha256:
            raise MigrationRefused(
                f"{migration.version}_{migration.name} was edited after it was applied: "
                "put it back, and write what you want as a new migration"
            )
    missing = tuple(migration for migration in available if migration.version not in applied)
    if missing and applied and missing[0].version < max(applied):
        raise MigrationRefused(
            f"{missing[0].version}_{missing[0].name} was added before {max(applied)}, which is applied already"
        )
    return missing


async def _apply(connection: Session, migration: Migration) -> None:
    async with connection.transaction():
        await connection.execute(migration.sql)
        await connection.execute(_QUERIES["insert_applied"], migration.version, migration.name, migration.sha256)


async def _make_partitions(connection: Session, partitions: int) -> None:
    await connection.execute(_QUERIES["insert_partitions"], partitions)
    row = await connection.fetchrow(_QUERIES["count_partitions"])
    assert row is not None
    if (row["count"], row["width"]) != (partitions, partitions):
        raise MigrationRefused(
            f"the database was migrated with {row['width']} partitions and the settings say {partitions}: "
            "merchants are spread by that number, so the first migration fixes it"
        )
