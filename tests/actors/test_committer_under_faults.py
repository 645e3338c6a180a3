"""The law of the committer under every error it can meet: once each, in order, as the database says."""

from __future__ import annotations

from collections.abc import Sequence

import anyio

from paynode.domain.batch import Batch, Lease
from paynode.domain.errors import CommitAmbiguous, Conflict, Fenced, Poison, Unavailable
from tests.actors.scripted import ONE, OTHER, Office, decided
from tests.support.schedules import explore

MESSAGES = 40
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

    def __init__(self, office: Office, lease: Lease) -> None:
        self._office = office
        self._lease = lease
        self._numbers = range(MESSAGES)

    async def consume(self) -> None:
        while missing := self._missing():
            run = self._office.run_of(self._lease)
            for number in missing:
                await self._office.committer.submit(run, [decided(self._lease, number)])
            while not run.has_failed and len(run.settled) < len(missing):  # noqa: ASYNC110 - a fact of two parties
                await anyio.sleep(0.005)

    def _missing(self) -> Sequence[int]:
        written = set(self._office.books.written)
        return [number for number in self._numbers if f"{number}-{self._lease.partition}" not in written]


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
