"""A PSP's gateway, put together: the adapter behind its guards, the actor, and what brings its commands."""

from __future__ import annotations

import time
from contextlib import AsyncExitStack

import anyio
from anyio.abc import TaskGroup

from paynode.actors.dispatch import Dispatcher
from paynode.actors.gateway import PspActor
from paynode.actors.suspicion import Suspicion, SuspicionRules
from paynode.actors.upkeep import Upkeep
from paynode.app.operating import pulse_of
from paynode.app.parts import backoff_of, new_id, now_ms, sim_psp
from paynode.app.roads import Roads
from paynode.config import Settings
from paynode.domain.attempts import Claim
from paynode.observability.observers import Observer
from paynode.psp.breaker import Breaker
from paynode.psp.guard import GuardedPsp
from paynode.psp.sim import SimPsp
from paynode.runtime.grouping import Grouper
from paynode.runtime.stopping import Stop
from paynode.storage.attempts import PgAttempts
from paynode.storage.commands import PgCommands
from paynode.storage.postgres import Pool, Role, pool
from paynode.streams.client import reader_client


async def start_gateway(
    settings: Settings,
    worker_id: str,
    ways: Roads,
    observer: Observer,
    stop: Stop,
    stack: AsyncExitStack,
    work: TaskGroup,
) -> None:
    """Perform the PSP's commands until `stop`; what it needs is closed by `stack`."""
    database = await stack.enter_async_context(pool(settings, Role.GATEWAY, application_name=worker_id, is_by_key=True))
    adapter = await stack.enter_async_context(sim_psp(settings))
    attempts = _attempts_of(settings, database, worker_id)
    claims: Grouper[Claim, bool] = Grouper(
        attempts.claim, group_size_max=settings.gateway.concurrency, waiting_max=settings.gateway.concurrency
    )
    psp = _guarded(settings, adapter, observer)
    reader = await stack.enter_async_context(reader_client(settings))
    feed = await ways.command_feed(stack, reader, SimPsp.name, worker_id)
    gateway, rows = settings.gateway, PgCommands(database)
    dispatcher = Dispatcher(
        SimPsp.name,
        feed,
        rows,
        attempts,
        PspActor(
            psp,
            attempts,
            claims,
            new_id=new_id,
            send_within_s=gateway.send_within_s,
            call_deadline_s=gateway.call_deadline_s,
        ),
        ways.road,
        _suspicion_of(settings, rows, ways, observer),
        observer,
        hands=gateway.concurrency,
        queue_size=gateway.queue_size,
        reclaim_idle_ms=gateway.reclaim_idle_ms,
        backoff=backoff_of(settings),
    )
    upkeep = Upkeep(
        feed,
        dispatcher.in_hand,
        observer,
        reclaim_idle_ms=gateway.reclaim_idle_ms,
        consumer_idle_s=gateway.consumer_idle_s,
    )
    work.start_soon(_dispatch_until_stopped, dispatcher, claims, upkeep, stop)
    work.start_soon(pulse_of(settings, database, psp, observer, gateway=worker_id).run, stop)


def _attempts_of(settings: Settings, database: Pool, worker_id: str) -> PgAttempts:
    return PgAttempts(
        database,
        gateway=worker_id,
        send_within_s=settings.gateway.send_within_s,
        call_deadline_s=settings.gateway.call_deadline_s,
        partitions=settings.streams.partitions,
    )


def _guarded(settings: Settings, adapter: SimPsp, observer: Observer) -> GuardedPsp:
    gateway = settings.gateway
    return GuardedPsp(
        SimPsp.name,
        adapter,
        observer,
        new_breaker=lambda: Breaker(failures_max=gateway.breaker_failures, open_s=gateway.breaker_open_s),
        clock=time.monotonic,
    )


def _suspicion_of(settings: Settings, rows: PgCommands, ways: Roads, observer: Observer) -> Suspicion:
    gateway = settings.gateway
    rules = SuspicionRules(deliveries=gateway.suspect_deliveries, attempts_max=gateway.suspect_tries_max)
    return Suspicion(rows, ways.road, observer, rules, new_id=new_id, now_ms=now_ms)


async def _dispatch_until_stopped(
    dispatcher: Dispatcher, claims: Grouper[Claim, bool], upkeep: Upkeep, stop: Stop
) -> None:
    async with anyio.create_task_group() as beside:
        beside.start_soon(claims.run)
        beside.start_soon(upkeep.run)
        await dispatcher.run(stop)
        beside.cancel_scope.cancel()
