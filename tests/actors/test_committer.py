"""The committer: everything once and in order, whatever the database says, under many orders of things."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import anyio
import pytest

from paynode.domain.batch import Batch
from paynode.domain.errors import CommitAmbiguous, Conflict, Fenced, PaynodeError, Poison, Unavailable
from tests.actors.scripted import ONE, OTHER, Office, ScriptedBooks, ScriptedRoad, ScriptedRun, decided
from tests.support.schedules import explore


@asynccontextmanager
async def at_work(office: Office) -> AsyncIterator[None]:
    async with anyio.create_task_group() as group:
        group.start_soon(office.committer.run)
        yield
        group.cancel_scope.cancel()


async def submit_each(office: Office, run: ScriptedRun, first: int, count: int) -> None:
    for number in range(first, first + count):
        await office.committer.submit(run, [decided(run.lease, number)])


def test_everything_is_written_once_in_its_partitions_order_then_acknowledged() -> None:
    async def test() -> None:
        office = Office(ScriptedBooks(seconds=0.1))
        one, other = office.run_of(ONE), office.run_of(OTHER)
        async with at_work(office):
            async with anyio.create_task_group() as actors:
                actors.start_soon(submit_each, office, one, 0, 50)
                actors.start_soon(submit_each, office, other, 0, 50)
            await anyio.sleep(60)
        for run in (one, other):
            in_order = [f"{number}-{run.lease.partition}" for number in range(50)]
            assert office.books.written_of(run.lease) == in_order
            assert run.settled == run.acknowledged == in_order
            assert not run.has_failed
        assert office.observer.committed_messages == 100
        assert max(len(batch.claims) for batch in office.books.batches) <= office.batch_size

    explore(test)


def test_what_is_decided_during_one_transaction_is_the_next() -> None:
    async def test() -> None:
        office = Office(ScriptedBooks(seconds=1.0))
        run = office.run_of(ONE)
        async with at_work(office):
            await office.committer.submit(run, [decided(ONE, 0)])
            await anyio.sleep(0.5)
            await submit_each(office, run, 1, 6)
            await anyio.sleep(10)
        assert [len(batch.claims) for batch in office.books.batches] == [1, 6]

    explore(test)


def test_when_one_partition_is_fenced_the_other_goes_on_in_its_order() -> None:
    def judge(batch: Batch) -> Exception | None:
        return Fenced(frozenset({ONE.partition})) if ONE in batch.leases else None

    async def test() -> None:
        office = Office(ScriptedBooks(judge, seconds=1.0))
        lost, kept = office.run_of(ONE), office.run_of(OTHER)
        async with at_work(office):
            await office.committer.submit(kept, [decided(OTHER, 0)])
            await anyio.sleep(0.5)
            for number in (1, 2, 3):
                await office.committer.submit(lost, [decided(ONE, number)])
                await office.committer.submit(kept, [decided(OTHER, number)])
            await anyio.sleep(1)  # the batch of both is under way
            await submit_each(office, kept, 4, 3)
            await submit_each(office, lost, 4, 3)
            await anyio.sleep(10)
        assert [type(error) for error in lost.errors] == [Fenced], "it hears of it once"
        assert (lost.settled, lost.acknowledged) == ([], [])
        assert kept.acknowledged == [f"{number}-2" for number in range(7)]
        assert office.books.written == kept.acknowledged
        assert office.books.tried == len(office.books.batches) + 1, "what the fenced run decided later is not tried"

    explore(test)


def test_what_was_rolled_back_with_a_fenced_part_is_tried_again_even_if_nothing_more_comes() -> None:
    async def test() -> None:
        office = Office(ScriptedBooks(lambda batch: Fenced(frozenset({1})) if ONE in batch.leases else None))
        lost, kept = office.run_of(ONE), office.run_of(OTHER)
        await office.committer.submit(lost, [decided(ONE, 0)])
        await office.committer.submit(kept, [decided(OTHER, 0)])
        async with at_work(office):
            await anyio.sleep(10)
        assert office.books.written == kept.acknowledged == ["0-2"]

    explore(test)


@pytest.mark.parametrize("error", [Conflict("version"), Unavailable("postgres"), CommitAmbiguous("cut")])
def test_any_other_error_ends_all_runs_of_the_batch_and_no_other(error: PaynodeError) -> None:
    async def test() -> None:
        office = Office(ScriptedBooks(lambda batch: error if ONE in batch.leases else None, seconds=1.0))
        first, second, third = office.run_of(ONE), office.run_of(OTHER), office.run_of(OTHER)
        async with at_work(office):
            await office.committer.submit(first, [decided(ONE, 0)])
            await office.committer.submit(second, [decided(OTHER, 0)])
            await anyio.sleep(0.5)
            await submit_each(office, first, 1, 2)
            await submit_each(office, second, 1, 2)
            await submit_each(office, third, 10, 2)
            await anyio.sleep(10)
        assert (first.errors, second.errors, third.errors) == ([error], [error], [])
        assert office.books.written == third.acknowledged == ["10-2", "11-2"], "and what failed runs decided is dropped"
        assert office.observer.failures == [error]

    explore(test)


def test_what_the_database_refuses_is_found_by_halving_and_set_aside_alone() -> None:
    poison = Poison("refused", "numeric field overflow")

    async def test() -> None:
        office = Office(ScriptedBooks(lambda batch: poison if "3-1" in batch.claims else None))
        guilty, innocent = office.run_of(ONE), office.run_of(OTHER)
        for number in range(5):
            await office.committer.submit(guilty, [decided(ONE, number)])
            await office.committer.submit(innocent, [decided(OTHER, number)])
        async with at_work(office):
            await anyio.sleep(60)
            tried = office.books.tried
            await submit_each(office, innocent, 5, 15)
            await anyio.sleep(60)
        assert office.books.written_of(ONE) == guilty.acknowledged == ["0-1", "1-1", "2-1"]
        assert "set aside 3-1" in office.road.log
        assert guilty.errors == [poison], "it begins anew behind it: what it decided later stood on what is not written"
        assert office.books.written_of(OTHER) == innocent.acknowledged == [f"{number}-2" for number in range(20)]
        assert innocent.errors == []
        assert tried < 11, "halves, not one by one, and once more to bury it"
        assert max(len(batch.claims) for batch in office.books.batches) > 4, "and afterwards batches grow again"

    explore(test)


def test_a_run_that_failed_elsewhere_is_not_written_any_more() -> None:
    async def test() -> None:
        office = Office(ScriptedBooks(seconds=1.0))
        run, other = office.run_of(ONE), office.run_of(OTHER)
        async with at_work(office):
            await office.committer.submit(other, [decided(OTHER, 0)])
            await anyio.sleep(0.5)
            await submit_each(office, run, 0, 3)
            run.fail(Unavailable("redis"))
            await submit_each(office, other, 1, 1)
            await anyio.sleep(10)
        assert office.books.written == ["0-2", "1-2"]

    explore(test)


def test_the_world_is_told_after_the_commit_and_the_entries_last() -> None:
    async def test() -> None:
        office = Office(ScriptedBooks(seconds=1.0), ScriptedRoad(seconds=0.1))
        run = office.run_of(ONE)
        async with at_work(office):
            now, later = decided(ONE, 1, delay_ms=0), decided(ONE, 2, delay_ms=5_000)
            await office.committer.submit(run, [now, later, decided(ONE, 3, is_dead=True)])
            await anyio.sleep(0.9)
            assert office.road.log == [], "nothing is said before it is committed"
            await anyio.sleep(10)
        assert office.road.log == [
            "publish command of 1-1 on paynode:{psp-sim}:commands:follow-up",  # what is not due yet is the relay's
            "bury 3-1",
            "acknowledge 1-1",
            "acknowledge 2-1",
            "acknowledge 3-1",
        ]

    explore(test)


def test_a_road_that_is_away_stops_no_transaction() -> None:
    async def test() -> None:
        office = Office(ScriptedBooks(seconds=0.1), ScriptedRoad(is_away=True))
        run = office.run_of(ONE)
        async with at_work(office):
            await submit_each(office, run, 0, 20)
            await anyio.sleep(10)
        assert len(office.books.written) == 20
        assert office.observer.untold
        assert not run.has_failed, "what is lost there is found again: commands by the relay, changes by polling"
        assert len(run.acknowledged) == 20

    explore(test)


def test_what_cannot_be_acknowledged_ends_the_run() -> None:
    async def test() -> None:
        office = Office(ScriptedBooks(seconds=0.1))
        run = office.run_of(ONE)
        run.is_road_away = True
        async with at_work(office):
            await office.committer.submit(run, [decided(ONE, 0)])
            await anyio.sleep(5)
        assert office.books.written == run.settled == ["0-1"], "it is committed all the same"
        assert [type(error) for error in run.errors] == [Unavailable]

    explore(test)


def test_actors_wait_while_two_batches_wait() -> None:
    async def test() -> None:
        office = Office(ScriptedBooks(seconds=1.0), batch_size=5)
        run, submitted = office.run_of(ONE), 0

        async def submit() -> None:
            nonlocal submitted
            for number in range(60):
                await office.committer.submit(run, [decided(ONE, number)])
                submitted += 1
                # One batch is being written, two wait.
                assert submitted - len(office.books.written) <= 3 * office.batch_size

        async with at_work(office):
            async with anyio.create_task_group() as actors:
                actors.start_soon(submit)
            await anyio.sleep(30)
        assert len(office.books.written) == 60

    explore(test)


def test_a_slow_road_slows_the_transactions_instead_of_filling_the_memory() -> None:
    async def test() -> None:
        office = Office(ScriptedBooks(seconds=0.1), ScriptedRoad(seconds=1_000), batch_size=1)
        run = office.run_of(ONE)
        async with at_work(office), anyio.create_task_group() as actors:
            actors.start_soon(submit_each, office, run, 0, 20)
            await anyio.sleep(500)
            # One is being told, one waits to be told, one is written and waits for that place.
            assert len(office.books.batches) == 3
            actors.cancel_scope.cancel()

    explore(test)
