"""Places at a PSP: who gets one, who waits, and whose are the last."""

from __future__ import annotations

import anyio
import pytest

from paynode.psp.bulkhead import Bulkhead, Rank
from tests.guards.clock import at_once, now


def test_new_charges_leave_the_last_places_to_the_others() -> None:
    async def main() -> None:
        bulkhead = Bulkhead(places=4, reserved=1, waiting_max=0)
        assert [await bulkhead.enter(Rank.ORDINARY, within_s=1) for _ in range(4)] == [True, True, True, False]
        assert await bulkhead.enter(Rank.RESERVED, within_s=1)
        assert not await bulkhead.enter(Rank.RESERVED, within_s=1)
        assert bulkhead.taken == 4

    at_once(main)


def test_what_finds_no_place_waits_and_not_for_ever() -> None:
    async def main() -> None:
        bulkhead = Bulkhead(places=1, reserved=0, waiting_max=1)
        assert await bulkhead.enter(Rank.ORDINARY, within_s=1)
        began = now()
        assert not await bulkhead.enter(Rank.ORDINARY, within_s=2)
        assert now() - began == pytest.approx(2)
        assert bulkhead.waiting == 0
        bulkhead.leave()
        assert await bulkhead.enter(Rank.ORDINARY, within_s=1), "nobody who has gone is given a place"

    at_once(main)


def test_only_so_many_wait() -> None:
    async def main() -> None:
        bulkhead = Bulkhead(places=1, reserved=0, waiting_max=2)
        await bulkhead.enter(Rank.ORDINARY, within_s=1)
        refused_at: list[float] = []

        async def try_it() -> None:
            if not await bulkhead.enter(Rank.ORDINARY, within_s=5):
                refused_at.append(now())

        async with anyio.create_task_group() as group:
            for _ in range(5):
                group.start_soon(try_it)
        assert sorted(refused_at) == pytest.approx([0, 0, 0, 5, 5])

    at_once(main)


@pytest.mark.parametrize("seed", range(20))
def test_places_go_in_order_to_the_reserved_rank_first(seed: int) -> None:
    async def main() -> None:
        bulkhead, served = Bulkhead(places=1, reserved=0, waiting_max=9), list[str]()

        async def wait(name: str, rank: Rank) -> None:
            assert await bulkhead.enter(rank, within_s=100)
            served.append(name)
            bulkhead.leave()

        await bulkhead.enter(Rank.ORDINARY, within_s=1)
        async with anyio.create_task_group() as group:
            for name, rank in (("a", Rank.ORDINARY), ("b", Rank.ORDINARY), ("c", Rank.RESERVED), ("d", Rank.RESERVED)):
                group.start_soon(wait, name, rank)
                await anyio.sleep(1)
            bulkhead.leave()
        assert served == ["c", "d", "a", "b"]

    at_once(main, seed=seed)


@pytest.mark.parametrize("seed", range(50))
def test_whoever_is_cancelled_takes_no_place_with_him(seed: int) -> None:
    """Also in the moment in which he is given one."""

    async def main() -> None:
        bulkhead = Bulkhead(places=3, reserved=1, waiting_max=50)

        async def use(rank: Rank, patience_s: float) -> None:
            with anyio.move_on_after(patience_s):
                if await bulkhead.enter(rank, within_s=0.5):
                    try:
                        await anyio.sleep(0.3)
                    finally:
                        bulkhead.leave()

        async with anyio.create_task_group() as group:
            for number in range(40):
                group.start_soon(use, Rank(number % 2), 0.1 * (number % 7))
                await anyio.sleep(0.05)
        assert (bulkhead.taken, bulkhead.waiting) == (0, 0)
        assert [await bulkhead.enter(Rank.RESERVED, within_s=0.1) for _ in range(4)] == [True, True, True, False]

    at_once(main, seed=seed)
