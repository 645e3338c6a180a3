"""The shuffling loop itself: it must find an order that breaks, replay it, and waste no time."""

from __future__ import annotations

import time

import anyio
import pytest
from anyio.lowlevel import checkpoint

from tests.support.schedules import NothingWillHappen, explore, run


async def lost_update() -> int:
    """The classic mistake: read, wait, write. In the order of the queue it never shows."""
    total = 0

    async def add() -> None:
        nonlocal total
        seen = total
        await checkpoint()
        total = seen + 1

    async def once(before: anyio.Event, after: anyio.Event) -> None:
        await before.wait()
        await add()
        after.set()

    begin, first, second = anyio.Event(), anyio.Event(), anyio.Event()
    begin.set()
    async with anyio.create_task_group() as group:
        group.start_soon(once, begin, first)
        group.start_soon(once, begin, second)
    return total


async def arrivals() -> list[int]:
    order: list[int] = []

    async def arrive(number: int) -> None:
        order.append(number)

    async with anyio.create_task_group() as group:
        for number in range(5):
            group.start_soon(arrive, number)
    return order


def test_many_orders_are_seen_and_a_race_among_them() -> None:
    assert len({tuple(order) for order in explore(arrivals)}) > 20
    assert set(explore(lost_update)) == {1, 2}


def test_a_seed_replays_its_order() -> None:
    assert run(arrivals, 7) == run(arrivals, 7)


def test_time_passes_without_being_waited_for() -> None:
    async def long() -> float:
        begun = anyio.current_time()
        await anyio.sleep(3_600)
        return anyio.current_time() - begun

    begun = time.monotonic()
    assert run(long, 1) == pytest.approx(3_600, abs=0.01)
    assert time.monotonic() - begun < 5


def test_a_deadlock_is_found_at_once_and_names_its_seed() -> None:
    async def wait_for_ever() -> None:
        await anyio.Event().wait()

    with pytest.raises(NothingWillHappen) as failure:
        run(wait_for_ever, 3)
    assert "PAYNODE_TEST_SEED=3" in failure.value.__notes__[0]
