"""The scheduler: what is done by one process at a time."""

from __future__ import annotations

from contextlib import AsyncExitStack

import anyio

from paynode.app.calendar import calendar_of
from paynode.app.operating import census_of, matcher_of, operating_app, undertaker_of
from paynode.app.parts import new_id, tell_ready
from paynode.app.relaying import relay_of
from paynode.app.reversing import reversing_of
from paynode.app.roads import roads
from paynode.app.screening import rescreening_of
from paynode.app.watching import admin_port
from paynode.config import Settings
from paynode.observability.observers import Observer
from paynode.runtime.stopping import Stop, stop_on_signal
from paynode.storage.postgres import Role, pool
from paynode.streams.client import commands_client


async def run_scheduler(settings: Settings) -> None:
    """The relay and the undertaker, the census and the operator's API, until a signal. Any number may run; one acts."""
    stop, observer, owner = Stop(), Observer(), f"scheduler-{new_id()}"
    async with AsyncExitStack() as stack, anyio.create_task_group() as signals:
        await signals.start(stop_on_signal, stop)
        commands = await stack.enter_async_context(commands_client(settings))
        ways = await stack.enter_async_context(roads(settings, commands, observer, signals))
        database = await stack.enter_async_context(pool(settings, Role.GATEWAY, application_name=owner))
        relay = relay_of(settings, database, commands, ways.reach, observer, owner=owner)
        reading = await stack.enter_async_context(pool(settings, Role.READER, application_name=owner, size=2))
        operating, port = operating_app(settings, reading, database), settings.admin.scheduler_port
        await stack.enter_async_context(admin_port(settings, port, database, commands, operating))
        rescreening = await rescreening_of(settings, database, observer, stack, owner=owner)
        async with anyio.create_task_group() as work:
            work.start_soon(relay.run, stop)
            if rescreening is not None:
                work.start_soon(rescreening.run, stop)
            work.start_soon(undertaker_of(settings, database, commands, observer, owner=owner).run, stop)
            work.start_soon(matcher_of(settings, database, observer).run, stop)
            work.start_soon(reversing_of(settings, database, ways.road, observer, owner=owner).run, stop)
            work.start_soon(calendar_of(settings, database, observer, owner=owner).run, stop)
            work.start_soon(census_of(settings, reading, commands, observer).run, stop)
            tell_ready()
        signals.cancel_scope.cancel()
