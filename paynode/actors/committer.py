"""The committer: takes what actors decided while the transaction before ran, and writes it as one.

It is the only way by which anything about money reaches the database.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Final, Protocol, TypeAlias

import anyio
from anyio.abc import TaskGroup
from anyio.streams.memory import MemoryObjectReceiveStream, MemoryObjectSendStream

from paynode.actors.line import Line, Waiting
from paynode.actors.merchant import Around, Decided, Delivery, burial
from paynode.domain.batch import Batch, Booked, Lease, merge
from paynode.domain.booking import Effects
from paynode.domain.errors import Fenced, Poison, Transient
from paynode.domain.message import DeadLetter
from paynode.domain.publishing import Verdict
from paynode.domain.road import Change, Pointer, events_stream

# Failures after which it is asked whether a message is to blame (fewer are a server that hiccups), and seconds after
# which earlier ones do not count any more.
_SUSPICIOUS: Final = 3
_FORGOTTEN_S: Final = 60.0


class Books(Protocol):
    """Writes a batch whole or not at all. Raises: Fenced, Conflict, Unavailable, Poison (the database refuses it)."""

    async def commit(self, batch: Batch) -> None: ...


class Road(Protocol):
    """Tells the world what is committed. Raises: Unavailable."""

    async def publish(self, pointers: Sequence[Pointer]) -> None: ...
    async def announce(self, changes: Sequence[Change]) -> None: ...
    async def bury(self, letters: Sequence[DeadLetter]) -> None: ...


class Outcomes(Protocol):
    """Tells publishers what became of their events. Raises: Unavailable."""

    async def tell(self, verdicts: Sequence[Verdict]) -> None: ...


class Run(Protocol):
    """One undisturbed run over a partition: where decisions come from."""

    @property
    def lease(self) -> Lease: ...
    @property
    def has_failed(self) -> bool: ...
    def fail(self, error: Exception) -> None: ...
    def settle(self, decided: Sequence[Decided]) -> None: ...
    async def acknowledge(self, entry_ids: Sequence[str]) -> None: ...


class CommitterObserver(Protocol):
    """Hears of batches."""

    def committed(self, messages: int, seconds: float) -> None: ...
    def commit_failed(self, messages: int, error: Exception) -> None: ...
    def buried(self, letters: Sequence[DeadLetter]) -> None: ...
    def telling_failed(self, error: Exception) -> None: ...


_Waiting: TypeAlias = Waiting[Run]


@dataclass(slots=True)
class _Failures:
    """How many, and when the first and the last of them were."""

    first: float
    last: float
    count: int = 0

    @classmethod
    def one_more(cls, known: _Failures | None, now: float) -> _Failures:
        if known is None or now - known.last > _FORGOTTEN_S:
            known = cls(now, now)
        known.last = now
        known.count += 1
        return known


@dataclass(frozen=True, slots=True)
class _Written:
    batch: Batch
    waiting: Sequence[_Waiting]


class Committer:
    """Serves the partitions of one database session."""

    def __init__(
        self,
        books: Books,
        road: Road,
        outcomes: Outcomes,
        observer: CommitterObserver,
        around: Around,
        *,
        new_id: Callable[[], str],
        batch_size: int,
        condemn_after_s: float,
    ) -> None:
        self._books = books
        self._road = road
        self._outcomes = outcomes
        self._observer = observer
        self._around = around
        self._new_id = new_id
        self._batch_size = batch_size
        self._condemn_after_s = condemn_after_s
        self._limit = batch_size  # halved while something is looked for that the database refuses
        self._failed: dict[int, _Failures] = {}  # by partition, whoever is to blame
        self._failed_alone: dict[str, _Failures] = {}  # by entry, while an empty transaction succeeded
        self._succeeded_at = float("-inf")  # when a batch with something in it was last written
        self._line: Line[Run] = Line(anyio.current_time)
        self._preparing = 0
        self._arrived = anyio.Event()
        self._taken = anyio.Event()

    async def submit(self, run: Run, decided: Sequence[Decided]) -> None:
        """Queue decisions in their order; waits while two batches are waiting, which is what slows actors down."""
        while len(self._line) >= 2 * self._batch_size and not any(one.is_pos for one in decided):
            await self._taken.wait()
        for one in decided:
            self._line.add(Waiting.of(run, one))
        self._arrived.set()

    @asynccontextmanager
    async def preparing(self, messages: int) -> AsyncIterator[None]:
        """Around deciding upon so many: waits while two batches are waiting, or are being prepared by other partitions.

        What is decided weighs ten times what it was read as, and there may be as many partitions as there are.
        """
        while len(self._line) + self._preparing >= 2 * self._batch_size:
            await self._taken.wait()
        self._preparing += messages
        try:
            yield
        finally:
            self._preparing -= messages
            self._tell_taken()

    async def run(self) -> None:
        """Commit until cancelled."""
        # One batch is told to the world while the next one is written; a second one waits its turn.
        sender, receiver = anyio.create_memory_object_stream[_Written](1)
        async with anyio.create_task_group() as group, sender:
            group.start_soon(self._tell_all, receiver)
            while True:
                await self._arrived.wait()
                await self._commit(self._take(), sender, group)

    def _take(self) -> list[_Waiting]:
        taken = self._line.take(self._limit)
        if not self._line:
            self._arrived = anyio.Event()
        self._tell_taken()
        return taken

    def _tell_taken(self) -> None:
        self._taken.set()
        self._taken = anyio.Event()

    async def _commit(
        self, waiting: list[_Waiting], sender: MemoryObjectSendStream[_Written], group: TaskGroup
    ) -> None:
        if not waiting:
            return
        batch = merge(self._new_id(), [one.decided.booked for one in waiting])
        begun = time.perf_counter()
        try:
            await self._books.commit(batch)
        except Fenced as error:
            self._fail([one for one in waiting if one.run.lease.partition in error.partitions], error)
            # The others' part was rolled back with it: it goes first in the next batch.
            self._put_back([one for one in waiting if not one.run.has_failed])
        except Transient as error:
            await self._suspect(waiting, error)
        except Poison as error:
            await self._isolate(waiting, error)
        else:
            self._limit = min(2 * self._limit, self._batch_size)
            self._succeeded_at = anyio.current_time()
            self._observer.committed(len(waiting), time.perf_counter() - begun)
            self._observer.buried(batch.letters)
            for run, decided in _by_run(waiting):
                run.settle(decided)
            written = _Written(batch, waiting)
            if any(one.decided.is_pos for one in waiting):
                group.start_soon(self._tell, written)  # somebody waits for it, and not for what was written before
            else:
                await sender.send(written)

    def _put_back(self, waiting: Sequence[_Waiting]) -> None:
        self._line.put_back(waiting)
        self._arrived.set()

    # -- looking for the one that is to blame ---------------------------------------------------------------------

    async def _suspect(self, waiting: list[_Waiting], error: Transient) -> None:
        """A failure that should pass: everything is loaded again. One that does not pass may be a message's fault.

        It is when an empty transaction under the same leases succeeds meanwhile. Then smaller batches find the one,
        and one that goes on failing alone while others succeed is buried.
        """
        now, count = anyio.current_time(), 0
        for partition in {one.run.lease.partition for one in waiting}:
            self._failed[partition] = failures = _Failures.one_more(self._failed.get(partition), now)
            count = max(count, failures.count)
        is_suspicious = count >= _SUSPICIOUS and await self._is_database_well(waiting)
        if is_suspicious and len(waiting) == 1:
            await self._suspect_one(waiting[0], error)
            return
        if is_suspicious:
            self._limit = len(waiting) // 2
        self._fail(waiting, error)

    async def _is_database_well(self, waiting: Sequence[_Waiting]) -> bool:
        nothing = [Booked(lease=one.run.lease, effects=Effects(claim=None)) for one in waiting]
        try:
            await self._books.commit(merge(self._new_id(), nothing))
        except (Transient, Poison):
            return False
        return True

    async def _suspect_one(self, one: _Waiting, error: Transient) -> None:
        """Not hastily: somebody may hold a lock on what just this message needs, and let go of it soon.

        And only while others succeed: a full disk or a locked table lets an empty transaction through, and no message.
        """
        entry = f"{one.run.lease.partition}/{one.decided.entry_id}"
        failures = _Failures.one_more(self._failed_alone.get(entry), anyio.current_time())
        self._failed_alone[entry] = failures
        is_hasty = failures.count < _SUSPICIOUS or failures.last - failures.first < self._condemn_after_s
        if is_hasty or self._succeeded_at < failures.first:
            self._fail([one], error)
            return
        del self._failed_alone[entry], self._failed[one.run.lease.partition]
        await self._bury(one, Poison("fails_while_others_succeed", str(error)))

    async def _isolate(self, waiting: list[_Waiting], error: Poison) -> None:
        """Try again with half of them, until one message stands alone: all of its neighbours are innocent."""
        self._observer.commit_failed(len(waiting), error)
        if len(waiting) > 1:
            self._limit = len(waiting) // 2
            self._put_back(waiting)
            return
        await self._bury(waiting[0], error)

    async def _bury(self, one: _Waiting, error: Poison) -> None:
        """A letter in the place of the message, in a transaction of its own; then everything is loaded anew."""
        decided, lease = one.decided, one.run.lease
        booked = decided.booked
        if decided.message is not None and booked.effects.letter is None:
            delivery = Delivery(events_stream(lease.partition), decided.entry_id, decided.message)
            booked = burial(lease, delivery, error.reason, error.detail, self._around(lease))
        try:
            await self._write_letter(booked)
            await one.run.acknowledge([decided.entry_id])
            one.run.fail(error)  # it begins anew behind this entry: all that it decided later is void
        except Transient as away:
            one.run.fail(away)  # it meets it again

    async def _write_letter(self, booked: Booked) -> None:
        """Bury it in the database; what cannot even be buried is set aside unclaimed, and shown on the stream.

        Its row stays in the outbox then, where its age is seen, and the relay brings it again, ever more rarely.
        """
        letters = [] if booked.effects.letter is None else [booked.effects.letter]
        try:
            await self._books.commit(merge(self._new_id(), [booked]))
            self._observer.buried(letters)
        except Poison as refused:
            self._observer.commit_failed(1, refused)
        await self._road.bury(letters)

    def _fail(self, waiting: Sequence[_Waiting], error: Exception) -> None:
        self._observer.commit_failed(len(waiting), error)
        for run in {id(one.run): one.run for one in waiting}.values():
            run.fail(error)

    # -- after the commit -----------------------------------------------------------------------------------------

    async def _tell_all(self, receiver: MemoryObjectReceiveStream[_Written]) -> None:
        async with receiver:
            async for written in receiver:
                await self._tell(written)

    async def _tell(self, written: _Written) -> None:
        """After the commit: commands, waiters, dead letters, and last the acknowledgement.

        What is lost here is found again: commands by the relay, changes by polling, entries by reading them again.
        """
        batch = written.batch
        try:
            await self._road.publish(_pointers(batch))
            await self._road.announce(_changes(batch))
            await self._road.bury(batch.letters)
            await self._outcomes.tell(batch.verdicts)
        except Transient as error:
            self._observer.telling_failed(error)
        for run, decided in _by_run(written.waiting):
            try:
                await run.acknowledge([one.entry_id for one in decided])
            except Transient as error:
                run.fail(error)


def _by_run(waiting: Sequence[_Waiting]) -> list[tuple[Run, list[Decided]]]:
    runs: dict[int, tuple[Run, list[Decided]]] = {}
    for one in waiting:
        runs.setdefault(id(one.run), (one.run, []))[1].append(one.decided)
    return list(runs.values())


def _pointers(batch: Batch) -> list[Pointer]:
    """Commands that are due at once; the relay brings the others in their time."""
    return [Pointer(stream=command.stream, ref=command.id) for command in batch.commands if command.delay_ms == 0]


def _changes(batch: Batch) -> list[Change]:
    return [Change(payment_id=change.payment.id, version=change.payment.version) for change in batch.payments]
