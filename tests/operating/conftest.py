"""A migrated database and an empty Redis for each test, with hands to reach into both."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
import redis.asyncio as redis

from paynode.config import Settings
from paynode.storage.postgres import Role, Session, session
from paynode.streams.client import Redis


@pytest.fixture
async def owner(settings: Settings) -> AsyncIterator[Session]:
    """A session of the schema's owner."""
    async with session(settings, Role.OWNER, application_name="test") as connection:
        yield connection


@pytest.fixture
async def road(redis_url: str) -> AsyncIterator[Redis]:
    """The streams."""
    async with redis.Redis.from_url(redis_url, protocol=2, socket_timeout=60, socket_connect_timeout=60) as client:
        yield client
