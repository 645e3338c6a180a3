"""A paynode of its own for each test, with a proxy before each server that its processes may be sent through."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import anyio
import pytest
import redis.asyncio as redis

from paynode.config import Settings
from paynode.storage.postgres import Role, Session, session
from paynode.streams.client import Redis
from tests.support.installation import Installation, installed
from tests.support.proxy import Proxy

# Fixed: a failure is seen again. What is random beside it, the order of packets and processes, no seed could fix.
SEED = 20_260_301


@pytest.fixture
async def to_database(settings: Settings) -> AsyncIterator[Proxy]:
    async with Proxy.to(settings.database.url, seed=SEED) as proxy:
        yield proxy


@pytest.fixture
async def to_redis(redis_url: str) -> AsyncIterator[Proxy]:
    async with Proxy.to(redis_url, seed=SEED) as proxy:
        yield proxy


@pytest.fixture
async def bare(
    settings: Settings, redis_url: str, tmp_path: Path, to_database: Proxy, to_redis: Proxy
) -> AsyncIterator[Installation]:
    """An installation in which nothing runs yet; its processes end before the proxies do."""
    async with installed(settings, redis_url, tmp_path) as installation:
        yield installation
        for proxy in (to_database, to_redis):
            proxy.heal()
        await anyio.to_thread.run_sync(installation.end)  # beside the loop: the proxies live in it


@pytest.fixture
async def owner(settings: Settings) -> AsyncIterator[Session]:
    """A session of the schema's owner."""
    async with session(settings, Role.OWNER, application_name="test") as connection:
        yield connection


@pytest.fixture
async def road(redis_url: str) -> AsyncIterator[Redis]:
    """The streams, as anybody may write on them who can reach Redis."""
    async with redis.Redis.from_url(redis_url, protocol=2, socket_timeout=60, socket_connect_timeout=60) as client:
        yield client
