"""A migrated database of its own for each test, and a server of its own for what belongs to a whole server."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from paynode import config
from paynode.config import Settings
from paynode.embedded.servers import Running, Servers
from paynode.storage.postgres import Role, Session, session
from tests.support import database as databases
from tests.support.directories import open_directory


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


@pytest.fixture
async def owner(settings: Settings) -> AsyncIterator[Session]:
    """A session of the schema's owner."""
    async with session(settings, Role.OWNER, application_name="test") as connection:
        yield connection


@pytest.fixture(scope="module")
def own_server() -> Iterator[Running]:
    """A PostgreSQL for the tests of one file: roles belong to a server, and other tests are logged in as them."""
    with ExitStack() as stack:
        directory = stack.enter_context(open_directory())
        yield stack.enter_context(Servers(directory, redis_url="redis://not-started"))


@pytest.fixture
async def empty(own_server: Running, tmp_path: Path) -> AsyncIterator[Settings]:
    """Settings that point at a database and a data directory in which nothing is yet."""
    url = databases.of_name(own_server.database_url, await databases.create(own_server.database_url))
    yield databases.pointed_at(config.load(), url, tmp_path / "home")
    await databases.drop(url)
