"""A database for each test: migrated once per session, then copied, which takes some 30 ms.

template = await make_template(owner_url, data_dir, settings)   # once
url = await clone(owner_url, template)                          # per test
await drop(url)
"""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

import asyncpg

from paynode.config import Settings
from paynode.storage.migrating import migrate
from paynode.storage.postgres import Session


async def make_template(owner_url: str, data_dir: Path, settings: Settings) -> str:
    """A migrated database to copy; its name. Closed to everybody, for a database in use cannot be copied."""
    name = await create(owner_url, prefix="paynode_template")
    await migrate(pointed_at(settings, of_name(owner_url, name), data_dir))
    async with _maintenance(owner_url) as connection:
        await connection.execute(f"ALTER DATABASE {name} ALLOW_CONNECTIONS false")
    return name


async def clone(owner_url: str, template: str) -> str:
    """The owner's URL of a fresh copy."""
    return of_name(owner_url, await create(owner_url, template=template))


async def create(owner_url: str, *, prefix: str = "paynode_test", template: str = "template1") -> str:
    """A database of a name that nobody else has; its name."""
    name = f"{prefix}_{secrets.token_hex(6)}"
    async with _maintenance(owner_url) as connection:
        await connection.execute(f"CREATE DATABASE {name} TEMPLATE {template}")
    return name


async def drop(url: str) -> None:
    """Drop the database that a URL names, whoever is still connected to it."""
    async with _maintenance(url) as connection:
        await connection.execute(f"DROP DATABASE IF EXISTS {urlsplit(url).path.removeprefix('/')} WITH (FORCE)")


def of_name(url: str, name: str) -> str:
    """The URL of another database on the same server."""
    return urlunsplit(urlsplit(url)._replace(path=f"/{name}"))


def pointed_at(settings: Settings, url: str, data_dir: Path) -> Settings:
    """The same settings for another database and data directory."""
    database = settings.database.model_copy(update={"url": url})
    return settings.model_copy(update={"database": database, "data_dir": data_dir})


@asynccontextmanager
async def _maintenance(url: str) -> AsyncIterator[Session]:
    """A session beside the database in question: CREATE and DROP DATABASE cannot be run from within it."""
    connection = await asyncpg.connect(of_name(url, "postgres"))
    try:
        yield connection
    finally:
        await connection.close()
