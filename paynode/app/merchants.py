"""The merchants' side of a worker: ownership, actors, committers, and what they have around them."""

from __future__ import annotations

import random
from collections.abc import Callable, Coroutine, Iterable, Sequence
from contextlib import AsyncExitStack
from typing import Any

import anyio
from anyio.abc import TaskGroup

from paynode.actors.ahead import Bounds
from paynode.actors.committer import Committer
from paynode.actors.merchant import Around
from paynode.actors.ownership import Ownership, Pace
from paynode.actors.partition import PartitionConsumer, Surrounds
from paynode.actors.room import Room
from paynode.actors.shared_shelf import SharedShelf
from paynode.app.parts import backoff_of, new_id, now_ms, policy_of
from paynode.app.psps import adapters_of
from paynode.app.roads import Roads
from paynode.config import Settings
from paynode.domain.batch import Lease
from paynode.domain.booking import Surroundings
from paynode.observability.observers import Observer
from paynode.runtime.precedence import Precedence
from paynode.runtime.stopping import Stop
from paynode.storage.books import PgBooks
from paynode.storage.leases import PgLeases, count_partitions
from paynode.storage.postgres import BY_KEY, Pool, Role, pool
from paynode.storage.presence import PgPresence
from paynode.storage.publishers import PgPublishers
from paynode.storage.shelf import PgShelf
from paynode.storage.suspects import PgSuspects
from paynode.streams.outcomes import Outcomes
from paynode.streams.outside import OutsideReader


class PartitionsDiffer(Exception):
    """The database was made for another number of partitions than the settings say."""


async def start_merchants(
    settings: Settings,
    worker_id: str,
    ways: Roads,
    observer: Observer,
    stop: Stop,
    stack: AsyncExitStack,
    work: TaskGroup,
    *,
    precedence: Precedence,
) -> None:
    """Own a fair share of the partitions and consume them, until `stop`.

    Raises: PartitionsDiffer, Unavailable.
    """
    database = await stack.enter_async_context(
        pool(settings, Role.COMMITTER, application_name=worker_id, planner=BY_KEY)
    )
    partitions = await _partitions(settings, database)
    keys, around = PgPublishers(database), _around(settings)
    outcomes = ways.outcomes(
        Outcomes(
            ways.commands,
            keys,
            partitions=partitions,
            entries_max=settings.streams.outcomes_max,
            new_id=new_id,
            now_ms=now_ms,
        )
    )
    # A partition has a turn of tills beside the one of all others, and an owner that comes and one that goes.
    shelf = SharedShelf(PgShelf(database), turns_max=4 * partitions)
    parts = Surrounds(
        feeds=await ways.feeds(stack, worker_id),
        shelf=shelf,
        outside=OutsideReader(keys, partitions=partitions, now_ms=now_ms),
        outcomes=outcomes,
        suspects=PgSuspects(database),
        around=around,
        observer=observer,
        bounds=_bounds(settings),
        room=Room(entries=settings.streams.read_ahead, whole=settings.streams.whole_ahead),
        precedence=precedence,
    )
    committers = _committers(settings, worker_id, ways, parts, observer, stack)
    consumer = PartitionConsumer(parts, committers, new_backoff=lambda: backoff_of(settings))
    presence = PgPresence(settings, worker_id=worker_id)
    stack.push_async_callback(presence.aclose)
    ownership = _ownership(settings, worker_id, presence, consumer, observer)
    beside = [presence.stay, shelf.run, *(committer.run for committer in committers)]
    work.start_soon(_consume_until_drained, ownership, beside, stop)


def _committers(
    settings: Settings, worker_id: str, ways: Roads, parts: Surrounds, observer: Observer, stack: AsyncExitStack
) -> Sequence[Committer]:
    """Each with a session of its own, which is closed by `stack`."""
    committers = []
    for number in range(settings.worker.committers):
        books = PgBooks(settings, name=f"{worker_id}-committer-{number}")
        stack.push_async_callback(books.aclose)
        committers.append(
            Committer(
                books,
                ways.road,
                parts.outcomes,
                observer,
                parts.around,
                new_id=new_id,
                batch_size=settings.worker.batch_size,
                condemn_after_s=settings.worker.condemn_after_s,
            )
        )
    return committers


def _around(settings: Settings) -> Around:
    policy = policy_of(settings, {name: one.capabilities for name, one in adapters_of(settings).items()})

    def around(lease: Lease) -> Surroundings:
        return Surroundings(now_ms=now_ms(), new_id=new_id, between_ms=random.randint, epoch=lease.epoch, policy=policy)

    return around


async def _partitions(settings: Settings, database: Pool) -> int:
    partitions = await count_partitions(database)
    if partitions != settings.streams.partitions:
        raise PartitionsDiffer(
            f"the database has {partitions} partitions, the settings say {settings.streams.partitions}"
        )
    return partitions


def _ownership(
    settings: Settings, worker_id: str, presence: PgPresence, consumer: PartitionConsumer, observer: Observer
) -> Ownership:
    worker = settings.worker
    return Ownership(
        presence,
        PgLeases(presence, worker_id=worker_id, lease_s=worker.lease_s),
        consumer.consume,
        observer,
        partitions=settings.streams.partitions,
        pace=Pace(
            keep_s=worker.lease_s / 3,
            look_s=worker.look_ms / 1000,
            grace_s=worker.orphan_grace_ms / 1000,
            give_back_s=worker.give_back_s,
        ),
    )


def _bounds(settings: Settings) -> Bounds:
    streams = settings.streams
    return Bounds(
        turn=streams.read_count,
        share=streams.merchant_share,
        mailbox=streams.mailbox_size,
        actors=streams.actors_max,
        attempts=settings.worker.attempts_max,
    )


async def _consume_until_drained(
    ownership: Ownership, beside: Iterable[Callable[[], Coroutine[Any, Any, None]]], stop: Stop
) -> None:
    async with anyio.create_task_group() as group:
        for run in beside:
            group.start_soon(run)
        await ownership.run(stop)
        group.cancel_scope.cancel()  # what is in hand now was not through in time, and is not ours any more
