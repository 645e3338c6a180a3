"""A whole paynode for each test."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from paynode import config
from paynode.config import Settings
from paynode.embedded.servers import Running
from tests.support import database as databases
from tests.support.installation import Installation, installed


@pytest.fixture
async def bare(settings: Settings, redis_url: str, tmp_path: Path) -> AsyncIterator[Installation]:
    """An installation in which nothing runs yet."""
    async with installed(settings, redis_url, tmp_path) as installation:
        yield installation


@pytest.fixture
async def installation(bare: Installation) -> Installation:
    """One of each process, running."""
    for verb in ("psp-sim", "serve", "worker", "scheduler"):
        bare.start(verb)
    return bare


@pytest.fixture(scope="module")
async def shared(
    servers: Running, template: str, home: Path, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Installation]:
    """One of each process, for the tests of one file that leave no trace which another would mind."""
    url = await databases.clone(servers.database_url, template)
    redis_url = servers.redis_url.rpartition("/")[0] + "/0"
    settings = databases.pointed_at(config.load(), url, home)
    async with installed(settings, redis_url, tmp_path_factory.mktemp("shared")) as installation:
        await installation.flush_redis()
        for verb in ("psp-sim", "serve", "worker", "scheduler"):
            installation.start(verb)
        yield installation
    await databases.drop(url)
