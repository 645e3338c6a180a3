"""A whole paynode for each test."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from paynode.config import Settings
from paynode.embedded.servers import Running
from tests.support.installation import Installation, installed, shared_by_tests


@pytest.fixture
async def bare(settings: Settings, redis_url: str, tmp_path: Path) -> AsyncIterator[Installation]:
    """An installation in which nothing runs yet."""
    async with installed(settings, redis_url, tmp_path) as installation:
        yield installation


@pytest.fixture
async def installation(bare: Installation) -> Installation:
    """One of each process, running."""
    bare.start_all()
    return bare


@pytest.fixture(scope="module")
async def shared(
    servers: Running, template: str, home: Path, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Installation]:
    """One of each process, for the tests of one file that leave no trace which another would mind."""
    directory = tmp_path_factory.mktemp("shared")
    async with shared_by_tests(servers, template, home, directory, redis_database=0) as installation:
        yield installation
