"""A run over a partition that a conflict ends: what it had begun is begun again, and nothing is read again."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace

import anyio

from paynode.actors.ahead import Bounds
from paynode.actors.committer import Committer
from paynode.actors.partition import PartitionConsumer, Surrounds
from paynode.actors.room import Room
from paynode.domain.batch import Batch, Lease
from paynode.domain.errors import Conflict, Unavailable
from paynode.domain.message import Message, Unreadable
from paynode.domain.road import Entry, Place, entry_on_pos_lane
from paynode.runtime.backoff import Backoff
from paynode.runtime.precedence import Precedence
from paynode.runtime.stopping import Stop
from tests.actors.bystanders import Nobody, Shelf
from tests.actors.scripted import CONDEMN_AFTER_S, ONE, ScriptedBooks, ScriptedRoad, around
from tests.domain.making import new_id
from tests.support.schedules import explore

ENTRIES = 30
MERCHANTS = ("hot", "hot", "quiet")
BOUNDS = Bounds(turn=10, share=4, mailbox=100, actors=100, attempts=3)


class Stream:
    """Entries in two lanes, and who has opened and acknowledged them."""

    def __init__(self) -> None:
        self.entries = [self._entry(number) for number in range(ENTRIES)]
        self.opened = 0
        self.read: list[str] = []
        self.acknowledged: list[str] = []
        self.refuses_acks = 0
        self.is_empty = anyio.Event()

    def _entry(self, number: int) -> Entry:
        name = f"{number}-1"
        fields = {"ref": new_id(), "merchant": MERCHANTS[number % len(MERCHANTS)]}
        return Entry(id=entry_on_pos_lane(name) if number % 10 == 9 else name, fields=fields)

    @asynccontextmanager
    async def open(self, partition: int) -> AsyncIterator[Feed]:
        self.opened += 1
        yield Feed(self)


class Feed:
    """Everything that is not acknowledged, in pages."""

    is_behind = False

    def __init__(self, stream: Stream) -> None:
        self._stream = stream
        self._in_hand: set[str] = set()

    @property
    def in_hand(self) -> int:
        return len(self._in_hand)

    async def read(self) -> Sequence[Entry]:
        await anyio.sleep(0.01)
        done = self._in_hand.union(self._stream.acknowledged)
        page = [entry for entry in self._stream.entries if entry.id not in done][:20]
        self._in_hand.update(entry.id for entry in page)
        self._stream.read += [entry.id for entry in page]
        return page

    async def read_pos(self) -> Sequence[Entry]:
        await anyio.sleep(0.01)
        return []

    async def fetch(self, ids: Sequence[str]) -> Sequence[Entry]:
        await anyio.sleep(0.01)
        known = {entry.id: entry for entry in self._stream.entries}
        return [known[entry_id] for entry_id in ids]

    async def acknowledge(self, ids: Sequence[str]) -> None:
        await anyio.sleep(0.01)
        if self._stream.refuses_acks:
            self._stream.refuses_acks -= 1
            raise Unavailable("redis")
        self._in_hand.difference_update(ids)
        self._stream.acknowledged += ids
        if len(set(self._stream.acknowledged)) == ENTRIES:
            self._stream.is_empty.set()


class ShopShelf(Shelf):
    """Knows whose each row is."""

    def __init__(self, stream: Stream) -> None:
        self._merchants = {entry.ref: entry.merchant for entry in stream.entries}

    async def messages(self, places: Sequence[Place]) -> Mapping[Place, Message | Unreadable]:
        found = await super().messages(places)
        return {
            place: replace(one, merchant_id=self._merchants[place[1]])
            for place, one in found.items()
            if isinstance(one, Message)
        }


class Disputed:
    """Lets every third batch fail as if somebody else had written first."""

    def __init__(self) -> None:
        self.conflicts = 0
        self._tried = 0

    def __call__(self, batch: Batch) -> Exception | None:
        self._tried += 1
        if not batch.letters or self._tried % 3:
            return None
        self.conflicts += 1
        return Conflict("update_payments: UPDATE 0, not 1")


class Observer:
    """Remembers why runs have ended."""

    def __init__(self) -> None:
        self.failed: list[Exception] = []

    def run_failed(self, lease: Lease, error: Exception) -> None:
        self.failed.append(error)

    def committed(self, messages: int, seconds: float) -> None: ...
    def commit_failed(self, messages: int, error: Exception) -> None: ...
    def buried(self, letters: object) -> None: ...
    def telling_failed(self, error: Exception) -> None: ...


async def work_off(stream: Stream, books: ScriptedBooks) -> Observer:
    """Until all of it is acknowledged, then drained."""
    observer, road, stop = Observer(), ScriptedRoad(), Stop()
    committer = Committer(
        books, road, road, observer, around, new_id=new_id, batch_size=20, condemn_after_s=CONDEMN_AFTER_S
    )
    parts = Surrounds(
        feeds=stream,
        shelf=ShopShelf(stream),
        outside=Nobody(),
        outcomes=road,
        suspects=Nobody(),
        around=around,
        observer=observer,
        bounds=BOUNDS,
        room=Room(entries=1000, whole=50),
        precedence=Precedence(patience_s=0.05, clock=anyio.current_time),
    )
    consumer = PartitionConsumer(parts, [committer], new_backoff=lambda: Backoff(min_ms=10, max_ms=10))
    async with anyio.create_task_group() as group:
        group.start_soon(committer.run)
        async with anyio.create_task_group() as tenure:
            tenure.start_soon(consumer.consume, ONE, stop)
            with anyio.fail_after(600):
                await stream.is_empty.wait()
            stop.set()
        group.cancel_scope.cancel()
    return observer


def test_a_conflict_costs_what_was_begun_and_not_what_was_read_ahead() -> None:
    async def test() -> None:
        stream = Stream()
        judge = Disputed()
        books = ScriptedBooks(judge, seconds=0.05)
        observer = await work_off(stream, books)
        assert judge.conflicts >= 2
        assert all(isinstance(error, Conflict) for error in observer.failed)
        assert stream.opened == 1
        assert sorted(stream.read) == sorted(entry.id for entry in stream.entries), "each was read once"
        assert_written_once_and_in_order(stream, books)

    explore(test)


def test_what_could_not_be_acknowledged_after_a_conflict_is_read_again() -> None:
    """The run that had it in hand is over: nobody but the one that follows can begin anew."""

    async def test() -> None:
        stream = Stream()
        books = ScriptedBooks(Disputed(), seconds=0.05)
        stream.refuses_acks = 2
        observer = await work_off(stream, books)
        assert any(isinstance(error, Unavailable) for error in observer.failed)
        assert stream.opened > 1
        assert set(stream.acknowledged) == {entry.id for entry in stream.entries}

    explore(test)


def assert_written_once_and_in_order(stream: Stream, books: ScriptedBooks) -> None:
    rows = {entry.ref: entry for entry in stream.entries}
    batches = [sorted((rows[letter.what.ref] for letter in batch.letters), key=_number) for batch in books.batches]
    written = [entry for batch in batches for entry in batch]
    assert len(written) == ENTRIES
    for merchant in set(MERCHANTS):
        for lane in (True, False):
            mine = [_number(one) for one in written if one.merchant == merchant and one.is_pos == lane]
            assert mine == sorted(mine), "each merchant's order is kept in each lane"


def _number(entry: Entry) -> int:
    return int(entry.id.removeprefix("pos:").split("-")[0])
