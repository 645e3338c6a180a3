"""Turns of many partitions look up together, each gets what it asked for, and a lone one waits for nothing."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager

import anyio
import pytest
from anyio.lowlevel import checkpoint

from paynode.actors.shared_shelf import SharedShelf
from paynode.domain.errors import Unavailable
from paynode.domain.message import Message
from paynode.domain.road import Place
from tests.actors.bystanders import Shelf
from tests.support.schedules import explore


class Slow(Shelf):
    """A second for each look-up; what was asked together."""

    def __init__(self) -> None:
        self.asked: list[list[str]] = []
        self.is_away = False

    async def messages(self, places: Sequence[Place]) -> Mapping[Place, Message]:
        self.asked.append([ref for _, ref in places])
        await anyio.sleep(1)
        if self.is_away:
            raise Unavailable("postgres")
        found = await super().messages(places)
        return {place: one for place, one in found.items() if isinstance(one, Message)}


@asynccontextmanager
async def shared(shelf: Slow, *, turns_max: int = 100) -> AsyncIterator[SharedShelf]:
    both = SharedShelf(shelf, turns_max=turns_max)
    async with anyio.create_task_group() as group:
        group.start_soon(both.run)
        await checkpoint()
        yield both
        group.cancel_scope.cancel()


def test_a_lone_turn_is_served_at_once_and_those_that_come_meanwhile_together() -> None:
    async def test() -> None:
        shelf, served = Slow(), dict[int, tuple[list[str | None], float]]()

        async def ask(number: int) -> None:
            places = [(f"stream-{number}", f"{number}-{row}") for row in range(2)]
            found = await shelf_for_all.messages(places)
            served[number] = [found[place].ref for place in places], anyio.current_time() - begun

        async with shared(shelf) as shelf_for_all:
            begun = anyio.current_time()
            async with anyio.create_task_group() as group:
                group.start_soon(ask, 0)
                await anyio.sleep(0.5)
                for number in range(1, 5):
                    group.start_soon(ask, number)
        assert [sorted(asked) for asked in shelf.asked] == [
            ["0-0", "0-1"],
            [f"{number}-{row}" for number in range(1, 5) for row in range(2)],
        ]
        assert {number: refs for number, (refs, _) in served.items()} == {
            number: [f"{number}-0", f"{number}-1"] for number in range(5)
        }
        assert [round(seconds) for _, seconds in served.values()] == [1, 2, 2, 2, 2]

    explore(test)


def test_what_cannot_be_looked_up_is_everybodys_failure_and_the_next_look_up_is_tried_anew() -> None:
    async def test() -> None:
        shelf = Slow()
        async with shared(shelf) as shelf_for_all:
            shelf.is_away = True
            with pytest.raises(Unavailable):
                await shelf_for_all.messages([("stream", "1")])
            shelf.is_away = False
            assert len(await shelf_for_all.messages([("stream", "2")])) == 1

    explore(test)


def test_a_worker_that_stops_looks_nothing_up_and_says_so_in_the_usual_way() -> None:
    async def test() -> None:
        async with shared(Slow()) as shelf_for_all:
            pass
        with pytest.raises(Unavailable):
            await shelf_for_all.messages([("stream", "1")])

    explore(test)


def test_more_turns_than_there_can_be_are_refused_in_the_usual_way() -> None:
    async def test() -> None:
        refused = list[int]()

        async def ask(number: int) -> None:
            try:
                await shelf_for_all.messages([("stream", str(number))])
            except Unavailable:
                refused.append(number)

        async with shared(Slow(), turns_max=2) as shelf_for_all, anyio.create_task_group() as group:
            for number in range(5):
                group.start_soon(ask, number)
        assert 1 <= len(refused) <= 3, "two may wait, and up to two more are being served"

    explore(test)
