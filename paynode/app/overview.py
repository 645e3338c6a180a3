"""`paynode status`: what the database and the streams say, put together."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager

import anyio

from paynode.config import Settings, with_development
from paynode.domain.census import OnRoad, groups_of
from paynode.domain.errors import Transient
from paynode.domain.overview import Overview, Standing
from paynode.storage import status
from paynode.storage.postgres import Role, Session, close, connect
from paynode.streams.client import commands_client
from paynode.streams.standing import RedisStanding

Look = Callable[[], Awaitable[Overview]]

# Seconds to wait for Redis: whoever looks because something is wrong must not wait long for what is wrong.
_ROAD_S = 2.0


@asynccontextmanager
async def looking(settings: Settings) -> AsyncIterator[Look]:
    """Gives what looks, as often as one likes. A look raises Unavailable while the database is away, and only then."""
    settings, psps, database = with_development(settings), tuple(sorted(settings.psp)), _Database(settings)

    async def look() -> Overview:
        standing = await database.look()
        road = await _road(settings, groups_of(len(standing.partitions), psps))
        return Overview(standing=standing, road=road, psps=psps)

    try:
        yield look
    finally:
        await database.aclose()


async def _road(settings: Settings, groups: Mapping[str, str]) -> Mapping[str, OnRoad] | None:
    """What the streams hold; None when Redis does not answer. A client for each look: the last one may have met a
    server that is no more."""
    if not settings.redis.url:
        return None
    try:
        with anyio.move_on_after(_ROAD_S):
            async with commands_client(settings) as client:
                return await RedisStanding(client).look(groups)
    except Transient:
        pass
    return None


class _Database:
    """A session that is made again after it failed: `--watch` outlives a restart of the server."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._session: Session | None = None

    async def look(self) -> Standing:
        if self._session is None:
            self._session = await connect(self._settings, Role.READER, application_name="paynode status")
        try:
            return await status.look(self._session)
        except Transient:
            await self.aclose()
            raise

    async def aclose(self) -> None:
        session, self._session = self._session, None
        if session is not None:
            await close(session)
