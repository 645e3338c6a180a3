"""Consuming one partition: read ahead -> in turns: sort, load, hand to the merchants' actors; committed, then acked."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Protocol

import anyio
from anyio.abc import TaskGroup

from paynode.actors.backlog import Backlog
from paynode.actors.committer import Committer, Outcomes
from paynode.actors.intake import Intake, Outside, Shelf, Sorted
from paynode.actors.merchant import Around, Decided, Delivery, MerchantActor
from paynode.actors.recovery import Recovery, Suspects, Turnstile
from paynode.domain.batch import Booked, Lease
from paynode.domain.booking import Effects
from paynode.domain.errors import Fenced, Poison, Transient
from paynode.domain.keeping import kept
from paynode.domain.message import DeadLetter, Unreadable
from paynode.domain.road import Entry, events_stream
from paynode.runtime.backoff import Backoff
from paynode.runtime.stopping import Stop


class Feed(Protocol):
    """One partition's entries, in order. Raises: Unavailable.

    `is_behind` while what is read may have been in an earlier owner's hand; `read_pos` reads only the lane that is read
    first, for who has no room for others; `fetch` reads entries in hand once more.
    """

    @property
    def in_hand(self) -> int: ...
    @property
    def is_behind(self) -> bool: ...
    async def read(self) -> Sequence[Entry]: ...
    async def read_pos(self) -> Sequence[Entry]: ...
    async def fetch(self, ids: Sequence[str]) -> Sequence[Entry]: ...
    async def acknowledge(self, ids: Sequence[str]) -> None: ...


class Feeds(Protocol):
    """Opens a feed at the first entry that is not acknowledged."""

    def open(self, partition: int) -> AbstractAsyncContextManager[Feed]: ...


class PartitionObserver(Protocol):
    """Hears of runs that broke off."""

    def run_failed(self, lease: Lease, error: Exception) -> None: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Bounds:
    """Messages: in one turn; of one merchant begun at once; read ahead; in a mailbox. Tries of a suspect."""

    turn: int
    share: int
    ahead: int
    mailbox: int
    attempts: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Surrounds:
    """What every run of this process has around it."""

    feeds: Feeds
    shelf: Shelf
    outside: Outside
    outcomes: Outcomes
    suspects: Suspects
    around: Around
    observer: PartitionObserver
    bounds: Bounds


class PartitionConsumer:
    """Consumes partitions that this worker owns, each until it is drained or lost."""

    def __init__(
        self, parts: Surrounds, committers: Sequence[Committer], *, new_backoff: Callable[[], Backoff]
    ) -> None:
        self._parts = parts
        self._committers = committers
        self._new_backoff = new_backoff
        self._turnstile = Turnstile()

    async def consume(self, lease: Lease, drain: Stop, unclean_deaths: int = 0) -> None:
        """Run again and again, with nothing remembered, until `drain` is set and all in hand is committed.

        Raises: Fenced when the lease is lost.
        """
        backoff, committer = self._new_backoff(), self._committers[lease.partition % len(self._committers)]
        recovery = Recovery(
            lease,
            events_stream(lease.partition),
            unclean_deaths,
            self._parts.suspects,
            self._turnstile,
            attempts_max=self._parts.bounds.attempts,
        )
        while True:
            try:
                async with self._parts.feeds.open(lease.partition) as feed:
                    await PartitionRun(lease, feed, self._parts, committer, recovery).consume(drain, backoff)
                return
            except Fenced:
                raise
            except (Transient, Poison) as error:
                self._parts.observer.run_failed(lease, error)
                if drain.is_set:
                    return  # what is in hand is not committed and not acknowledged: the next owner begins with it
                await backoff.pause()


class PartitionRun:
    """One undisturbed run over a partition: actors, what is in hand, and the first error that ends it all."""

    def __init__(self, lease: Lease, feed: Feed, parts: Surrounds, committer: Committer, recovery: Recovery) -> None:
        self.lease = lease
        self._feed = feed
        self._parts = parts
        self._committer = committer
        self._recovery = recovery
        self._stream = events_stream(lease.partition)
        self._intake = Intake(self._stream, lease.partition, parts.shelf, parts.outside)
        self._pos, self._ordinary = Backlog(share=parts.bounds.share), Backlog(share=parts.bounds.share)
        self._actors: dict[str, MerchantActor] = {}
        self._begun = 0
        self._error: Exception | None = None
        self._moved = anyio.Event()  # something was read, or settled
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
            message, claim = one.message, one.booked.effects.claim
            if claim is not None:
                self._intake.let_go(claim)
            if message is not None:
                self._intake.forget(message)
                if message.payment_id is not None:
                    self._actors[message.merchant_id].settle(message.payment_id)
        self._settle([one.entry_id for one in decided])
        self._move()

    async def acknowledge(self, entry_ids: Sequence[str]) -> None:
        """The one place where entries are acknowledged: after the commit, or when there was nothing to commit."""
        if entry_ids:
            await self._feed.acknowledge(entry_ids)
            self._begun -= len(entry_ids)
            self._move()

    def _settle(self, entry_ids: Sequence[str]) -> None:
        for backlog in (self._pos, self._ordinary):
            backlog.settle(entry_ids)

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
                    if self._recovery.is_needed:
                        await self._recover(drain, group)
                    await self._take_turns(drain, backoff, group)
                except Transient as error:
                    self.fail(error)
        if self._error is not None:
            raise self._error

    async def _take_turns(self, drain: Stop, backoff: Backoff, group: TaskGroup) -> None:
        async with anyio.create_task_group() as reading:
            reading.start_soon(self._read_ahead, drain)
            async with anyio.create_task_group() as turns:
                # Beside each other: a turn of checkouts may wait for a committer that is behind.
                turns.start_soon(self._take_turns_of, self._pos, drain, backoff, group)
                turns.start_soon(self._take_turns_of, self._ordinary, drain, backoff, group)
            reading.cancel_scope.cancel()  # what was read and not begun stays pending: the next owner begins with it
        await self._settle_all()

    async def _take_turns_of(self, backlog: Backlog, drain: Stop, backoff: Backoff, group: TaskGroup) -> None:
        try:
            while not drain.is_set:
                await self._take_turn(backlog, backoff, group)
        except Transient as error:
            self.fail(error)

    async def _take_turn(self, backlog: Backlog, backoff: Backoff, group: TaskGroup) -> None:
        moved, turn = self._moved, backlog.take(self._parts.bounds.turn)
        if not (turn.whole or turn.ids):
            await moved.wait()
            return
        fetched = await self._feed.fetch(turn.ids) if turn.ids else []
        await self._take_in([*turn.whole, *fetched], group)
        backoff.reset()
        self._move()  # the reader may wait for room

    async def _read_ahead(self, drain: Stop) -> None:
        """Read as far ahead as there is room, so that those behind a hot merchant's backlog are seen."""
        try:
            while not drain.is_set:
                moved, bounds = self._moved, self._parts.bounds
                is_full = self._feed.in_hand >= bounds.ahead
                if is_full and len(self._pos) >= bounds.turn:
                    await moved.wait()
                    continue
                entries = await (self._feed.read_pos() if is_full else self._feed.read())
                if entries:
                    self._pos.add(entry for entry in entries if entry.is_pos)
                    self._ordinary.add(entry for entry in entries if not entry.is_pos)
                    self._move()
        except Transient as error:
            self.fail(error)
        self._move()

    def _move(self) -> None:
        self._moved.set()
        self._moved = anyio.Event()

    async def _settle_all(self) -> None:
        while self._begun > 0:
            await self._moved.wait()

    async def _recover(self, drain: Stop, group: TaskGroup) -> None:
        """Take in what an owner that died has left, before anything else."""
        while self._feed.is_behind and not drain.is_set:
            entries = await self._feed.read()
            if self._recovery.is_one_by_one:
                for entry in entries:
                    await self._try_alone(entry, group)
            elif entries:
                await self._take_in(entries, group)
        await self._settle_all()
        if not self._feed.is_behind:
            await self._recovery.end()

    async def _try_alone(self, entry: Entry, group: TaskGroup) -> None:
        async with self._recovery.trying(entry.ref or entry.id) as tries:
            if tries is None:
                await self._take_in([entry], group)
            else:
                await self._condemn(entry, tries)
            await self._settle_all()

    # -- taking in ------------------------------------------------------------------------------------------------

    async def _take_in(self, entries: Sequence[Entry], group: TaskGroup) -> None:
        """Find out what the entries are, and have it decided."""
        self._begun += len(entries)
        meaning = await self._intake.sort(entries)
        if meaning.told:
            await self._parts.outcomes.tell(meaning.told)
        self._settle(meaning.done)
        await self.acknowledge(meaning.done)
        await self.submit([*self._burials(meaning), *self._claims(meaning)])
        await self._hand_over(meaning.deliveries, group)

    async def _hand_over(self, deliveries: Sequence[Delivery], group: TaskGroup) -> None:
        missing: list[str] = []
        strangers: set[str] = set()
        for delivery in deliveries:
            message = delivery.message
            actor = self._actor(message.merchant_id, group)
            if message.payment_id is not None and actor.expect(message.payment_id):
                missing.append(message.payment_id)
            if actor.needs_books:
                strangers.add(message.merchant_id)
        payments = await self._parts.shelf.payments(missing) if missing else {}
        books = await self._parts.shelf.books(sorted(strangers)) if strangers else {}
        for merchant_id in {delivery.message.merchant_id for delivery in deliveries}:
            self._actors[merchant_id].load(books.get(merchant_id), payments)
        for delivery in deliveries:
            await self._actors[delivery.message.merchant_id].put(delivery)

    def _actor(self, merchant_id: str, group: TaskGroup) -> MerchantActor:
        actor = self._actors.get(merchant_id)
        if actor is None:
            actor = MerchantActor(self.lease, self, self._parts.around, group, mailbox_size=self._parts.bounds.mailbox)
            self._actors[merchant_id] = actor
        return actor

    # -- what no actor decides upon -------------------------------------------------------------------------------

    def _burials(self, meaning: Sorted) -> Iterable[Decided]:
        return [self._bury(entry_id, what) for entry_id, what in meaning.unreadable]

    def _claims(self, meaning: Sorted) -> Iterable[Decided]:
        """Rows whose event had its effect by another entry."""
        for entry_id, ref in meaning.claimed:
            yield Decided(entry_id, Booked(lease=self.lease, effects=Effects(claim=ref)))

    async def _condemn(self, entry: Entry, tries: int) -> None:
        """Bury it untried: nobody looks into it, for that may be what kills."""
        self._begun += 1
        ref = entry.ref
        is_gone = not entry.fields or (ref is not None and not await self._parts.suspects.is_waiting(ref, self._stream))
        if is_gone:
            await self.acknowledge([entry.id])
            return
        what = Unreadable(
            ref=ref,
            reason="kills_its_worker",
            detail=f"{tries} processes died or hung while it was tried",
            fields=kept(entry.fields),
        )
        await self.submit([self._bury(entry.id, what, attempts=tries)])

    def _bury(self, entry_id: str, what: Unreadable, *, attempts: int = 1) -> Decided:
        around = self._parts.around(self.lease)
        letter = DeadLetter(
            id=around.new_id(),
            stream=self._stream,
            entry_id=entry_id,
            what=what,
            attempts=attempts,
            first_failed_at_ms=around.now_ms,
        )
        return Decided(entry_id, Booked(lease=self.lease, effects=Effects(claim=what.ref, letter=letter)))
