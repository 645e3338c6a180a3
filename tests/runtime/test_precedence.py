"""Others hold back while somebody hurries, and never for longer than their patience."""

from __future__ import annotations

import anyio

from paynode.runtime.precedence import Precedence
from tests.support.schedules import explore


def test_nobody_waits_when_nobody_hurries() -> None:
    async def test() -> None:
        precedence = Precedence(patience_s=10)
        with anyio.fail_after(0):
            await precedence.give_way()

    explore(test)


def test_others_go_on_when_the_last_of_those_that_hurry_is_through() -> None:
    async def test() -> None:
        precedence = Precedence(patience_s=10)
        precedence.came(2)
        begun = anyio.current_time()
        async with anyio.create_task_group() as group:
            group.start_soon(go_after, precedence, 1.0)
            group.start_soon(go_after, precedence, 2.0)
            await precedence.give_way()
            assert 2.0 <= anyio.current_time() - begun < 2.1
        assert not precedence.is_taken

    explore(test)


def test_the_patience_has_an_end_however_many_hurry() -> None:
    async def test() -> None:
        precedence = Precedence(patience_s=0.05)
        precedence.came(1)
        begun = anyio.current_time()
        await precedence.give_way()
        assert 0.05 <= anyio.current_time() - begun < 0.1
        assert precedence.is_taken

    explore(test)


def test_who_came_a_moment_ago_is_expected_again() -> None:
    now = [100.0]
    precedence = Precedence(patience_s=10, clock=lambda: now[0])
    seen = [precedence.is_expected]
    precedence.came(0)
    seen.append(precedence.is_expected)
    precedence.came(1)
    now[0] += 60
    seen.append(precedence.is_expected)
    precedence.went(1)
    seen.append(precedence.is_expected)
    with precedence.hurrying():
        pass
    now[0] += 1.9
    seen.append(precedence.is_expected)
    now[0] += 0.2
    seen.append(precedence.is_expected)
    assert seen == [False, False, True, False, True, False]


def test_who_holds_back_rests_only_while_somebody_is_expected() -> None:
    async def test() -> None:
        precedence = Precedence(patience_s=10, clock=anyio.current_time)
        with anyio.fail_after(0):
            await precedence.hold_back(1.0)
        with precedence.hurrying():
            pass
        begun = anyio.current_time()
        await precedence.hold_back(1.0)
        assert 1.0 <= anyio.current_time() - begun < 1.1
        await anyio.sleep(2)
        with anyio.fail_after(0):
            await precedence.hold_back(1.0)

    explore(test)


def test_who_holds_back_waits_for_one_that_came_while_he_rested() -> None:
    async def test() -> None:
        precedence = Precedence(patience_s=10, clock=anyio.current_time)
        with precedence.hurrying():
            pass
        begun = anyio.current_time()
        async with anyio.create_task_group() as group:
            group.start_soon(come_after, precedence, 0.5, 2.0)
            await precedence.hold_back(1.0)
            assert 2.5 <= anyio.current_time() - begun < 2.6

    explore(test)


async def come_after(precedence: Precedence, seconds: float, for_s: float) -> None:
    await anyio.sleep(seconds)
    with precedence.hurrying():
        await anyio.sleep(for_s)


async def go_after(precedence: Precedence, seconds: float) -> None:
    await anyio.sleep(seconds)
    precedence.went(1)


def test_who_hurries_and_waits_for_the_outside_holds_nobody_back_meanwhile() -> None:
    precedence, taken = Precedence(patience_s=10), []
    with precedence.hurrying():
        taken.append(precedence.is_taken)
        with precedence.resting():
            taken.append(precedence.is_taken)
        taken.append(precedence.is_taken)
    assert [*taken, precedence.is_taken] == [True, False, True, False]
