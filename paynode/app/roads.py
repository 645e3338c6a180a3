"""The two ways of a message, and who judges which of them is open: the streams, and the outbox while Redis is away."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import Final

from anyio.abc import TaskGroup

from paynode.actors.command_detour import DetourCommandFeed
from paynode.actors.committer import Outcomes
from paynode.actors.detour import DetourFeeds, PassableOutcomes, PassableRoad
from paynode.config import Settings
from paynode.domain.errors import Unavailable
from paynode.observability.observers import Observer
from paynode.runtime.reach import Reach
from paynode.storage.outbox_feed import PgCommandRows, PgDueRows
from paynode.storage.postgres import Role, pool
from paynode.streams.client import Redis, commands_client, refuse_eviction, translated
from paynode.streams.command_feed import CommandFeed
from paynode.streams.partition_feed import RedisFeeds
from paynode.streams.publisher import RedisPublisher

# Connections that read partitions' rows while Redis is away: half a usual pool, because a page is read in a
# millisecond and then worked on for many.
_DETOUR_POOL: Final = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Roads:
    """What a process knows of the ways of its messages."""

    settings: Settings
    commands: Redis
    reach: Reach

    @property
    def road(self) -> PassableRoad:
        """Where what is committed is told."""
        return PassableRoad(RedisPublisher(self.commands), self.reach)

    def outcomes(self, outcomes: Outcomes) -> PassableOutcomes:
        """Where publishers are told."""
        return PassableOutcomes(outcomes, self.reach)

    async def feeds(self, stack: AsyncExitStack, name: str) -> DetourFeeds:
        """Where partitions are read; `name` is that of the database sessions."""
        streams = self.settings.streams
        # Of its own: the order of an index is wanted here, and a pool that looks up by key would sort all that waits.
        rows = await stack.enter_async_context(
            pool(self.settings, Role.COMMITTER, application_name=name, size=_DETOUR_POOL)
        )
        return DetourFeeds(
            RedisFeeds(self.settings, self.commands),
            PgDueRows(rows),
            self.reach,
            count=streams.read_count,
            poll_s=streams.detour_poll_ms / 1000,
        )

    async def command_feed(self, stack: AsyncExitStack, reader: Redis, stream: str, name: str) -> DetourCommandFeed:
        """Where a PSP's commands are read, of one lane; `name` is that of the consumer and of the database session."""
        rows = await stack.enter_async_context(pool(self.settings, Role.GATEWAY, application_name=name, size=1))
        feed = CommandFeed(reader, self.commands, stream, consumer=name, block_ms=self.settings.streams.block_ms)
        return DetourCommandFeed(
            feed,
            feed,
            PgCommandRows(rows, idle_ms=self.settings.gateway.reclaim_idle_ms),
            self.reach,
            poll_s=self.settings.streams.detour_poll_ms / 1000,
        )


@asynccontextmanager
async def roads(settings: Settings, commands: Redis, observer: Observer, watch: TaskGroup) -> AsyncIterator[Roads]:
    """The ways of a process that may start while Redis is away; the judgement stands before anything asks for it.

    Raises: EvictionRefused, also later, out of the task group.
    """
    # A client of its own and with less patience: in the common pool the question would wait behind what is stuck.
    patience = {"command_timeout_s": settings.redis.silence_ms / 1000, "pool_size": 1}
    impatient = settings.model_copy(update={"redis": settings.redis.model_copy(update=patience)})
    async with commands_client(impatient) as client:
        reach = Reach(_probe(client), observer, interval_s=settings.redis.probe_ms / 1000)
        await reach.look()
        watch.start_soon(reach.run)
        yield Roads(settings=settings, commands=commands, reach=reach)


def _probe(client: Redis) -> Callable[[], Awaitable[bool]]:
    """Whether Redis takes writes, and whether it is set up to forget: looked at whenever it is met anew."""
    is_known = False

    async def probe() -> bool:
        nonlocal is_known
        try:
            with translated():
                # A write, because a demoted node answers a PING; one that is allowed when the memory is full.
                await client.delete("paynode:probe")
            if not is_known:
                await refuse_eviction(client)
                is_known = True
        except Unavailable:
            is_known = False
        return is_known

    return probe
