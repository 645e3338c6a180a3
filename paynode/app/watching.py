"""The admin port that every kind of process may have."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from aiohttp import web

from paynode.config import Settings
from paynode.http.admin import Readiness
from paynode.http.serving import serving_admin
from paynode.storage import postgres
from paynode.storage.postgres import Pool
from paynode.streams import client
from paynode.streams.client import Redis


def readiness_of(database: Pool, commands: Redis) -> Readiness:
    """Ready while the database answers; Redis shows and decides nothing: it may be away."""

    async def is_database_up() -> bool:
        return await postgres.is_up(database)

    async def is_redis_up() -> bool:
        return await client.is_up(commands)

    return Readiness({"database": is_database_up, "redis": is_redis_up}, needs=frozenset({"database"}))


@asynccontextmanager
async def admin_port(
    settings: Settings, port: int, database: Pool, commands: Redis, operating: web.Application | None = None
) -> AsyncIterator[None]:
    """`/livez`, `/readyz` and `/metrics` of a process that serves nothing else, the scheduler's `/v1` aside; none when
    the port is 0."""
    if port == 0:
        yield
        return
    readiness, body_bytes_max = readiness_of(database, commands), settings.http.body_bytes_max
    async with serving_admin(settings.admin.host, port, readiness, operating, body_bytes_max=body_bytes_max):
        yield
