"""Actor: mail in its order, never two at once, a task only while there is mail."""

from __future__ import annotations

from collections.abc import Sequence

import anyio
import pytest

from paynode.runtime.mailbox import Actor
from tests.support.schedules import explore


class Reader:
    """Takes a while for each handful; remembers what it got."""

    def __init__(self, seconds: float = 1.0) -> None:
        self.handfuls: list[tuple[int, ...]] = []
        self.seconds = seconds
        self.is_busy = False

    async def __call__(self, mail: Sequence[int]) -> None:
        assert not self.is_busy, "never twice at once"
        self.is_busy = True
        self.handfuls.append(tuple(mail))
        await anyio.sleep(self.seconds)
        self.is_busy = False
        if 13 in mail:
            raise LookupError("unlucky")

    @property
    def got(self) -> list[int]:
        return [one for handful in self.handfuls for one in handful]


def test_mail_is_handled_in_the_order_in_which_it_came() -> None:
    async def test() -> None:
        reader, came = Reader(), []
        async with anyio.create_task_group() as group:
            actor = Actor(reader, group, capacity=1_000)

            async def put(first: int) -> None:
                for number in range(first, first + 10):
                    came.append(number)
                    await actor.put(number)
                    await anyio.sleep(0.3)

            for first in range(100, 500, 100):
                group.start_soon(put, first)
        assert reader.got == came

    explore(test)


def test_what_came_meanwhile_is_handled_together() -> None:
    async def test() -> None:
        reader = Reader(seconds=1.0)
        async with anyio.create_task_group() as group:
            actor = Actor(reader, group, capacity=100)
            await actor.put(0)
            await anyio.sleep(0.5)
            for number in range(1, 6):
                await actor.put(number)
        assert reader.handfuls == [(0,), (1, 2, 3, 4, 5)]

    explore(test)


def test_there_is_a_task_only_while_there_is_mail() -> None:
    async def test() -> None:
        reader = Reader(seconds=1.0)
        async with anyio.create_task_group() as group:
            actors = [Actor(reader, group, capacity=10) for _ in range(1_000)]
            idle = len(anyio.get_running_tasks())
            await actors[0].put(1)
            await actors[0].put(2)
            assert len(anyio.get_running_tasks()) == idle + 1
            await anyio.sleep(3)
            assert len(anyio.get_running_tasks()) == idle
            await actors[0].put(3)
        assert reader.got == [1, 2, 3]

    explore(test)


def test_a_full_box_makes_who_puts_wait_until_there_is_room() -> None:
    async def test() -> None:
        reader, waited = Reader(seconds=1.0), []
        async with anyio.create_task_group() as group:
            actor = Actor(reader, group, capacity=2)
            await actor.put(0)
            await anyio.sleep(0.5)
            for number in (1, 2, 3):
                begun = anyio.current_time()
                await actor.put(number)
                waited.append(round(anyio.current_time() - begun, 2))
        assert waited == [0, 0, 0.5]
        assert reader.got == [0, 1, 2, 3]

    explore(test)


def test_fifty_who_wait_for_room_all_get_in_and_the_box_is_never_over_full() -> None:
    async def test() -> None:
        reader = Reader(seconds=0.1)
        async with anyio.create_task_group() as group:
            actor = Actor(reader, group, capacity=5)
            for number in range(100, 150):
                group.start_soon(actor.put, number)
        assert sorted(reader.got) == list(range(100, 150))
        assert max(map(len, reader.handfuls)) <= 5

    explore(test)


def test_a_failure_ends_the_group_with_all_who_wait_for_room() -> None:
    async def test() -> None:
        reader = Reader(seconds=0.1)
        ended: list[int] = []

        async def put(number: int) -> None:
            try:
                await actor.put(number)
            finally:
                ended.append(number)

        with pytest.raises(ExceptionGroup) as failure:  # noqa: PT012 - what happens in the group is the test
            async with anyio.create_task_group() as group:
                actor = Actor(reader, group, capacity=1)
                await actor.put(13)
                for number in range(100, 150):
                    group.start_soon(put, number)
        assert [type(error) for error in failure.value.exceptions] == [LookupError]
        assert sorted(ended) == list(range(100, 150)), "nobody is left behind"

    explore(test)
