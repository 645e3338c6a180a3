"""A worker: merchants' actors with their committers, PSP gateways, or both."""

from __future__ import annotations

from contextlib import AsyncExitStack
from typing import Final

import anyio
from anyio.abc import TaskGroup

from paynode.app.burst import Burst
from paynode.app.gateway import start_gateways
from paynode.app.merchants import start_merchants
from paynode.app.parts import new_id, settle_memory, tell_ready
from paynode.app.relaying import relay_of
from paynode.app.roads import Roads, roads
from paynode.app.watching import admin_port
from paynode.config import Settings
from paynode.observability.observers import Observer
from paynode.runtime.memory import limit_memory
from paynode.runtime.precedence import Precedence
from paynode.runtime.stopping import Stop, stop_on_signal
from paynode.runtime.watchdog import Watchdog
from paynode.storage.postgres import Pool, Role, pool
from paynode.streams.client import commands_client

# Seconds that ordinary work waits at most before its next turn while somebody at a till is being served: longer than a
# worker is busy with one.
_PATIENCE_S: Final = 0.05


async def run_worker(settings: Settings, roles: frozenset[str], *, is_burst: bool = False) -> None:
    """Merchants' actors, gateway, or both, until a signal; a burst also ends when nothing is left to do."""
    stop, observer, worker_id = Stop(), Observer(), f"worker-{new_id()}"
    precedence = Precedence(patience_s=_PATIENCE_S)
    async with AsyncExitStack() as stack, anyio.create_task_group() as signals:
        await signals.start(stop_on_signal, stop)
        limit_memory(settings.worker.memory_max_mb)
        commands = await stack.enter_async_context(commands_client(settings))
        ways = await stack.enter_async_context(roads(settings, commands, observer, signals))
        watching = await stack.enter_async_context(pool(settings, Role.READER, application_name=worker_id, size=1))
        await stack.enter_async_context(admin_port(settings, settings.admin.worker_port, watching, commands))
        guard = Watchdog(hang_s=settings.worker.hang_s).guard()
        async with guard, anyio.create_task_group() as work:
            if "merchants" in roles:
                await start_merchants(settings, worker_id, ways, observer, stop, stack, work, precedence=precedence)
            if "gateway" in roles:
                await start_gateways(settings, worker_id, ways, observer, stop, stack, work, precedence=precedence)
            if "notifier" in roles:
                observer.notifier_is_idle()
            if is_burst:
                await _start_burst(settings, worker_id, ways, roles, watching, observer, stop, stack, work)
            settle_memory()
            tell_ready()
            signals.start_soon(_insist, stop, settings.worker.drain_s, work.cancel_scope)
        signals.cancel_scope.cancel()


async def _start_burst(
    settings: Settings,
    worker_id: str,
    ways: Roads,
    roles: frozenset[str],
    watching: Pool,
    observer: Observer,
    stop: Stop,
    stack: AsyncExitStack,
    work: TaskGroup,
) -> None:
    # With a relay of its own: what is due must come also where no scheduler runs.
    database = await stack.enter_async_context(pool(settings, Role.GATEWAY, application_name=worker_id, size=1))
    relay = relay_of(settings, database, ways.commands, ways.reach, observer, owner=worker_id)
    work.start_soon(relay.run, stop)
    work.start_soon(Burst(settings, roles, watching, ways.commands).stop_when_done, stop)


async def _insist(stop: Stop, drain_s: float, scope: anyio.CancelScope) -> None:
    """End what has not drained in time. Open attempts become `unknown`, entries are read again: nothing is lost."""
    await stop.wait()
    await anyio.sleep(drain_s)
    scope.cancel()
