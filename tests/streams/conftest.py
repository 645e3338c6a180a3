"""A Redis database of these tests' own, empty at the beginning of each."""

from __future__ import annotations

from collections.abc import AsyncIterator
from urllib.parse import urlsplit, urlunsplit

import pytest

from paynode import config
from paynode.config import Settings
from paynode.embedded.servers import Running
from paynode.streams.client import Redis, commands_client

# Numbered databases keep their keys apart: FLUSHDB here is FLUSHALL as far as these streams can tell.
_DATABASE = "/9"


@pytest.fixture
def settings(servers: Running) -> Settings:
    url = urlunsplit(urlsplit(servers.redis_url)._replace(path=_DATABASE))
    defaults = config.load()
    return defaults.model_copy(
        update={
            "redis": defaults.redis.model_copy(update={"url": url}),
            "streams": defaults.streams.model_copy(update={"block_ms": 50, "read_count": 4}),
        }
    )


@pytest.fixture
async def commands(settings: Settings) -> AsyncIterator[Redis]:
    async with commands_client(settings) as client:
        await client.flushdb()
        yield client
