"""Consuming one partition: read ahead -> in turns: sort, load, hand to the merchants' actors; committed, then acked."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Final, Protocol

import anyio
from anyio.abc import TaskGroup

from paynode.actors.ahead import Ahead, Bounds, Feeds
from paynode.actors.backlog import Backlog, Turn
from paynode.actors.committer import Committer, Outcomes
from paynode.actors.intake import Intake, Outside, Shelf, Sorted
from paynode.actors.merchant import Around, Decided, Delivery, MerchantActor
from paynode.actors.recovery import Recovery, Suspects, Turnstile
from paynode.actors.room import Room
from paynode.domain.batch import Booked, Lease
from paynode.domain.booking import Effects
from paynode.domain.errors import Conflict, Fenced, Poison, Transient
from paynode.domain.keeping import kept
from paynode.domain.message import DeadLetter, Unreadable
from paynode.domain.road import Entry, events_stream
from paynode.runtime.backoff import Backoff
from paynode.runtime.precedence import Precedence
from paynode.runtime.stopping import Stop

# Messages of one turn while somebody at a till is served: it keeps the event loop for a millisecond or a few.
_BESIDE_TILLS: Final = 100
# Seconds between two such turns of a partition: what else a till needs, of all processes, is done in them. A merchant
# with a share of 30 drains at no more than 1,000 a second beside tills (docs/decisions/0034).
_REST_S: Final = 0.03


class PartitionObserver(Protocol):
    """Hears of runs that broke off."""

    def run_failed(self, lease: Lease, error: Exception) -> None: ...


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
    room: Room
    precedence: Precedence


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
        tenure = Tenure(
            lease,
            drain,
            self._new_backoff(),
            self._committers[lease.partition % len(self._committers)],
            Recovery(
                lease,
                events_stream(lease.partition),
                unclean_deaths,
                self._parts.suspects,
                self._turnstile,
                attempts_max=self._parts.bounds.attempts,
            ),
        )
        while True:
            try:
                async with self._parts.feeds.open(lease.partition) as feed:
                    await self._work_off(
                        tenure, Ahead(feed, self._parts.bounds, self._parts.precedence, self._parts.room)
                    )
                return
            except Fenced:
                raise
            except (Transient, Poison) as error:
                self._parts.observer.run_failed(lease, error)
                if drain.is_set:
                    return  # what is in hand is not committed and not acknowledged: the next owner begins with it
                await tenure.backoff.pause()

    async def _work_off(self, tenure: Tenure, ahead: Ahead) -> None:
        """Raises: whatever else than a conflict has ended a run."""
        error = None
        async with anyio.create_task_group() as reading:
            reading.start_soon(ahead.read_on, tenure.drain)
            try:
                await self._run_on(tenure, ahead)
            except (Transient, Poison) as ended:
                error = ended  # raised outside, by its own name
            finally:
                ahead.close()
            reading.cancel_scope.cancel()  # what was read and not begun stays pending: the next owner begins with it
        if error is not None:
            raise error

    async def _run_on(self, tenure: Tenure, ahead: Ahead) -> None:
        """One run after the other, as long as they end in conflicts: those say nothing of what was read ahead."""
        while True:
            try:
                await PartitionRun(ahead, self._parts, tenure).consume()
                return
            except Conflict as error:
                if tenure.drain.is_set or not ahead.has_begun:
                    raise
                self._parts.observer.run_failed(tenure.lease, error)
            ahead.put_back()
            await tenure.backoff.pause()


@dataclass(frozen=True, slots=True)
class Tenure:
    """What stays the same as long as we own a partition."""

    lease: Lease
    drain: Stop
    backoff: Backoff
    committer: Committer
    recovery: Recovery


class PartitionRun:
    """One undisturbed run over a partition: actors, what is in hand, and the first error that ends it all."""

    def __init__(self, ahead: Ahead, parts: Surrounds, tenure: Tenure) -> None:
        self.lease = lease = tenure.lease
        self._ahead = ahead
        self._parts = parts
        self._tenure = tenure
        self._stream = events_stream(lease.partition)
        self._intake = Intake(self._stream, lease.partition, parts.shelf, parts.outside)
        self._actors: dict[str, MerchantActor] = {}  # those used last at the end
        self._begun = 0
        self._error: Exception | None = None
        self._scope = anyio.CancelScope()

    # -- what the committer sees ----------------------------------------------------------------------------------

    @property
    def has_failed(self) -> bool:
        """Whether something went wrong since it began: nothing it decided counts any more."""
        return self._error is not None

    def fail(self, error: Exception) -> None:
        """End the run; only the first error counts."""
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
                self._actors[message.merchant_id].settle(message.payment_id)
        self._ahead.settle([one.entry_id for one in decided])
        self._ahead.move()

    async def acknowledge(self, entry_ids: Sequence[str]) -> None:
        """The one place where entries are acknowledged: after the commit, or when there was nothing to commit."""
        if entry_ids:
            await self._ahead.acknowledge(entry_ids)
            self._begun -= len(entry_ids)
            self._ahead.move()

    async def submit(self, decided: Sequence[Decided]) -> None:
        """Pass on what an actor decided."""
        await self._tenure.committer.submit(self, decided)

    # -- the run --------------------------------------------------------------------------------------------------

    async def consume(self) -> None:
        """Take turns until drained.

        Raises: the error that ended it.
        """
        with self._scope:
            self._ahead.serve(self.fail)
            async with anyio.create_task_group() as group:
                try:
                    if self._tenure.recovery.is_needed:
                        await self._recover(group)
                    self._ahead.begin()
                    await self._take_turns(group)
                except Transient as error:
                    self.fail(error)
        if self._error is not None:
            raise self._error

    async def _take_turns(self, group: TaskGroup) -> None:
        async with anyio.create_task_group() as turns:
            # Beside each other: a turn of checkouts may wait for a committer that is behind.
            turns.start_soon(self._take_turns_of, self._ahead.pos, group)
            turns.start_soon(self._take_turns_of, self._ahead.ordinary, group)
        await self._settle_all()

    async def _take_turns_of(self, backlog: Backlog, group: TaskGroup) -> None:
        try:
            # Asked right before a turn: one that finds nothing waits for whoever reads, who may have ended meanwhile.
            while not self._tenure.drain.is_set:
                await self._take_turn(backlog, group)
                if backlog is self._ahead.ordinary:
                    await self._parts.precedence.hold_back(_REST_S)
        except Transient as error:
            self.fail(error)

    async def _take_turn(self, backlog: Backlog, group: TaskGroup) -> None:
        moved, is_beside_tills = self._ahead.moved, self._parts.precedence.is_expected
        size = min(self._parts.bounds.turn, _BESIDE_TILLS) if is_beside_tills else self._parts.bounds.turn
        turn = backlog.take(size, is_beside_tills=is_beside_tills)
        if not (turn.whole or turn.ids):
            await moved.wait()
            return
        if backlog is self._ahead.pos:  # somebody waits for it
            await self._begin(turn, group)
        else:
            async with self._tenure.committer.preparing(len(turn.whole) + len(turn.ids)):
                await self._begin(turn, group)
        self._tenure.backoff.reset()
        self._ahead.move()  # the reader may wait for room

    async def _begin(self, turn: Turn, group: TaskGroup) -> None:
        fetched = await self._ahead.feed.fetch(turn.ids) if turn.ids else []
        await self._take_in([*turn.whole, *fetched], group)

    async def _settle_all(self) -> None:
        while self._begun > 0:
            await self._ahead.moved.wait()

    async def _recover(self, group: TaskGroup) -> None:
        """Take in what an owner that died has left, before anything else."""
        feed = self._ahead.feed
        while feed.is_behind and not self._tenure.drain.is_set:
            entries = await feed.read()
            if self._tenure.recovery.is_one_by_one:
                for entry in entries:
                    await self._try_alone(entry, group)
            elif entries:
                await self._take_in(entries, group)
        await self._settle_all()
        if not feed.is_behind:
            await self._tenure.recovery.end()

    async def _try_alone(self, entry: Entry, group: TaskGroup) -> None:
        async with self._tenure.recovery.trying(entry.ref or entry.id) as tries:
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
        await self.acknowledge(meaning.done)
        self._ahead.settle(meaning.done)
        await self.submit([*self._burials(meaning), *self._claims(meaning)])
        await self._hand_over(meaning.deliveries, group)

    async def _hand_over(self, deliveries: Sequence[Delivery], group: TaskGroup) -> None:
        missing: list[str] = []
        strangers: set[str] = set()
        for delivery in deliveries:
            message, payment_id = delivery.message, delivery.message.payment_id
            actor = self._actor(message.merchant_id, group)
            if actor.expect(message, payment_id) and payment_id is not None:
                missing.append(payment_id)
            if actor.needs_books:
                strangers.add(message.merchant_id)
        payments = await self._parts.shelf.payments(missing) if missing else {}
        books = await self._parts.shelf.books(sorted(strangers)) if strangers else {}
        for merchant_id in {delivery.message.merchant_id for delivery in deliveries}:
            self._actors[merchant_id].load(books.get(merchant_id), payments)
        for delivery in deliveries:
            await self._actors[delivery.message.merchant_id].put(delivery)

    def _actor(self, merchant_id: str, group: TaskGroup) -> MerchantActor:
        actor = self._actors.pop(merchant_id, None)
        if actor is None:
            self._forget_idle()
            actor = MerchantActor(self.lease, self, self._parts.around, group, mailbox_size=self._parts.bounds.mailbox)
        self._actors[merchant_id] = actor
        return actor

    def _forget_idle(self) -> None:
        """Make room for another actor: those that were used longest ago go, if they have nothing to do.

        A merchant is known by what stands in the database; an actor in memory only saves the look.
        """
        while len(self._actors) >= self._parts.bounds.actors:
            eldest = next(iter(self._actors))
            if not self._actors[eldest].is_idle:
                return
            del self._actors[eldest]

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
