"""A worker: merchants' actors with their committers, PSP gateways, or both."""

from __future__ import annotations

import time
from collections.abc import Iterable
from contextlib import AsyncExitStack

import anyio
from anyio.abc import TaskGroup

from paynode.actors.committer import Committer
from paynode.actors.dispatch import Dispatcher
from paynode.actors.gateway import PspActor
from paynode.actors.ownership import Ownership
from paynode.actors.partition import PartitionConsumer
from paynode.app.parts import backoff_of, jitter_ms, new_id, now_ms, policy_of, settle_memory, sim_psp, tell_ready
from paynode.app.watching import admin_port
from paynode.config import Settings
from paynode.domain.attempts import Claim
from paynode.domain.batch import Lease
from paynode.domain.booking import Surroundings
from paynode.observability.observers import Observer
from paynode.psp.breaker import Breaker
from paynode.psp.guard import GuardedPsp
from paynode.psp.sim import SimPsp
from paynode.runtime.grouping import Grouper
from paynode.runtime.stopping import Stop, stop_on_signal
from paynode.storage.attempts import PgAttempts
from paynode.storage.books import PgBooks
from paynode.storage.leases import PgLeases, count_partitions
from paynode.storage.postgres import Role, pool
from paynode.storage.shelf import PgShelf
from paynode.streams.client import Redis, commands_client, reader_client, refuse_eviction
from paynode.streams.command_feed import CommandFeed
from paynode.streams.partition_feed import RedisFeeds
from paynode.streams.publisher import RedisPublisher


class PartitionsDiffer(Exception):
    """The database was made for another number of partitions than the settings say."""


async def run_worker(settings: Settings, roles: Iterable[str]) -> None:
    """Merchants' actors, gateway, or both, until a signal."""
    stop, observer, worker_id = Stop(), Observer(), f"worker-{new_id()}"
    async with AsyncExitStack() as stack, anyio.create_task_group() as signals:
        await signals.start(stop_on_signal, stop)
        commands = await stack.enter_async_context(commands_client(settings))
        await refuse_eviction(commands)
        watching = await stack.enter_async_context(pool(settings, Role.READER, application_name=worker_id, size=1))
        await stack.enter_async_context(admin_port(settings, settings.admin.worker_port, watching, commands))
        async with anyio.create_task_group() as work:
            if "merchants" in roles:
                await _start_merchants(settings, worker_id, commands, observer, stop, stack, work)
            if "gateway" in roles:
                await _start_gateway(settings, worker_id, commands, observer, stop, stack, work)
            settle_memory()
            tell_ready()
            signals.start_soon(_insist, stop, settings.worker.drain_s, work.cancel_scope)
        signals.cancel_scope.cancel()


async def _insist(stop: Stop, drain_s: float, scope: anyio.CancelScope) -> None:
    """End what has not drained in time. Open attempts become `unknown`, entries are read again: nothing is lost."""
    await stop.wait()
    await anyio.sleep(drain_s)
    scope.cancel()


async def _start_merchants(
    settings: Settings,
    worker_id: str,
    commands: Redis,
    observer: Observer,
    stop: Stop,
    stack: AsyncExitStack,
    work: TaskGroup,
) -> None:
    database = await stack.enter_async_context(
        pool(settings, Role.COMMITTER, application_name=worker_id, is_by_key=True)
    )
    partitions = await count_partitions(database)
    if partitions != settings.streams.partitions:
        raise PartitionsDiffer(
            f"the database has {partitions} partitions, the settings say {settings.streams.partitions}"
        )
    policy, road = policy_of(settings), RedisPublisher(commands)

    def around(lease: Lease) -> Surroundings:
        return Surroundings(now_ms=now_ms(), new_id=new_id, jitter_ms=jitter_ms, epoch=lease.epoch, policy=policy)

    committers = []
    for number in range(settings.worker.committers):
        books = PgBooks(settings, name=f"{worker_id}-committer-{number}")
        stack.push_async_callback(books.aclose)
        committers.append(Committer(books, road, observer, new_id=new_id, batch_size=settings.worker.batch_size))
    consumer = PartitionConsumer(
        RedisFeeds(settings, commands),
        PgShelf(database),
        committers,
        around,
        observer,
        mailbox_size=settings.streams.mailbox_size,
        new_backoff=lambda: backoff_of(settings),
    )
    ownership = Ownership(
        PgLeases(database, worker_id=worker_id, lease_s=settings.worker.lease_s),
        consumer.consume,
        observer,
        partitions=partitions,
        interval_s=settings.worker.lease_s / 3,
    )
    work.start_soon(_consume_until_drained, ownership, committers, stop)


async def _consume_until_drained(ownership: Ownership, committers: Iterable[Committer], stop: Stop) -> None:
    async with anyio.create_task_group() as writing:
        for committer in committers:
            writing.start_soon(committer.run)
        await ownership.run(stop)
        writing.cancel_scope.cancel()  # nothing is in hand any more


async def _start_gateway(
    settings: Settings,
    worker_id: str,
    commands: Redis,
    observer: Observer,
    stop: Stop,
    stack: AsyncExitStack,
    work: TaskGroup,
) -> None:
    database = await stack.enter_async_context(pool(settings, Role.GATEWAY, application_name=worker_id, is_by_key=True))
    reader = await stack.enter_async_context(reader_client(settings))
    gateway = settings.gateway
    adapter = await stack.enter_async_context(sim_psp(settings))
    attempts = PgAttempts(
        database,
        gateway=worker_id,
        send_within_s=gateway.send_within_s,
        call_deadline_s=gateway.call_deadline_s,
        partitions=settings.streams.partitions,
    )
    claims: Grouper[Claim, bool] = Grouper(
        attempts.claim, group_size_max=gateway.concurrency, waiting_max=gateway.concurrency
    )
    psp = GuardedPsp(
        SimPsp.name,
        adapter,
        observer,
        new_breaker=lambda: Breaker(failures_max=gateway.breaker_failures, open_s=gateway.breaker_open_s),
        clock=time.monotonic,
    )
    actor = PspActor(
        psp,
        attempts,
        claims,
        new_id=new_id,
        send_within_s=gateway.send_within_s,
        call_deadline_s=gateway.call_deadline_s,
    )
    dispatcher = Dispatcher(
        SimPsp.name,
        CommandFeed(reader, commands, SimPsp.name, consumer=worker_id, block_ms=settings.streams.block_ms),
        attempts,
        actor,
        RedisPublisher(commands),
        observer,
        hands=gateway.concurrency,
        queue_size=gateway.queue_size,
        reclaim_idle_ms=gateway.reclaim_idle_ms,
        backoff=backoff_of(settings),
    )
    work.start_soon(_dispatch_until_stopped, dispatcher, claims, stop)


async def _dispatch_until_stopped(dispatcher: Dispatcher, claims: Grouper[Claim, bool], stop: Stop) -> None:
    async with anyio.create_task_group() as claiming:
        claiming.start_soon(claims.run)
        await dispatcher.run(stop)
        claiming.cancel_scope.cancel()
