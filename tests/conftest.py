"""What all tests share: real servers, started once."""

from __future__ import annotations

import os
import shutil
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack
from itertools import cycle
from pathlib import Path

import pytest
import redis.asyncio as redis

from paynode import config
from paynode.config import Settings
from paynode.embedded.servers import Running, Servers
from tests.support import database as databases
from tests.support.directories import open_directory


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="session")
def servers() -> Iterator[Running]:
    """PostgreSQL and Valkey for the whole session, or those that PAYNODE_TEST_DATABASE_URL and _REDIS_URL name."""
    with ExitStack() as stack:
        yield stack.enter_context(
            Servers(
                stack.enter_context(open_directory()),
                database_url=os.environ.get("PAYNODE_TEST_DATABASE_URL", ""),
                redis_url=os.environ.get("PAYNODE_TEST_REDIS_URL", ""),
            )
        )


@pytest.fixture(scope="session")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The data directory of the session: with the passwords of the roles, which the server has only one set of."""
    return tmp_path_factory.mktemp("home")


@pytest.fixture(scope="session")
async def template(servers: Running, home: Path) -> AsyncIterator[str]:
    name = await databases.make_template(servers.database_url, home, config.load())
    yield name
    await databases.drop(databases.of_name(servers.database_url, name))


@pytest.fixture
async def settings(servers: Running, template: str, home: Path) -> AsyncIterator[Settings]:
    """Settings that point at a fresh, migrated database."""
    url = await databases.clone(servers.database_url, template)
    yield databases.pointed_at(config.load(), url, home)
    await databases.drop(url)


@pytest.fixture(scope="session")
async def untouched(servers: Running, template: str, home: Path) -> AsyncIterator[Settings]:
    """The same, but one database for all tests that change nothing, because they ask or are refused."""
    url = await databases.clone(servers.database_url, template)
    yield databases.pointed_at(config.load(), url, home)
    await databases.drop(url)


# As many logical databases as a Redis has when nobody says otherwise. 0 and 1 belong to the installations that several
# tests share (tests/e2e, tests/browser), which live longer than one test.
_REDIS_DATABASES = cycle(range(2, 16))


@pytest.fixture
async def redis_url(servers: Running) -> str:
    """A Redis with nothing in it."""
    url = servers.redis_url.rpartition("/")[0] + f"/{next(_REDIS_DATABASES)}"
    async with redis.Redis.from_url(url, protocol=2, socket_timeout=60, socket_connect_timeout=60) as client:
        await client.flushdb()
    return url


@pytest.fixture(scope="session")
def chromium() -> str:
    """The browser's program; where PAYNODE_TEST_REQUIRE_BROWSER is set its absence is a failure, not a skip."""
    found = shutil.which("chromium") or shutil.which("google-chrome")
    if found is None and os.environ.get("PAYNODE_TEST_REQUIRE_BROWSER"):
        pytest.fail("PAYNODE_TEST_REQUIRE_BROWSER is set, and there is no chromium on PATH")
    if found is None:
        pytest.skip("no chromium on PATH")
    return found
