"""The relay's rounds: none while Redis is away, and the one under way is given up when it goes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import anyio

from paynode.actors.relay import Relay, RelayRules
from paynode.domain.road import Pointer
from paynode.runtime.reach import Reach
from paynode.runtime.stopping import Stop
from tests.support.schedules import explore

RULES = RelayRules(interval_s=10, republish_after_s=5, republish_max_s=300, sweep_size=2)
DUE = Pointer(stream="s", ref="due", merchant="mer_1")


@dataclass
class World:
    """An outbox where one row is due, a road that is there, away or hangs, a lease; and what was heard of them."""

    is_here: bool = True
    hangs: bool = False
    said: list[str] = field(default_factory=list)

    async def probe(self) -> bool:
        return self.is_here

    def is_away(self, is_away: bool, /) -> None:
        pass

    async def mark_out(self, partitions: int) -> None:
        self.said.append("begun")
        if self.hangs:
            await anyio.sleep_forever()

    async def take_due(self, count: int) -> Sequence[Pointer]:
        return [DUE]

    async def old_streams(self, after_s: float) -> Sequence[str]:
        return []

    async def find_lost(
        self, before_ms: Mapping[str, int | None], *, after_s: float, max_s: float, count: int
    ) -> Sequence[Pointer]:
        raise NotImplementedError

    async def mark_republished(self, refs: Sequence[str]) -> None:
        raise NotImplementedError

    async def publish(self, pointers: Sequence[Pointer]) -> None:
        self.said += [pointer.ref for pointer in pointers]

    async def first_entry_ms(self, stream: str) -> int | None:
        raise NotImplementedError

    async def hold(self) -> bool:
        assert self.is_here, "another relay may reach it: the lease is to run out"
        return True

    async def drop(self) -> None:
        self.said.append("dropped")

    def swept(self, due: int, republished: int) -> None:
        self.said.append(f"swept {due}")

    def sweep_failed(self, error: Exception) -> None:
        raise error

    async def live(self, *sights: bool) -> None:
        """The relay runs and is stopped; before the first round and between rounds Redis is seen to be there or not."""
        reach, stop = Reach(self.probe, self, interval_s=1), Stop()
        relay = Relay(self, self, self, self, RULES, partitions=1, reach=reach)
        async with anyio.create_task_group() as group:
            for number, self.is_here in enumerate(sights):
                await reach.look()
                if number == 0:
                    group.start_soon(relay.run, stop)
                await anyio.sleep(10 if number else 5)
            stop.set()


def test_while_redis_is_away_nothing_is_swept_and_nothing_said() -> None:
    async def test() -> None:
        world = World()
        await world.live(False, False, True)
        assert world.said == ["begun", "due", "swept 1", "dropped"]

    explore(test)


def test_a_sweep_that_waits_for_redis_is_given_up_when_it_goes_and_made_anew_when_it_is_back() -> None:
    async def test() -> None:
        world = World(hangs=True)
        await world.live(True, False)
        assert world.said == ["begun", "dropped"]
        world.hangs = False
        await world.live(True)
        assert world.said[2:] == ["begun", "due", "swept 1", "dropped"]

    explore(test)
