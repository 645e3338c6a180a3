"""The law of the committer under every error it can meet: once each, in order, as the database says."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import count

import anyio

from paynode.actors.merchant import Decided
from paynode.domain.batch import Batch, Lease
from paynode.domain.errors import CommitAmbiguous, Conflict, Fenced, Poison, Unavailable
from tests.actors.scripted import CONDEMN_AFTER_S, ONE, OTHER, Office, decided, decided_upon
from tests.support.schedules import explore

MESSAGES = 40
THIRD = Lease(partition=3, epoch=1)
SCRIPT = ("", "unavailable", "fenced", "", "conflict", "ambiguous", "", "road", "poison", "", "ambiguous")


class Trouble:
    """Meets each batch with the next word of the script; writes it all the same where the commit is ambiguous."""

    def __init__(self, office: Office) -> None:
        self.met: set[str] = set()
        self._office = office

    def __call__(self, batch: Batch) -> Exception | None:
        books = self._office.books
        assert not set(batch.claims) & set(books.written), "a row that is gone cannot be claimed again"
        word = SCRIPT[books.tried % len(SCRIPT)]
        self.met.add(word)
        self._office.road.is_away = word == "road"
        if word == "ambiguous":
            books.batches.append(batch)
        return {
            "fenced": Fenced(frozenset({batch.leases[0].partition})),
            "conflict": Conflict("version"),
            "unavailable": Unavailable("postgres"),
            "poison": Poison("refused", ""),
            "ambiguous": CommitAmbiguous("cut"),
        }.get(word)


class Consumer:
    """Runs again and again from what the database lacks, as a partition's consumer does."""

    def __init__(
        self, office: Office, lease: Lease, decide: Callable[[Lease, int], Decided] = decided, pause_s: float = 0.0
    ) -> None:
        self._office = office
        self._lease = lease
        self._numbers = range(MESSAGES)
        self._decide = decide
        self._pause_s = pause_s

    async def consume(self) -> None:
        while missing := self._missing():
            run = self._office.run_of(self._lease)
            for number in missing:
                await self._office.committer.submit(run, [self._decide(self._lease, number)])
            while not run.has_failed and len(run.settled) < len(missing):  # noqa: ASYNC110 - a fact of two parties
                await anyio.sleep(0.005)
            await anyio.sleep(self._pause_s)

    def _missing(self) -> Sequence[int]:
        written = {*self._office.books.written, *buried(self._office)}
        return [number for number in self._numbers if f"{number}-{self._lease.partition}" not in written]


def buried(office: Office) -> list[str]:
    return [letter.entry_id for batch in office.books.batches for letter in batch.letters]


async def go_on(office: Office) -> None:
    """Others, who succeed: a message a second, for ever."""
    run = office.run_of(THIRD)
    for number in count():
        await office.committer.submit(run, [decided(THIRD, number)])
        if run.has_failed:
            run = office.run_of(THIRD)
        await anyio.sleep(1)


async def work_off(office: Office, pause_s: float) -> None:
    async with anyio.create_task_group() as group:
        group.start_soon(office.committer.run)
        group.start_soon(go_on, office)
        async with anyio.create_task_group() as consumers:
            for lease in (ONE, OTHER):
                consumers.start_soon(Consumer(office, lease, decided_upon, pause_s).consume)
        group.cancel_scope.cancel()


def test_a_message_that_fails_while_others_succeed_is_found_and_buried() -> None:
    async def test() -> None:
        office = Office(batch_size=16)
        office.books.seconds = 0.01
        office.books.judge = lambda batch: Conflict("always this one") if "7-1" in batch.claims else None
        begun = anyio.current_time()
        await work_off(office, pause_s=0.5)
        assert anyio.current_time() - begun >= CONDEMN_AFTER_S, "not hastily"
        [letter] = [letter for batch in office.books.batches for letter in batch.letters]
        assert (letter.entry_id, letter.what.reason) == ("7-1", "fails_while_others_succeed")
        assert office.books.written_of(ONE) == [f"{number}-1" for number in range(MESSAGES) if number != 7]
        assert office.books.written_of(OTHER) == [f"{number}-2" for number in range(MESSAGES)]

    explore(test)


def test_a_storm_that_passes_condemns_nobody() -> None:
    """Deadlocks and serialization failures for a while, and an empty transaction succeeds all the time."""

    async def test() -> None:
        office = Office(batch_size=16)
        office.books.seconds = 0.01
        ends_at = anyio.current_time() + CONDEMN_AFTER_S - 1

        def judge(batch: Batch) -> Exception | None:
            return Conflict("deadlock") if batch.claims and anyio.current_time() < ends_at else None

        office.books.judge = judge
        await work_off(office, pause_s=0.5)
        assert office.books.tried > 10, "the storm did not bite"
        assert buried(office) == []

    explore(test)


def test_a_server_that_is_away_condemns_nobody() -> None:
    async def test() -> None:
        office = Office(batch_size=16)
        office.books.seconds = 0.01
        ends_at = anyio.current_time() + 3 * CONDEMN_AFTER_S
        office.books.judge = lambda batch: Unavailable("postgres") if anyio.current_time() < ends_at else None
        await work_off(office, pause_s=3.0)
        assert buried(office) == []

    explore(test)


def test_whatever_fails_each_message_is_written_once_and_in_order() -> None:
    async def test() -> None:
        office = Office(batch_size=4)
        trouble = Trouble(office)
        office.books.judge, office.books.seconds = trouble, 0.01
        async with anyio.create_task_group() as group:
            group.start_soon(office.committer.run)
            async with anyio.create_task_group() as consumers:
                for lease in (ONE, OTHER):
                    consumers.start_soon(Consumer(office, lease).consume)
            group.cancel_scope.cancel()
        for lease in (ONE, OTHER):
            assert office.books.written_of(lease) == [f"{number}-{lease.partition}" for number in range(MESSAGES)]
        assert trouble.met == set(SCRIPT), "every fault bit"

    explore(test)
