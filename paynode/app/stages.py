"""`stages`: what a hot merchant's event costs on its way through a worker, stage by stage.

The worker's own parts do each stage for a whole batch, one stage after the other and nothing beside, so that what is
measured is the stage alone: a worker reads and decodes the next batch while PostgreSQL writes the last one. Of all
batches the quickest of each stage counts: what makes one slower is not ours.
"""

from __future__ import annotations

import random
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import AsyncExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Final

from paynode.actors.intake import Intake
from paynode.actors.merchant import Delivery
from paynode.app.parts import new_id, now_ms, policy_of
from paynode.config import Settings
from paynode.domain.batch import Batch, Booked, Lease, merge
from paynode.domain.booking import MerchantBooks, Surroundings
from paynode.domain.ids import MERCHANT, public
from paynode.domain.ledger import Entry, canonical, seal
from paynode.domain.message import Message
from paynode.domain.moving import move
from paynode.domain.partition import partition_of
from paynode.domain.publishing import OutsideEvent, WalletMovement
from paynode.domain.road import events_stream
from paynode.storage import batch_rows
from paynode.storage.books import PgBooks
from paynode.storage.leases import PgLeases
from paynode.storage.postgres import BY_KEY, Role, pool
from paynode.storage.presence import PgPresence
from paynode.storage.publishers import PgPublishers
from paynode.storage.shelf import PgShelf
from paynode.streams.client import Redis, commands_client
from paynode.streams.outcomes import Outcomes
from paynode.streams.outside import OutsideReader
from paynode.streams.partition_feed import PartitionFeed, RedisFeeds

_WORKER: Final = "bench-stages"
# Nobody renews it.
_LEASE_S: Final = 600.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """Batches, and events of each."""

    batches: int
    size: int


@dataclass(slots=True)
class Watch:
    """Seconds that each stage took of each batch, by the clock and of this process's processor."""

    wall: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    busy: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """What runs in it is one batch's."""
        wall, busy = time.perf_counter(), time.process_time()
        yield
        self.wall[name].append(time.perf_counter() - wall)
        self.busy[name].append(time.process_time() - busy)


@dataclass(frozen=True, slots=True, kw_only=True)
class Bench:
    """A worker's parts, put in a row."""

    lease: Lease
    feed: PartitionFeed
    intake: Intake
    shelf: PgShelf
    books: PgBooks
    outcomes: Outcomes
    around: Surroundings


async def run(settings: Settings, plan: Plan, merchant_id: str) -> dict[str, object]:
    """Process so many batches of the merchant's credits, which wait on its stream; microseconds of each stage."""
    settings = settings.model_copy(update={"streams": settings.streams.model_copy(update={"read_count": plan.size})})
    watch = Watch()
    async with AsyncExitStack() as stack:
        redis = await stack.enter_async_context(commands_client(settings))
        bench = await _set_up(settings, merchant_id, redis, stack)
        books = (await bench.shelf.books([merchant_id]))[merchant_id]
        for _ in range(plan.batches):
            books = await _work_off(bench, books, watch)
    quickest = {name: round(min(times) * 1e6 / plan.size, 2) for name, times in watch.wall.items()}
    busy = {name: round(min(times) * 1e6 / plan.size, 2) for name, times in watch.busy.items()}
    return {
        "scenario": "stages",
        "events": plan.batches * plan.size,
        "batch": plan.size,
        "stages_us": quickest,
        "busy_us": busy,
        "sum_us": round(sum(quickest.values()), 1),
        "sum_busy_us": round(sum(busy.values()), 1),
    }


async def _set_up(settings: Settings, merchant_id: str, redis: Redis, stack: AsyncExitStack) -> Bench:
    partitions = settings.streams.partitions
    database = await stack.enter_async_context(pool(settings, Role.COMMITTER, application_name=_WORKER, planner=BY_KEY))
    lease = await _take(settings, partition_of(public(MERCHANT, merchant_id), partitions), stack)
    keys, shelf, books = PgPublishers(database), PgShelf(database), PgBooks(settings, name=_WORKER)
    stack.push_async_callback(books.aclose)
    outside = OutsideReader(keys, partitions=partitions, now_ms=now_ms)
    return Bench(
        lease=lease,
        feed=await stack.enter_async_context(RedisFeeds(settings, redis).open(lease.partition)),
        intake=Intake(events_stream(lease.partition), lease.partition, shelf, outside),
        shelf=shelf,
        books=books,
        outcomes=Outcomes(
            redis,
            keys,
            partitions=partitions,
            entries_max=settings.streams.outcomes_max,
            new_id=new_id,
            now_ms=now_ms,
        ),
        around=Surroundings(
            now_ms=now_ms(),
            new_id=new_id,
            between_ms=random.randint,
            epoch=lease.epoch,
            policy=policy_of(settings, {}),
        ),
    )


async def _take(settings: Settings, partition: int, stack: AsyncExitStack) -> Lease:
    presence = PgPresence(settings, worker_id=_WORKER)
    stack.push_async_callback(presence.aclose)
    leases = PgLeases(presence, worker_id=_WORKER, lease_s=_LEASE_S)
    return next(one.lease for one in await leases.take(settings.streams.partitions) if one.lease.partition == partition)


async def _work_off(bench: Bench, books: MerchantBooks, watch: Watch) -> MerchantBooks:
    with watch.stage("read"):
        entries = await bench.feed.read()
        while not entries:  # the first looks find no group, and what an owner before had left
            entries = await bench.feed.read()
    with watch.stage("decode, verify and recognise"):
        meaning = await bench.intake.sort(entries)
    with watch.stage("decide and chain"):
        books, booked = _decide(bench, books, meaning.deliveries)
    with watch.stage("merge"):
        batch = merge(new_id(), booked)
    with watch.stage("encode and write"):
        await bench.books.commit(batch)
    with watch.stage("tell"):
        await bench.outcomes.tell(batch.verdicts)
    with watch.stage("acknowledge"):
        await bench.feed.acknowledge([entry.id for entry in entries])
    with watch.stage("(chain)"):
        _chain(batch.entries)
    with watch.stage("(rows)"):
        _rows(batch)
    return books


def _decide(bench: Bench, books: MerchantBooks, deliveries: Sequence[Delivery]) -> tuple[MerchantBooks, list[Booked]]:
    booked = []
    for delivery in deliveries:
        before, (event, movement) = books, _movement(delivery.message)
        books, effects = move(before, event, movement, None, bench.around)
        booked.append(Booked(lease=bench.lease, effects=effects, before=before, after=books))
    return books, booked


def _movement(message: Message) -> tuple[OutsideEvent, WalletMovement]:
    event = message.content
    assert isinstance(event, OutsideEvent)
    assert isinstance(event.data, WalletMovement)
    return event, event.data


def _chain(entries: Sequence[Entry]) -> None:
    for one in entries:
        seal(
            one.prev_hash,
            canonical(
                entry_id=one.id,
                line=one.line,
                merchant_id=one.merchant_id,
                seq=one.seq,
                payment_id="",
                operation_id=one.operation_id,
                type=one.posting.type,
                debit=one.posting.debit,
                credit=one.posting.credit,
                amount=one.posting.money.amount,
                currency=one.posting.money.currency,
                at_ms=one.at_ms,
                reference=one.reference,
            ),
        )


def _rows(batch: Batch) -> None:
    batch_rows.entries(batch, batch_rows.instant_of_copy)
    batch_rows.adjustments(batch, batch_rows.instant_of_copy)
    batch_rows.verdicts(batch)
