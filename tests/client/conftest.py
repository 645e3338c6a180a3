"""A Redis of these tests' own, and a stand-in for paynode that reads events and tells outcomes."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from paynode.streams.client import Redis, client_of
from tests.client.standin import StandIn, standing_in


@pytest.fixture
async def commands(redis_url: str) -> AsyncIterator[Redis]:
    async with client_of(redis_url, size=8, timeout_s=60, connect_s=60) as client:
        yield client


@pytest.fixture
async def standin(commands: Redis) -> AsyncIterator[StandIn]:
    async with standing_in(commands) as standin:
        await standin.mark_out()
        yield standin
