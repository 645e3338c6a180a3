"""A migrated database for each test, and reconciliation as the scheduler runs it."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from paynode.config import Settings
from paynode.storage.postgres import Pool, Role, Session, pool, session


@pytest.fixture
async def owner(settings: Settings) -> AsyncIterator[Session]:
    """A session of the schema's owner."""
    async with session(settings, Role.OWNER, application_name="test") as connection:
        yield connection


@pytest.fixture
async def reading(settings: Settings) -> AsyncIterator[Pool]:
    """As the reader."""
    async with pool(settings, Role.READER, application_name="test", size=2) as connections:
        yield connections


@pytest.fixture
async def writing(settings: Settings) -> AsyncIterator[Pool]:
    """As the gateway, which the scheduler logs in as."""
    async with pool(settings, Role.GATEWAY, application_name="test", size=2) as connections:
        yield connections
