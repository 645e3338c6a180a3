"""The pace of an account: even, shared among processes, and no queue of charges before a refund."""

from __future__ import annotations

import anyio
import pytest

from paynode.psp.bulkhead import Rank
from paynode.psp.pace import Pace
from tests.guards.clock import at_once, now


async def turns(pace: Pace, count: int, rank: Rank = Rank.ORDINARY) -> list[float]:
    """The instants of so many calls that want to be made at once."""
    made: list[float] = []

    async def call() -> None:
        await pace.turn(rank)
        made.append(now())

    async with anyio.create_task_group() as group:
        for _ in range(count):
            group.start_soon(call)
    return made


def test_calls_are_spread_evenly_from_the_first_one_on() -> None:
    """A bucket of ten would let eleven through in the first tenth of a second, and twenty in the first second."""
    made = at_once(lambda: turns(Pace(10), 30))
    assert made == pytest.approx([number / 10 for number in range(30)], abs=1e-6)


def test_without_a_limit_nobody_waits() -> None:
    pace = Pace(0)
    assert pace.per_s is None
    assert at_once(lambda: turns(pace, 1000)) == [0.0] * 1000


def test_each_process_has_its_share() -> None:
    async def main() -> None:
        pace = Pace(10)
        pace.share(4)
        assert pace.per_s == 2.5
        made = await turns(pace, 5)
        assert made == pytest.approx([0, 0.4, 0.8, 1.2, 1.6], abs=1e-6)
        pace.share(1)
        assert pace.per_s == 10
        pace.share(0)  # nobody lives, as far as the table knows: we do
        assert pace.per_s == 10

    at_once(main)


def test_to_hear_of_the_same_number_again_lets_nobody_through() -> None:
    async def main() -> None:
        pace, made = Pace(10), list[float]()
        for _ in range(5):
            pace.share(2)
            await pace.turn(Rank.ORDINARY)
            made.append(now())
        assert made == pytest.approx([0, 0.2, 0.4, 0.6, 0.8], abs=1e-6)

    at_once(main)


def test_it_may_be_held_to_less_for_a_while() -> None:
    async def main() -> None:
        pace = Pace(10)
        pace.hold_to(4)
        assert await turns(pace, 3) == pytest.approx([0, 0.25, 0.5], abs=1e-6)
        pace.hold_to(40)
        assert pace.per_s == 10
        pace.share(5)
        assert pace.per_s == 2
        pace.hold_to(None)
        assert pace.per_s == 2
        free = Pace(0)
        free.hold_to(4)
        assert free.per_s == 4
        free.hold_to(None)
        assert free.per_s is None

    at_once(main)


def test_a_refund_waits_behind_one_charge_and_not_behind_all() -> None:
    async def main() -> None:
        pace, at = Pace(1), dict[str, float]()

        async def refund() -> None:
            await anyio.sleep(0.5)
            await pace.turn(Rank.RESERVED)
            at["refund"] = now()

        async with anyio.create_task_group() as group:
            group.start_soon(turns, pace, 60)
            group.start_soon(refund)
        assert at["refund"] <= 2.0 + 1e-6

    at_once(main)


@pytest.mark.parametrize("seed", range(10))
def test_whoever_gives_up_holds_nobody_back(seed: int) -> None:
    async def main() -> None:
        pace = Pace(2)

        async def give_up() -> None:
            with anyio.move_on_after(0.7):
                await pace.turn(Rank.ORDINARY)

        async with anyio.create_task_group() as group:
            for _ in range(20):
                group.start_soon(give_up)
        began = now()
        await pace.turn(Rank.ORDINARY)
        assert now() - began <= 0.5 + 1e-6

    at_once(main, seed=seed)
