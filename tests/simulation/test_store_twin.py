"""The twin of the store against a real PostgreSQL: the same leases and batches, the same outcomes, the same rows."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from hashlib import sha256
from random import Random
from typing import Any, cast

import asyncpg
import pytest

from paynode.config import Settings
from paynode.domain import booking
from paynode.domain.batch import Booked, Lease, merge
from paynode.domain.booking import Effects, MerchantBooks, book
from paynode.domain.errors import Conflict, Fenced, Poison, Unavailable
from paynode.domain.money import Money
from paynode.domain.moving import move, on_request
from paynode.domain.payment import Fact, Method, Payment, PspOrder, Source
from paynode.domain.psp import Outcome
from paynode.domain.publishing import (
    CaptureRequest,
    OutsideData,
    OutsideEvent,
    OutsideType,
    RefundRequest,
    WalletMovement,
)
from paynode.domain.road import events_stream
from paynode.storage.bodies import encode_fact
from paynode.storage.books import PgBooks
from paynode.storage.leases import PgLeases
from paynode.storage.postgres import Role, Session, pool
from paynode.storage.presence import PgPresence
from paynode.storage.shelf import PgShelf
from tests.domain.making import around as decision
from tests.domain.making import payment as fresh_payment
from tests.simulation.handles import TERMS, SimBooks, SimOwning, SimShelf
from tests.simulation.handles import Session as SimSession
from tests.simulation.loop import SeededLoop
from tests.simulation.processes import Process, Surroundings
from tests.simulation.store import Store
from tests.storage import rows

# Seconds: no lease ends by itself while the two are compared.
LEASE_S = 600.0
STREAM = events_stream(0)
OWNERS = ("worker-a", "worker-b")


@dataclass
class Mind:
    """What an actor has in hand: loaded once, perhaps long ago."""

    books: MerchantBooks
    payments: dict[str, Payment]


@dataclass
class Both:
    """The server and its twin, and what was put into both."""

    connection: Session
    shelf: PgShelf
    books: PgBooks
    leases: dict[str, PgLeases]
    store: Store
    twin_shelf: SimShelf
    twin_books: SimBooks
    twin_leases: dict[str, SimOwning]
    chance: Random
    merchant: str = field(default_factory=rows.new_id)
    payments: list[Payment] = field(default_factory=list)
    facts: list[Fact] = field(default_factory=list)
    events: list[OutsideEvent] = field(default_factory=list)
    held: list[Lease] = field(default_factory=list)
    owner_of: dict[Lease, str] = field(default_factory=dict)
    minds: list[Mind] = field(default_factory=list)
    outcomes: list[str] = field(default_factory=list)

    # -- steps ----------------------------------------------------------------------------------------------------

    async def take(self) -> None:
        owner, count = self.chance.choice(OWNERS), self.chance.randint(1, 2)
        taken = await self.leases[owner].take(count)
        assert sorted(taken, key=_partition) == sorted(await self.twin_leases[owner].take(count), key=_partition)
        self.held += [one.lease for one in taken]
        self.owner_of |= {one.lease: owner for one in taken}

    async def keep(self) -> None:
        owner = self.chance.choice(OWNERS)
        leases = {lease.partition: lease for lease in self.held if self.owner_of[lease] == owner}.values()
        assert await self.leases[owner].keep(leases) == await self.twin_leases[owner].keep(leases)

    async def release(self) -> None:
        lease = self.chance.choice(self.held)
        await self.leases[self.owner_of[lease]].release(lease)
        await self.twin_leases[self.owner_of[lease]].release(lease)

    async def expire(self) -> None:
        partition = self.chance.choice(self.held).partition
        await self.connection.execute(
            "UPDATE partitions SET lease_until = clock_timestamp() - interval '1 s' WHERE partition = $1", partition
        )
        self.store.tables.partitions[partition].lease_until = -1.0

    async def tell(self) -> None:
        """Evidence comes, some of it for the second time, some of a second charge."""
        about = self.chance.choice(self.payments)
        approved = self.chance.random() < 0.6
        fact = Fact(
            event_id=rows.new_id(),
            payment_id=about.id,
            operation_id=about.charge.id,
            outcome=Outcome.APPROVED if approved else self.chance.choice((Outcome.UNKNOWN, Outcome.NOT_SENT)),
            source=Source.CALLBACK,
            reference=f"ch_{1 + len(self.facts) % 3 // 2}" if approved else None,
            amount=about.money.amount if approved else None,
            currency="EUR" if approved else None,
        )
        message = rows.message(
            id=fact.event_id,
            stream=STREAM,
            type="psp.evidence",
            merchant_id=self.merchant,
            payment_id=about.id,
            operation_id=about.charge.id,
            body=encode_fact(fact),
        )
        await rows.insert(self.connection, "outbox", message)
        self.store.insert_evidence(fact, self.store.tables.orders[about.charge.id], lambda merchant: STREAM)
        self.facts.append(fact)

    async def load(self) -> None:
        """Both shelves hold the same; and one more mind remembers it."""
        ids, places = [one.id for one in self.payments], [(STREAM, fact.event_id) for fact in self.facts]
        books, payments = await self.shelf.books([self.merchant]), await self.shelf.payments(ids)
        assert books == await self.twin_shelf.books([self.merchant])
        assert payments == await self.twin_shelf.payments(ids)
        assert await self.shelf.messages(places) == await self.twin_shelf.messages(places)
        events = [event.id for event in self.events]
        verdicts = await self.twin_shelf.verdicts(events)
        assert await self.shelf.verdicts(events) == {one: replace(said, content="") for one, said in verdicts.items()}
        self.minds.append(Mind(books[self.merchant], dict(payments)))

    async def commit(self) -> None:
        """Decide upon some evidence or an event, with any mind and under any lease, and write it in both."""
        mind, lease = self.chance.choice(self.minds[-3:]), self.chance.choice(self.held)
        booked = [self._decide(mind, lease) for _ in range(self.chance.randint(1, 3))]
        batch = merge(rows.new_id(), booked)
        outcome, twin_outcome = await _outcome(self.books.commit(batch)), await _outcome(self.twin_books.commit(batch))
        if outcome == "Unavailable":  # whoever took the partition ended this session, which the twin has none of
            outcome = await _outcome(self.books.commit(batch))
        assert outcome == twin_outcome
        self.outcomes.append(outcome.split(" ")[0])
        if outcome != "written":
            self.minds.remove(mind)
            await self.load()

    def _decide(self, mind: Mind, lease: Lease) -> Booked:
        around = decision(epoch=lease.epoch, new_id=rows.new_id)
        before = mind.books
        if not self.facts or self.chance.random() < 0.3:
            effects = self._move(mind, self._event(), around)
        else:
            fact = self.chance.choice(self.facts[-6:])
            mind.books, after, effects = book(before, mind.payments[fact.payment_id], fact, around)
            mind.payments[after.id] = after
        return Booked(lease=lease, effects=effects, before=before, after=mind.books)

    def _move(self, mind: Mind, event: OutsideEvent, around: booking.Surroundings) -> Effects:
        match event.data:
            case WalletMovement() as movement:
                mind.books, effects = move(mind.books, event, movement, None, around)
            case RefundRequest() | CaptureRequest() as asked:
                about = mind.payments[asked.payment_id]
                mind.books, after, effects = on_request(mind.books, about, event, asked, None, around)
                if after is not None:
                    mind.payments[after.id] = after
            case other:
                raise AssertionError(f"no story has {other}")
        return effects

    def _event(self) -> OutsideEvent:
        """A movement, or a refund, some of them for the second time."""
        if not self.events or self.chance.random() < 0.7:
            data: OutsideData = WalletMovement(money=Money(amount=5, currency="EUR"), reason="", reference="r")
            if self.chance.random() < 0.5:
                data = RefundRequest(
                    payment_id=self.chance.choice(self.payments).id, amount=self.chance.choice([1, 100])
                )
            content = f'{{"id": "{len(self.events)}"}}'
            self.events.append(
                OutsideEvent(
                    id=rows.new_id(),
                    publisher="loyalty",
                    source="loyalty",
                    type=OutsideType.WALLET_CREDIT if isinstance(data, WalletMovement) else OutsideType.REFUND_REQUEST,
                    at=datetime(2026, 3, 1, tzinfo=UTC),
                    merchant_id=self.merchant,
                    data=data,
                    content=content,
                    content_sha256=sha256(content.encode()).digest(),
                )
            )
        return self.chance.choice(self.events[-3:])

    # -- beginning ------------------------------------------------------------------------------------------------

    async def begin(self) -> None:
        """A merchant, its payments, a lease and a mind."""
        await rows.insert(self.connection, "merchants", rows.merchant(id=self.merchant, fee_fixed=TERMS.fees.fixed))
        for _ in range(4):
            await self._accept()
        await self.take()
        await self.load()

    async def _accept(self) -> None:
        fresh = fresh_payment(id=rows.new_id(), operation_id=rows.new_id(), merchant_id=self.merchant)
        one = replace(fresh, is_automatic=True)
        self.payments.append(one)
        row = rows.payment(id=one.id, merchant_id=self.merchant, order_id=one.id, order_slot=one.id)
        await rows.insert(self.connection, "payments", row)
        operation = rows.operation(id=one.charge.id, payment_id=one.id, merchant_id=self.merchant)
        await rows.insert(self.connection, "operations", operation)
        self.store.tables.payments[one.id] = one
        self.store.tables.orders[one.charge.id] = PspOrder(
            operation_id=one.charge.id,
            payment_id=one.id,
            merchant_id=self.merchant,
            psp="sim",
            money=one.money,
            method=Method.TOKEN,
        )


def _partition(taken: Any) -> int:
    return int(taken.lease.partition)


async def _outcome(commit: Awaitable[None]) -> str:
    try:
        await commit
    except Fenced as error:
        return f"fenced {sorted(error.partitions)}"
    except (Conflict, Poison, Unavailable) as error:
        return type(error).__name__
    return "written"


@asynccontextmanager
async def both(settings: Settings, seed: int) -> AsyncIterator[Both]:
    chance, loop = Random(seed), cast(SeededLoop, asyncio.get_running_loop())
    around = Surroundings(loop, chance)
    store = Store(settings.streams.partitions, loop.time, lambda owner: False, lambda batch: None)
    sessions = {owner: SimSession(store, Process(owner, around), around) for owner in OWNERS}
    settings = settings.model_copy(update={"worker": settings.worker.model_copy(update={"lease_s": LEASE_S})})
    presences = {owner: PgPresence(settings, worker_id=owner) for owner in OWNERS}
    books = PgBooks(settings, name="worker-a-committer")
    connection = await asyncpg.connect(settings.database.url)
    try:
        async with pool(settings, Role.COMMITTER, application_name="worker-a") as database:
            world = Both(
                connection,
                PgShelf(database),
                books,
                {owner: PgLeases(presence, worker_id=owner, lease_s=LEASE_S) for owner, presence in presences.items()},
                store,
                SimShelf(sessions["worker-a"]),
                SimBooks(sessions["worker-a"], LEASE_S),
                {owner: SimOwning(session, LEASE_S, lambda *_: None) for owner, session in sessions.items()},
                chance,
            )
            await world.begin()
            yield world
    finally:
        await connection.close()
        await books.aclose()
        for presence in presences.values():
            await presence.aclose()


@pytest.mark.parametrize("seed", range(3))
async def test_the_twin_of_the_store_does_as_the_server_does(settings: Settings, seed: int) -> None:
    async with both(settings, seed) as world:
        steps = {world.take: 3, world.keep: 1, world.release: 1, world.expire: 3, world.tell: 5, world.commit: 12}
        for step in world.chance.choices(list(steps), weights=list(steps.values()), k=100):
            await step()
        await world.load()
        assert {"written", "fenced", "Conflict"} <= set(world.outcomes), "every outcome was compared"
