"""The composition root: the only place that sees actors and adapters together.

Each function reads downwards in the order of the start; everything stops upwards.
"""

from __future__ import annotations

import random
import time
from collections.abc import Iterable
from contextlib import AsyncExitStack

import anyio
import uuid_utils
from anyio.abc import TaskGroup

from paynode.actors.committer import Committer
from paynode.actors.dispatch import Dispatcher
from paynode.actors.gateway import PspActor
from paynode.actors.ownership import Ownership
from paynode.actors.partition import PartitionConsumer
from paynode.actors.relay import Relay, RelayRules
from paynode.config import Settings
from paynode.domain.attempts import Claim
from paynode.domain.batch import Lease
from paynode.domain.booking import Surroundings
from paynode.domain.deciding import Policy
from paynode.observability.observers import Observer
from paynode.psp.breaker import Breaker
from paynode.psp.guard import GuardedPsp
from paynode.psp.sim import SimPsp
from paynode.runtime.backoff import Backoff
from paynode.runtime.grouping import Grouper
from paynode.runtime.stopping import Stop, stop_on_signal
from paynode.storage.attempts import PostgresAttempts
from paynode.storage.books import PostgresBooks
from paynode.storage.leases import PostgresLeases, PostgresSingleton, count_partitions
from paynode.storage.outbox import PostgresOutbox
from paynode.storage.postgres import Role, pool
from paynode.storage.shelf import PostgresShelf
from paynode.streams.client import Redis, commands_client, reader_client, refuse_eviction
from paynode.streams.command_feed import CommandFeed
from paynode.streams.partition_feed import RedisFeeds
from paynode.streams.publisher import RedisPublisher


def new_id() -> str:
    """A fresh UUIDv7, as text."""
    return str(uuid_utils.uuid7())


def _now_ms() -> int:
    return time.time_ns() // 1_000_000


def _jitter_ms(pause_ms: int) -> int:
    # 20 % either way: many that fell into doubt together do not ask together.
    return round(pause_ms * random.uniform(0.8, 1.2))  # noqa: S311 - no secret is drawn


def _policy(settings: Settings) -> Policy:
    gateway = settings.gateway
    return Policy(
        inquiry_ladder_ms=tuple(round(rung * 1000) for rung in gateway.inquiry_ladder_s),
        not_sent_tries_max=gateway.not_sent_tries_max,
        not_sent_retry_ms=round(gateway.not_sent_retry_s * 1000),
        not_sent_retry_max_ms=round(gateway.not_sent_retry_max_s * 1000),
    )


def _backoff(settings: Settings) -> Backoff:
    return Backoff(min_ms=settings.worker.retry_min_ms, max_ms=settings.worker.retry_max_ms)


def _tell_ready() -> None:
    # Whoever started this process waits for the line; logs go to stderr.
    print("ready", flush=True)


class PartitionsDiffer(Exception):
    """The database was made for another number of partitions than the settings say."""


async def run_worker(settings: Settings, roles: Iterable[str]) -> None:
    """Merchants' actors, gateway, or both, until a signal."""
    stop, observer, worker_id = Stop(), Observer(), f"worker-{new_id()}"
    async with AsyncExitStack() as stack, anyio.create_task_group() as signals:
        await signals.start(stop_on_signal, stop)
        commands = await stack.enter_async_context(commands_client(settings))
        await refuse_eviction(commands)
        async with anyio.create_task_group() as work:
            if "merchants" in roles:
                await _start_merchants(settings, worker_id, commands, observer, stop, stack, work)
            if "gateway" in roles:
                await _start_gateway(settings, worker_id, commands, observer, stop, stack, work)
            _tell_ready()
        signals.cancel_scope.cancel()


async def _start_merchants(
    settings: Settings,
    worker_id: str,
    commands: Redis,
    observer: Observer,
    stop: Stop,
    stack: AsyncExitStack,
    work: TaskGroup,
) -> None:
    database = await stack.enter_async_context(pool(settings, Role.COMMITTER, application_name=worker_id))
    partitions = await count_partitions(database)
    if partitions != settings.streams.partitions:
        raise PartitionsDiffer(
            f"the database has {partitions} partitions, the settings say {settings.streams.partitions}"
        )
    policy, road = _policy(settings), RedisPublisher(commands)

    def around(lease: Lease) -> Surroundings:
        return Surroundings(now_ms=_now_ms(), new_id=new_id, jitter_ms=_jitter_ms, epoch=lease.epoch, policy=policy)

    committers = []
    for number in range(settings.worker.committers):
        books = PostgresBooks(settings, name=f"{worker_id}-committer-{number}")
        stack.push_async_callback(books.aclose)
        committers.append(Committer(books, road, observer, new_id=new_id, batch_size=settings.worker.batch_size))
    consumer = PartitionConsumer(
        RedisFeeds(settings, commands),
        PostgresShelf(database),
        committers,
        around,
        observer,
        mailbox_size=settings.streams.mailbox_size,
        new_backoff=lambda: _backoff(settings),
    )
    ownership = Ownership(
        PostgresLeases(database, worker_id=worker_id, lease_s=settings.worker.lease_s),
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
    database = await stack.enter_async_context(pool(settings, Role.GATEWAY, application_name=worker_id))
    reader = await stack.enter_async_context(reader_client(settings))
    gateway, sim = settings.gateway, settings.psp.sim
    adapter = await stack.enter_async_context(
        SimPsp(
            url=sim.url,
            api_key=sim.api_key,
            webhook_secret=sim.webhook_secret,
            idempotent_for_s=sim.idempotent_for_s,
            concurrency=gateway.concurrency,
        )
    )
    attempts = PostgresAttempts(
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
        backoff=_backoff(settings),
    )
    work.start_soon(_dispatch_until_stopped, dispatcher, claims, stop)


async def _dispatch_until_stopped(dispatcher: Dispatcher, claims: Grouper[Claim, bool], stop: Stop) -> None:
    async with anyio.create_task_group() as claiming:
        claiming.start_soon(claims.run)
        await dispatcher.run(stop)
        claiming.cancel_scope.cancel()


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
        singleton = PostgresSingleton(database, name="relay", owner=owner, lease_s=settings.relay.lease_s)
        relay = Relay(
            PostgresOutbox(database),
            RedisPublisher(commands),
            singleton,
            observer,
            rules,
            partitions=settings.streams.partitions,
        )
        _tell_ready()
        await relay.run(stop)
        signals.cancel_scope.cancel()
