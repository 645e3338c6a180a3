"""The scheduler: what is done by one process at a time."""

from __future__ import annotations

from contextlib import AsyncExitStack

import anyio

from paynode.actors.census import CensusTaker
from paynode.actors.relay import Relay, RelayRules
from paynode.app.parts import new_id, tell_ready
from paynode.app.watching import admin_port
from paynode.config import Settings
from paynode.observability.observers import Observer
from paynode.runtime.stopping import Stop, stop_on_signal
from paynode.storage.census import PgCensus
from paynode.storage.leases import PgSingleton
from paynode.storage.outbox import PgOutbox
from paynode.storage.postgres import Role, pool
from paynode.streams.client import commands_client, refuse_eviction
from paynode.streams.publisher import RedisPublisher


async def run_scheduler(settings: Settings) -> None:
    """The relay, until a signal. Any number may run; one acts."""
    stop, observer, owner = Stop(), Observer(), f"scheduler-{new_id()}"
    rules = RelayRules(
        interval_s=settings.relay.interval_s,
        republish_after_s=settings.relay.republish_after_s,
        republish_max_s=settings.relay.republish_max_s,
        sweep_size=settings.relay.sweep_size,
    )
    async with AsyncExitStack() as stack, anyio.create_task_group() as signals:
        await signals.start(stop_on_signal, stop)
        commands = await stack.enter_async_context(commands_client(settings))
        await refuse_eviction(commands)
        database = await stack.enter_async_context(pool(settings, Role.GATEWAY, application_name=owner))
        singleton = PgSingleton(database, name="relay", owner=owner, lease_s=settings.relay.lease_s)
        relay = Relay(
            PgOutbox(database),
            RedisPublisher(commands),
            singleton,
            observer,
            rules,
            partitions=settings.streams.partitions,
        )
        reading = await stack.enter_async_context(pool(settings, Role.READER, application_name=owner, size=1))
        census = CensusTaker(PgCensus(reading), observer, interval_s=settings.census.interval_s)
        await stack.enter_async_context(admin_port(settings, settings.admin.scheduler_port, database, commands))
        async with anyio.create_task_group() as work:
            work.start_soon(relay.run, stop)
            work.start_soon(census.run, stop)
            tell_ready()
        signals.cancel_scope.cancel()
