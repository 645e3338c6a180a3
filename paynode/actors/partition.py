"""Consuming one partition: read -> resolve -> load -> hand to the merchants' actors; committed, then acknowledged."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Protocol

import anyio
from anyio.abc import TaskGroup

from paynode.actors.committer import Committer
from paynode.actors.merchant import Around, Decided, Delivery, MerchantActor
from paynode.domain.batch import Booked, Lease
from paynode.domain.booking import Effects, MerchantBooks
from paynode.domain.errors import Fenced, Poison, Transient
from paynode.domain.message import DeadLetter, Message, Unreadable
from paynode.domain.payment import Payment
from paynode.domain.road import Entry, events_stream
from paynode.runtime.backoff import Backoff
from paynode.runtime.stopping import Stop


class Feed(Protocol):
    """One partition's entries, in order. Raises: Unavailable."""

    @property
    def in_hand(self) -> int: ...
    async def read(self) -> Sequence[Entry]: ...
    async def acknowledge(self, ids: Sequence[str]) -> None: ...


class Feeds(Protocol):
    """Opens a feed at the first entry that is not acknowledged."""

    def open(self, partition: int) -> AbstractAsyncContextManager[Feed]: ...


class Shelf(Protocol):
    """What the database holds. Raises: Unavailable."""

    async def messages(self, stream: str, refs: Sequence[str]) -> Mapping[str, Message | Unreadable]: ...
    async def payments(self, payment_ids: Sequence[str]) -> Mapping[str, Payment]: ...
    async def books(self, merchant_ids: Sequence[str]) -> Mapping[str, MerchantBooks]: ...


class PartitionObserver(Protocol):
    """Hears of runs that broke off."""

    def run_failed(self, lease: Lease, error: Exception) -> None: ...


class PartitionConsumer:
    """Consumes partitions that this worker owns, each until it is drained or lost."""

    def __init__(
        self,
        feeds: Feeds,
        shelf: Shelf,
        committers: Sequence[Committer],
        around: Around,
        observer: PartitionObserver,
        *,
        mailbox_size: int,
        new_backoff: Callable[[], Backoff],
    ) -> None:
        self._feeds = feeds
        self._shelf = shelf
        self._committers = committers
        self._around = around
        self._observer = observer
        self._mailbox_size = mailbox_size
        self._new_backoff = new_backoff

    async def consume(self, lease: Lease, drain: Stop) -> None:
        """Run again and again, with nothing remembered, until `drain` is set and all in hand is committed.

        Raises: Fenced when the lease is lost.
        """
        backoff = self._new_backoff()
        while True:
            try:
                async with self._feeds.open(lease.partition) as feed:
                    await self._run(lease, feed).consume(drain, backoff)
                return
            except Fenced:
                raise
            except (Transient, Poison) as error:
                self._observer.run_failed(lease, error)
                if drain.is_set:
                    return  # what is in hand is not committed and not acknowledged: the next owner begins with it
                await backoff.pause()

    def _run(self, lease: Lease, feed: Feed) -> PartitionRun:
        committer = self._committers[lease.partition % len(self._committers)]
        return PartitionRun(lease, feed, self._shelf, committer, self._around, mailbox_size=self._mailbox_size)


class PartitionRun:
    """One undisturbed run over a partition: actors, what is in hand, and the first error that ends it all."""

    def __init__(
        self,
        lease: Lease,
        feed: Feed,
        shelf: Shelf,
        committer: Committer,
        around: Around,
        *,
        mailbox_size: int,
    ) -> None:
        self.lease = lease
        self._feed = feed
        self._shelf = shelf
        self._committer = committer
        self._around = around
        self._mailbox_size = mailbox_size
        self._stream = events_stream(lease.partition)
        self._actors: dict[str, MerchantActor] = {}
        self._refs: dict[str, Message | None] = {}
        self._error: Exception | None = None
        self._settled = anyio.Event()
        self._scope = anyio.CancelScope()

    # -- what the committer sees ----------------------------------------------------------------------------------

    @property
    def has_failed(self) -> bool:
        """Whether something went wrong since it began: nothing it decided counts any more."""
        return self._error is not None

    def fail(self, error: Exception) -> None:
        """End the run; only the first error counts.

        This cancels a read that waits, which may leave entries in the pending list unseen. The next run looks there
        first.
        """
        if self._error is None:
            self._error = error
            self._scope.cancel()

    def settle(self, decided: Sequence[Decided]) -> None:
        """These are committed: their payments need not be kept in hand any longer."""
        for one in decided:
            claim = one.booked.effects.claim
            message = self._refs.pop(claim, None) if claim is not None else None
            if message is not None:
                self._actors[message.merchant_id].settle(message.fact.payment_id)

    async def acknowledge(self, entry_ids: Sequence[str]) -> None:
        """The one place where entries are acknowledged: after the commit, or when there was nothing to commit."""
        if entry_ids:
            await self._feed.acknowledge(entry_ids)
            self._settled.set()

    async def submit(self, decided: Sequence[Decided]) -> None:
        """Pass on what an actor decided."""
        await self._committer.submit(self, decided)

    # -- the run --------------------------------------------------------------------------------------------------

    async def consume(self, drain: Stop, backoff: Backoff) -> None:
        """Read until drained.

        Raises: the error that ended it.
        """
        with self._scope:
            async with anyio.create_task_group() as group:
                try:
                    await self._read_on(drain, backoff, group)
                except Transient as error:
                    self.fail(error)
        if self._error is not None:
            raise self._error

    async def _read_on(self, drain: Stop, backoff: Backoff, group: TaskGroup) -> None:
        while not drain.is_set:
            entries = await self._feed.read()
            if entries:
                await self._take_in(entries, group)
                backoff.reset()
        await self._settle_all()

    async def _settle_all(self) -> None:
        while self._feed.in_hand:
            self._settled = anyio.Event()
            await self._settled.wait()

    async def _take_in(self, entries: Sequence[Entry], group: TaskGroup) -> None:
        refs = self._sort_out(entries)
        found = await self._shelf.messages(self._stream, list(refs.values()))
        deliveries, unreadable, gone = [], [], []
        for entry in entries:
            ref = refs.get(entry.id)
            match found.get(ref) if ref is not None else _meaning(entry):
                case Message() as message:
                    self._refs[message.ref] = message
                    deliveries.append(Delivery(self._stream, entry.id, message))
                case Unreadable() as what:
                    unreadable.append((entry.id, what))
                case None:
                    gone.append(entry.id)  # processed already, the same row twice in hand, or a row of another stream
                    if ref is not None:
                        self._refs.pop(ref, None)
        await self.acknowledge(gone)
        await self.submit([self._bury(entry_id, what) for entry_id, what in unreadable])
        await self._hand_over(deliveries, group)

    def _sort_out(self, entries: Sequence[Entry]) -> dict[str, str]:
        """The rows to look up, by entry id: pointers whose row is not in hand already.

        Rows count as in hand from before they are looked up: one that is committed between the look-up and now would
        else be taken in twice.
        """
        refs: dict[str, str] = {}
        for entry in entries:
            if entry.ref is not None and entry.ref not in self._refs:
                self._refs[entry.ref] = None
                refs[entry.id] = entry.ref
        return refs

    async def _hand_over(self, deliveries: Sequence[Delivery], group: TaskGroup) -> None:
        missing: list[str] = []
        strangers: set[str] = set()
        for delivery in deliveries:
            actor = self._actor(delivery.message.merchant_id, group)
            if actor.expect(delivery.message.fact.payment_id):
                missing.append(delivery.message.fact.payment_id)
            if actor.needs_books:
                strangers.add(delivery.message.merchant_id)
        payments = await self._shelf.payments(missing) if missing else {}
        books = await self._shelf.books(sorted(strangers)) if strangers else {}
        for merchant_id in {delivery.message.merchant_id for delivery in deliveries}:
            self._actors[merchant_id].load(books.get(merchant_id), payments)
        for delivery in deliveries:
            await self._actors[delivery.message.merchant_id].put(delivery)

    def _actor(self, merchant_id: str, group: TaskGroup) -> MerchantActor:
        actor = self._actors.get(merchant_id)
        if actor is None:
            actor = MerchantActor(self.lease, self, self._around, group, mailbox_size=self._mailbox_size)
            self._actors[merchant_id] = actor
        return actor

    def _bury(self, entry_id: str, what: Unreadable) -> Decided:
        letter = DeadLetter(id=self._around(self.lease).new_id(), stream=self._stream, entry_id=entry_id, what=what)
        return Decided(entry_id, Booked(lease=self.lease, effects=Effects(claim=what.ref, letter=letter)))


def _meaning(entry: Entry) -> Unreadable | None:
    """What an entry is that leads to no row: trimmed away while pending, a pointer twice in hand, or not ours."""
    if not entry.fields or entry.ref is not None:
        return None
    return Unreadable(ref=None, reason="not_a_pointer", detail="an entry without a `ref`", fields=entry.fields)
