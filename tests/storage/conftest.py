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
