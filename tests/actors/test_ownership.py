"""Several owners in one town: they share it, whoever comes, goes, dies or is slow, in many orders of things."""

from __future__ import annotations

from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass, field

import anyio

from paynode.actors.ownership import Ownership, Pace
from paynode.domain.batch import Lease
from paynode.domain.ownership import Sight, Taken
from paynode.runtime.stopping import Stop
from tests.support.schedules import explore

PARTITIONS, LEASE_S = 8, 3.0
PACE = Pace(keep_s=1.0, look_s=0.25, grace_s=0.1, give_back_s=2.0)
# What a statement takes, in seconds of a clock that jumps.
STATEMENT_S = 0.003


@dataclass(slots=True)
class Row:
    """One partition, as the database has it."""

    owner: str | None = None
    epoch: int = 0
    until: float = 0.0
    deaths: int = 0


@dataclass(slots=True)
class Town:
    """The database: who owns what, who lives, and whose session is gone. Nothing happens within a statement."""

    rows: list[Row] = field(default_factory=lambda: [Row() for _ in range(PARTITIONS)])
    alive_until: dict[str, float] = field(default_factory=dict)
    gone: set[str] = field(default_factory=set)

    def is_over(self, row: Row) -> bool:
        return row.owner is None or row.until < anyio.current_time()

    def shares(self) -> list[int]:
        return sorted(Counter(row.owner for row in self.rows if row.owner is not None).values())

    def owned_by(self, name: str) -> int:
        return sum(row.owner == name for row in self.rows)


Work = Callable[["Worker", Lease, Stop], Awaitable[None]]


async def idle(worker: Worker, lease: Lease, drain: Stop) -> None:
    """Like a read that waits: it notices the drain a little later."""
    await drain.wait()
    await anyio.sleep(0.2)


async def never_through(worker: Worker, lease: Lease, drain: Stop) -> None:
    await anyio.sleep_forever()


class Worker:
    """One worker's view of the town, both Protocols and the observer in one; `run` until stopped or killed."""

    def __init__(self, town: Town, name: str, work: Work = idle) -> None:
        self.town, self.name, self.work = town, name, work
        self.stop = Stop()
        self.scope = anyio.CancelScope()
        self.consuming: set[Lease] = set()
        self.deaths_told: list[int] = []
        self.lost_count = 0
        self.owning = Ownership(self, self, self._consume, self, partitions=PARTITIONS, pace=PACE)

    async def run(self) -> None:
        with self.scope:
            await self.owning.run(self.stop)

    def kill(self) -> None:
        self.town.gone.add(self.name)
        self.scope.cancel()

    async def _consume(self, lease: Lease, drain: Stop, unclean_deaths: int) -> None:
        assert all(other.partition != lease.partition for other in self.consuming), "two runs of one partition"
        self.consuming.add(lease)
        self.deaths_told.append(unclean_deaths)
        try:
            await self.work(self, lease, drain)
        finally:
            self.consuming.discard(lease)

    # -- the company ----------------------------------------------------------------------------------------------

    async def beat(self) -> None:
        await anyio.sleep(STATEMENT_S)
        self.town.alive_until[self.name] = anyio.current_time() + LEASE_S

    async def look(self) -> Sight:
        await anyio.sleep(STATEMENT_S)
        town = self.town
        others = [
            name
            for name, until in town.alive_until.items()
            if name != self.name and until > anyio.current_time() and name not in town.gone
        ]
        return Sight(
            live=1 + len(others),
            before=sum(name < self.name for name in others),
            vacant=sum(town.is_over(row) for row in town.rows),
            orphaned=sum(not town.is_over(row) and row.owner in town.gone for row in town.rows),
        )

    async def leave(self) -> None:
        await anyio.sleep(STATEMENT_S)
        del self.town.alive_until[self.name]

    # -- the leases -----------------------------------------------------------------------------------------------

    async def take(self, count: int) -> Sequence[Taken]:
        await anyio.sleep(STATEMENT_S)
        taken: list[Taken] = []
        for number, row in enumerate(self.town.rows):
            if len(taken) < count and (self.town.is_over(row) or row.owner in self.town.gone):
                before, row.deaths = row.owner, row.deaths + (row.owner in self.town.gone)
                row.owner, row.epoch, row.until = self.name, row.epoch + 1, anyio.current_time() + LEASE_S
                lease = Lease(partition=number, epoch=row.epoch)
                taken.append(Taken(lease=lease, owner_before=before, unclean_deaths=row.deaths))
        return taken

    async def keep(self, leases: Iterable[Lease]) -> frozenset[Lease]:
        held = [lease for lease in leases if self.town.rows[lease.partition].epoch == lease.epoch]
        await anyio.sleep(STATEMENT_S)
        for lease in held:
            self.town.rows[lease.partition].until = anyio.current_time() + LEASE_S
        return frozenset(held)

    async def release(self, lease: Lease) -> None:
        assert lease not in self.consuming, "given back while it was still consumed"
        await anyio.sleep(STATEMENT_S)
        row = self.town.rows[lease.partition]
        if row.epoch == lease.epoch:
            row.owner = None

    # -- the observer ---------------------------------------------------------------------------------------------

    def taken(self, taken: Sequence[Taken]) -> None:
        assert taken

    def lost(self, lease: Lease) -> None:
        self.lost_count += 1

    def released(self, lease: Lease) -> None:
        pass

    def round_failed(self, error: Exception) -> None:
        raise AssertionError("nothing failed") from error


def test_whoever_joins_leaves_or_dies_the_shares_are_fair_within_five_seconds() -> None:
    async def test() -> None:
        town = Town()
        workers = [Worker(town, name) for name in "abcd"]
        async with anyio.create_task_group() as group:
            for worker in workers[:3]:
                group.start_soon(worker.run)
            await anyio.sleep(5)
            assert town.shares() == [2, 3, 3]
            group.start_soon(workers[3].run)
            await anyio.sleep(5)
            assert town.shares() == [2, 2, 2, 2]
            workers[0].stop.set()
            await anyio.sleep(5)
            assert town.shares() == [2, 3, 3]
            workers[1].kill()
            await anyio.sleep(1)
            assert town.shares() == [4, 4], "a dead one is replaced within a second, and its share with it"
            assert sum(row.deaths for row in town.rows) in (2, 3), "its partitions, once each"
            assert {1} <= {*workers[2].deaths_told, *workers[3].deaths_told}, "and whoever consumes them is told"
            for worker in workers[2:]:
                assert {lease.partition for lease in worker.consuming} == {
                    number for number, row in enumerate(town.rows) if row.owner == worker.name
                }
                worker.stop.set()
        assert town.shares() == []
        assert not town.alive_until.keys() - {"b"}

    explore(test)


def test_a_worker_that_leaves_is_replaced_while_it_drains() -> None:
    """What it has given back does not wait for what it has not."""

    async def all_but_one_at_once(worker: Worker, lease: Lease, drain: Stop) -> None:
        await drain.wait()
        await anyio.sleep(1.9 if lease.partition == 0 else 0.0)

    async def test() -> None:
        town = Town()
        first, second = Worker(town, "a", all_but_one_at_once), Worker(town, "b")
        async with anyio.create_task_group() as group:
            group.start_soon(first.run)
            await anyio.sleep(2)
            group.start_soon(second.run)
            await anyio.sleep(5)
            first.stop.set()
            await anyio.sleep(1)
            assert (town.owned_by("a"), town.owned_by("b")) == (1, PARTITIONS - 1)
            await anyio.sleep(2)
            assert town.shares() == [PARTITIONS]
            second.stop.set()

    explore(test)


def test_what_is_given_back_and_does_not_get_through_is_forgotten_in_time() -> None:
    async def test() -> None:
        town = Town()
        slow, other = Worker(town, "a", never_through), Worker(town, "b")
        async with anyio.create_task_group() as group:
            group.start_soon(slow.run)
            await anyio.sleep(2)
            group.start_soon(other.run)
            await anyio.sleep(5)
            assert town.shares() == [PARTITIONS // 2, PARTITIONS // 2]
            assert slow.lost_count == 0, "given back, not lost"
            slow.stop.set()
            await anyio.sleep(PACE.give_back_s + 1)
            assert town.shares() == [PARTITIONS]
            assert not slow.consuming
            assert sum(row.deaths for row in town.rows) == 0
            other.stop.set()

    explore(test)


def test_a_session_that_is_cut_and_back_in_time_costs_nothing() -> None:
    async def test() -> None:
        town = Town()
        workers = [Worker(town, name) for name in "ab"]
        async with anyio.create_task_group() as group:
            for worker in workers:
                group.start_soon(worker.run)
            await anyio.sleep(5)
            before = [row.epoch for row in town.rows]
            for number in range(40):
                town.gone.add("a")
                await anyio.sleep(0.08)
                town.gone.discard("a")
                await anyio.sleep(0.2 + 0.017 * number)
            await anyio.sleep(2)
            assert [row.epoch for row in town.rows] == before
            assert workers[0].lost_count == workers[1].lost_count == 0
            for worker in workers:
                worker.stop.set()

    explore(test)


def test_an_owner_that_slept_through_its_lease_ends_its_runs_and_begins_anew() -> None:
    async def test() -> None:
        town = Town()
        sleeper, other = Worker(town, "a"), Worker(town, "b")
        async with anyio.create_task_group() as group:
            group.start_soon(sleeper.run)
            await anyio.sleep(2)
            for row in town.rows:  # as if it had been stopped: others took all of it and have gone again
                row.owner, row.epoch, row.until = None, row.epoch + 1, 0.0
            await anyio.sleep(2)
            assert town.shares() == [PARTITIONS]
            assert {lease.epoch for lease in sleeper.consuming} == {3}
            group.start_soon(other.run)
            await anyio.sleep(5)
            assert town.shares() == [PARTITIONS // 2, PARTITIONS // 2]
            sleeper.stop.set()
            other.stop.set()

    explore(test)
