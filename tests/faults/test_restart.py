"""PostgreSQL is stopped and started again under load."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack
from pathlib import Path

import anyio
import pytest

from paynode import config
from paynode.embedded.servers import Servers
from paynode.storage.migrating import migrate
from tests.faults.running import start, until_quiet
from tests.support import database as databases
from tests.support.directories import open_directory
from tests.support.installation import Installation, installed
from tests.support.laws import check_laws
from tests.support.load import History, pay_many
from tests.support.waiting import wait_until


class Database:
    """A PostgreSQL of its own that can be stopped and started; its port stays the same."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._stack = ExitStack()

    def start(self) -> str:
        # Not in a thread: the server ends with the thread that started it.
        return self._stack.enter_context(Servers(self._directory, redis_url="redis://not-started")).database_url

    def stop(self) -> None:
        self._stack.close()


@pytest.fixture
def database() -> Iterator[Database]:
    with open_directory() as directory:
        database = Database(directory)
        yield database
        database.stop()


@pytest.fixture
async def own(database: Database, redis_url: str, tmp_path: Path) -> AsyncIterator[Installation]:
    """An installation on that database."""
    settings = databases.pointed_at(config.load(), database.start(), tmp_path / "home")
    await migrate(settings)
    async with installed(settings, redis_url, tmp_path) as installation:
        yield installation


async def test_postgresql_may_be_restarted_under_load(own: Installation, database: Database) -> None:
    merchants, history = await own.merchants(10), History()
    await start(own, "psp-sim", "serve", "worker", "scheduler")
    seen: Counter[int] = Counter()
    async with anyio.create_task_group() as load:
        load.start_soon(lambda: pay_many(own, merchants, history, count=300, clients=4))
        await wait_until(lambda: len(history.accepted) >= 30, "30 payments are accepted")
        await anyio.to_thread.run_sync(database.stop)
        seen = Counter(history.refused)
        await wait_until(lambda: history.refused != seen, "the ingress says that it cannot")
        database.start()
        await wait_until(lambda: len(history.accepted) >= 60, "and goes on by itself")
    assert set(history.refused) == {503}, history.refused
    assert history.lost == 0, "nobody is left without an answer"
    await until_quiet(own)
    again = History()
    await pay_many(own, merchants, again, count=300, clients=8)  # the same keys: whoever heard 503 asks again
    assert len(again.accepted) == 300, again.refused
    await until_quiet(own)
    assert len(await own.book()) == 300
    await check_laws(own, history.accepted + again.accepted)
