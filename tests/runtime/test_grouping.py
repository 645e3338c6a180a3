"""Grouper: many callers, one effect, under many orders of things."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from functools import partial

import anyio
import pytest
from anyio.lowlevel import checkpoint

from paynode.runtime.grouping import Grouper, GroupFull, GroupStopped
from tests.support.schedules import explore


class Effect:
    """Doubles numbers, `seconds` long each time; remembers the groups and that it never ran twice at once."""

    def __init__(self, seconds: float = 1.0) -> None:
        self.groups: list[list[int]] = []
        self.seconds = seconds
        self.ended = 0
        self._is_running = False

    async def __call__(self, items: Sequence[int]) -> Sequence[int]:
        self.groups.append(list(items))
        assert not self._is_running, "one group at a time"
        self._is_running = True
        await anyio.sleep(self.seconds)
        self._is_running = False
        self.ended += 1
        if 13 in items:
            raise LookupError("unlucky")
        return [2 * item for item in items]


@asynccontextmanager
async def running(effect: Effect, *, size: int = 100, waiting: int = 1_000) -> AsyncIterator[Grouper[int, int]]:
    grouper: Grouper[int, int] = Grouper(effect, group_size_max=size, waiting_max=waiting)
    async with anyio.create_task_group() as group:
        group.start_soon(grouper.run)
        yield grouper
        group.cancel_scope.cancel()


def test_everyone_gets_the_result_of_their_own_item() -> None:
    async def test() -> None:
        effect, results = Effect(), {}
        async with running(effect, size=7) as grouper:

            async def submit(item: int) -> None:
                results[item] = await grouper.submit(item)

            async with anyio.create_task_group() as callers:
                for item in range(100, 150):
                    callers.start_soon(submit, item)
        assert results == {item: 2 * item for item in range(100, 150)}
        assert sorted(item for group in effect.groups for item in group) == list(range(100, 150))
        assert max(map(len, effect.groups)) <= 7

    explore(test)


def test_items_are_served_in_the_order_in_which_they_came() -> None:
    async def test() -> None:
        effect, came = Effect(), []
        async with running(effect, size=3) as grouper:

            async def submit(item: int) -> None:
                came.append(item)
                await grouper.submit(item)

            async with anyio.create_task_group() as callers:
                for item in range(20):
                    if item != 13:
                        callers.start_soon(submit, item)
        assert [item for group in effect.groups for item in group] == came

    explore(test)


def test_a_lone_caller_is_served_at_once() -> None:
    async def test() -> None:
        effect = Effect(seconds=1.0)
        async with running(effect) as grouper:
            begun = anyio.current_time()
            assert await grouper.submit(1) == 2
            assert anyio.current_time() - begun == pytest.approx(1.0, abs=0.01), "the effect's time and no other"

    explore(test)


def test_groups_grow_to_what_came_during_one_effect() -> None:
    async def test() -> None:
        effect = Effect(seconds=1.0)
        async with running(effect) as grouper, anyio.create_task_group() as callers:
            callers.start_soon(grouper.submit, 1)
            await anyio.sleep(0.5)
            for item in range(2, 12):
                callers.start_soon(grouper.submit, item)
        assert [len(group) for group in effect.groups] == [1, 10]

    explore(test)


def test_who_gives_up_before_its_turn_takes_its_item_back() -> None:
    async def test() -> None:
        effect = Effect(seconds=1.0)
        async with running(effect) as grouper, anyio.create_task_group() as callers:
            callers.start_soon(grouper.submit, 1)
            await anyio.sleep(0.5)
            callers.start_soon(grouper.submit, 2)
            with anyio.move_on_after(0.2):
                await grouper.submit(3)
        assert effect.groups == [[1], [2]]

    explore(test)


def test_the_effect_is_never_asked_for_nothing() -> None:
    async def test() -> None:
        effect = Effect(seconds=1.0)
        async with running(effect) as grouper:
            # Cancelled in the very moment in which it arrived: the grouper wakes up and finds nobody.
            async with anyio.create_task_group() as callers:
                callers.start_soon(grouper.submit, 1)
                await checkpoint()
                callers.cancel_scope.cancel()
            await anyio.sleep(5)
            assert await grouper.submit(2) == 4
        assert effect.groups in ([[2]], [[1], [2]])

    explore(test)


def test_an_effect_goes_on_when_its_callers_have_given_up() -> None:
    async def test() -> None:
        effect = Effect(seconds=1.0)
        async with running(effect) as grouper:
            with anyio.move_on_after(0.5):
                await grouper.submit(1)
            assert effect.ended == 0
            assert await grouper.submit(2) == 4
        assert (effect.groups, effect.ended) == ([[1], [2]], 2)

    explore(test)


def test_an_error_of_the_effect_reaches_all_of_its_group_and_no_other() -> None:
    async def test() -> None:
        effect, failed, done = Effect(seconds=1.0), [], []
        async with running(effect) as grouper:

            async def submit(item: int) -> None:
                try:
                    done.append(await grouper.submit(item))
                except LookupError:
                    failed.append(item)

            async with anyio.create_task_group() as callers:
                callers.start_soon(submit, 1)
                await anyio.sleep(0.5)
                for item in (12, 13, 14):
                    callers.start_soon(submit, item)
                await anyio.sleep(1)
                callers.start_soon(submit, 2)
        assert (sorted(failed), sorted(done)) == ([12, 13, 14], [2, 4])

    explore(test)


def test_an_effect_that_forgets_a_result_fails_its_group() -> None:
    async def forgetful(items: Sequence[int]) -> Sequence[int]:
        return list(items)[1:]

    async def test() -> None:
        grouper: Grouper[int, int] = Grouper(forgetful, group_size_max=10, waiting_max=10)
        async with anyio.create_task_group() as group:
            callers = [asyncio.ensure_future(grouper.submit(item)) for item in (1, 2)]
            await anyio.sleep(1)
            group.start_soon(grouper.run)
            for caller in callers:
                with pytest.raises(ValueError, match="zip"):
                    await caller
            group.cancel_scope.cancel()

    explore(test)


def test_when_it_stops_everyone_gets_an_answer() -> None:
    async def test() -> int:
        effect, answers = Effect(seconds=1.0), []
        grouper: Grouper[int, int] = Grouper(effect, group_size_max=5, waiting_max=100)

        async def submit(item: int) -> None:
            try:
                answers.append(await grouper.submit(item))
            except GroupStopped:
                answers.append(-1)

        async with anyio.create_task_group() as callers:
            for item in range(100, 150):
                callers.start_soon(submit, item)
            with anyio.move_on_after(0.5):
                await grouper.run()
        assert effect.ended == len(effect.groups), "a group under way is finished"
        served = [2 * item for group in effect.groups for item in group]
        assert sorted(answers) == sorted([-1] * (50 - len(served)) + served)
        with pytest.raises(GroupStopped):
            await grouper.submit(1)
        return answers.count(-1)

    assert max(explore(test)) > 40


def test_too_many_waiting_is_said_at_once() -> None:
    async def test() -> None:
        effect = Effect(seconds=1.0)
        async with running(effect, size=1, waiting=3) as grouper:
            async with anyio.create_task_group() as callers:
                callers.start_soon(grouper.submit, 0)
                await anyio.sleep(0.5)  # taken: it waits no more
                for item in range(1, 4):
                    callers.start_soon(grouper.submit, item)
                await anyio.sleep(0.1)
                with pytest.raises(GroupFull):
                    await grouper.submit(4)
            assert await grouper.submit(5) == 10

    explore(test)


def test_who_is_cancelled_anywhere_disturbs_nobody() -> None:
    """Callers that give up at every moment there is, among others that do not."""

    async def test() -> None:
        effect, results = Effect(seconds=0.1), {}
        async with running(effect, size=4) as grouper:

            async def patient(item: int) -> None:
                results[item] = await grouper.submit(item)

            async def impatient(item: int) -> None:
                with anyio.move_on_after(item / 1_000), suppress(LookupError):
                    await grouper.submit(item)

            async with anyio.create_task_group() as callers:
                for item in range(100, 120):
                    callers.start_soon(patient, item)
                    callers.start_soon(impatient, item + 1_000)
                    callers.start_soon(impatient, item - 100 if item != 113 else 20)
        assert results == {item: 2 * item for item in range(100, 120)}

    explore(test)


def test_the_urgent_go_first_and_have_places_of_their_own() -> None:
    async def test() -> None:
        effect, told = Effect(), list[str]()
        grouper: Grouper[int, int] = Grouper(effect, group_size_max=3, waiting_max=6, urgent_places=2)

        async def submit(item: int, *, is_urgent: bool = False) -> None:
            try:
                await grouper.submit(item, is_urgent=is_urgent)
            except GroupFull:
                told.append(f"{item} is too many")

        async with anyio.create_task_group() as group:
            async with anyio.create_task_group() as callers:
                for item in (1, 2, 3, 4, 5):
                    callers.start_soon(submit, item)
                    await anyio.wait_all_tasks_blocked()
                for item in (101, 102, 103):
                    callers.start_soon(partial(submit, item, is_urgent=True))
                    await anyio.wait_all_tasks_blocked()
                group.start_soon(grouper.run)
            group.cancel_scope.cancel()
        assert told == ["5 is too many", "103 is too many"]
        assert effect.groups == [[101, 102, 1], [2, 3, 4]]

    anyio.run(test)


def test_it_is_known_how_long_the_oldest_has_been_without_a_result() -> None:
    async def test() -> None:
        now, served, go_on = [100.0], anyio.Event(), anyio.Event()

        async def effect(items: Sequence[int]) -> Sequence[int]:
            served.set()
            await go_on.wait()
            return items

        grouper: Grouper[int, int] = Grouper(
            effect, group_size_max=10, waiting_max=10, urgent_places=1, clock=lambda: now[0]
        )
        assert grouper.waited_s() == 0.0
        async with anyio.create_task_group() as group:
            for is_urgent in (False, True):
                group.start_soon(partial(grouper.submit, 1, is_urgent=is_urgent))
                await anyio.wait_all_tasks_blocked()
                now[0] += 2.0
            assert grouper.waited_s() == 4.0
            group.start_soon(grouper.run)
            await served.wait()
            waited_s = grouper.waited_s()
            go_on.set()
            assert waited_s == 4.0, "being served is waiting too"
            await anyio.wait_all_tasks_blocked()
            assert grouper.waited_s() == 0.0
            group.cancel_scope.cancel()

    anyio.run(test)


def test_of_many_at_once_it_is_known_how_long_they_will_take_before_any_is_old() -> None:
    async def test() -> None:
        now, is_stuck, go_on = [100.0], False, anyio.Event()

        async def effect(items: Sequence[int]) -> Sequence[int]:
            if is_stuck:
                await go_on.wait()
            now[0] += 0.01 * len(items)
            return items

        grouper: Grouper[int, int] = Grouper(effect, group_size_max=10, waiting_max=100, clock=lambda: now[0])
        async with anyio.create_task_group() as group:
            group.start_soon(grouper.run)
            for _ in range(3):
                await grouper.submit(1)
            is_stuck = True
            for _ in range(50):
                group.start_soon(grouper.submit, 1)
            await anyio.wait_all_tasks_blocked()
            waited_s = grouper.waited_s()
            go_on.set()  # nobody may cancel it
            assert waited_s == pytest.approx(0.5)
            group.cancel_scope.cancel()

    anyio.run(test)
