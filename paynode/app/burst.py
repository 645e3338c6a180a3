"""A burst: a worker that ends when nothing is left to do, for a cron job, a migration, or a test."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from paynode.config import Settings
from paynode.domain.errors import Transient
from paynode.domain.road import events_stream, lanes
from paynode.runtime.stopping import Stop
from paynode.storage.postgres import Pool
from paynode.storage.remaining import has_due_work
from paynode.streams.client import Redis
from paynode.streams.publisher import RedisPublisher

# The streams that a role works on, as forms of LIKE. A notifier has none: merchants have no webhooks yet.
_STREAMS: Final = {"merchants": "paynode:{p__}:%", "gateway": "paynode:{psp-%}:%"}


class Burst:
    """Looks whether anything is left for these roles, here or with whoever else works on it."""

    def __init__(self, settings: Settings, roles: Iterable[str], database: Pool, commands: Redis) -> None:
        self._look_s = settings.worker.look_ms / 1000
        self._database = database
        self._road = RedisPublisher(commands)
        self._rows = [_STREAMS[role] for role in roles if role in _STREAMS]
        # Only outside publishers' events have no row in the outbox; they arrive where merchants' actors read.
        self._streams = [
            lane
            for partition in range(settings.streams.partitions)
            for lane in lanes(events_stream(partition))
            if "merchants" in roles
        ]

    async def stop_when_done(self, stop: Stop) -> None:
        """Set `stop` when nothing is left; a server that is away may hide something, and is waited for."""
        while not await stop.pause(self._look_s):
            try:
                if await self._is_done():
                    stop.set()
            except Transient:
                continue

    async def _is_done(self) -> bool:
        """First the streams: what leaves them has its consequences in the outbox by then."""
        for stream in self._streams:
            if await self._road.first_entry_ms(stream) is not None:
                return False
        return not await has_due_work(self._database, self._rows)
