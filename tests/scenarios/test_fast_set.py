"""Faults in pairs upon an installation that pays all the time; then the laws. Every fault must have bitten."""

from __future__ import annotations

import random
from collections.abc import Callable, Coroutine, Iterable
from typing import Any

import anyio

from tests.scenarios.catalogue import FAST_SET, SCENARIOS
from tests.support.directories import open_directory
from tests.support.laws import judge
from tests.support.nemesis import Nemesis, Scenario
from tests.support.stage import Stage, staged

SEED = 20_260_301
# Payments a second; how often a fault is repeated that has not bitten; pairs that a fresh seed chooses.
_RATE_PER_S = 30.0
_TRIES = 5
_AT_RANDOM = 1


def drawn(chance: random.Random, stage: Stage) -> Iterable[tuple[Scenario, ...]]:
    """Some pairs that nobody has seen yet."""
    nemesis = Nemesis(stage)
    for _ in range(_AT_RANDOM):
        first = nemesis.choose(SCENARIOS, chance)
        assert first is not None
        nemesis.playing = [first]
        second = nemesis.choose(SCENARIOS, chance)
        nemesis.playing = []
        yield (first,) if second is None else (first, second)


async def strike(stage: Stage, pair: Iterable[Scenario], play: Callable[[Scenario], Coroutine[Any, Any, Any]]) -> None:
    """Both at once, then everybody on their feet again."""
    print([scenario.name for scenario in pair])
    async with anyio.create_task_group() as faults:
        for scenario in pair:
            faults.start_soon(play, scenario)
    await stage.revive()


async def until_it_bites(nemesis: Nemesis, scenario: Scenario) -> None:
    for _ in range(_TRIES):
        if await nemesis.play(scenario):
            return
    raise AssertionError(f"{scenario.id} {scenario.name} did not bite")


async def test_the_laws_hold_whatever_happens() -> None:
    seed = random.SystemRandom().randrange(2**32)
    print(f"the pairs at random are those of seed {seed}")
    with open_directory() as directory:
        async with staged(directory, seed=SEED, rate_per_s=_RATE_PER_S, in_flight_max=16) as stage:
            nemesis = Nemesis(stage)
            async with anyio.create_task_group() as load:
                load.start_soon(stage.load.run)
                await stage.until_warm()
                for pair in FAST_SET:
                    await strike(stage, pair, lambda scenario: until_it_bites(nemesis, scenario))
                for fresh in drawn(random.Random(seed), stage):  # to look for what nobody has seen, bitten or not
                    await strike(stage, fresh, nemesis.play)
                stage.load.is_over = True
            is_settled = await stage.settle()
            case = await stage.case()
    broken = judge(case)
    assert not broken, broken
    assert not stage.witness.violations, stage.witness.violations
    assert is_settled, "it does not come to rest"
