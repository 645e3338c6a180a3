"""How often it is counted: at the interval, more rarely when counting takes long, and at least once a minute."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import anyio
import pytest

from paynode.actors.census import CensusTaker
from paynode.domain.census import Census, OnRoad
from paynode.runtime.stopping import Stop
from tests.support.schedules import explore


@dataclass
class World:
    """A database that takes its time to count, and streams that do not."""

    seconds: float
    counted_at: list[float] = field(default_factory=list)

    async def take(self) -> Census:
        await anyio.sleep(self.seconds)
        return Census(unknown=0, oldest_unknown_ms=0, dead_letters=0, parked=0, suspects=0, waiting={})

    async def look(self, groups: Mapping[str, str]) -> Mapping[str, OnRoad]:
        return {}

    def counted(self, census: Census, groups: Mapping[str, str]) -> None:
        self.counted_at.append(anyio.current_time())

    def saw_road(self, road: Mapping[str, OnRoad], groups: Mapping[str, str]) -> None:
        pass

    def count_failed(self, error: Exception) -> None:
        raise error


@pytest.mark.parametrize(("seconds", "pause_s"), [(0.001, 5.0), (0.1, 20.0), (3.0, 60.0)])
def test_counting_takes_little_of_the_time_and_is_never_given_up(seconds: float, pause_s: float) -> None:
    async def test() -> None:
        world, stop = World(seconds), Stop()
        async with anyio.create_task_group() as group:
            group.start_soon(CensusTaker(world, world, world, groups={}, interval_s=5.0).run, stop)
            await anyio.sleep(3.5 * (seconds + pause_s))
            stop.set()
        first, second, *_ = world.counted_at
        assert second - first == pytest.approx(seconds + pause_s, rel=0.02)

    explore(test)
