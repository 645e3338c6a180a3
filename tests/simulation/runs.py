"""Runs by seed: one world each, the same for the same seed."""

from __future__ import annotations

import asyncio
import gc
import math
import random
import traceback
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from random import Random
from typing import Any

import anyio._backends._asyncio as backend
from anyio._backends._asyncio import CancelScope

from paynode.actors import gateway
from tests.simulation.laws import broken
from tests.simulation.loop import Endless, SeededLoop, Stuck
from tests.simulation.story import tell
from tests.simulation.world import Size, World

# No run of the real core has taken half as many: 1,590 in 400 seeds.
STEPS_MAX = 4_000


@dataclass(slots=True)
class Report:
    """What many runs came to. `violations` by seed."""

    seeds: int = 0
    counts: Counter[str] = field(default_factory=Counter)
    violations: dict[int, list[str]] = field(default_factory=dict)

    def add(self, other: Report) -> None:
        """And those of another process."""
        self.seeds += other.seeds
        self.counts += other.counts
        self.violations |= other.violations


class _Clock:
    """`time`, as the PSP actor has it; all others ask the loop."""

    @staticmethod
    def monotonic() -> float:
        return asyncio.get_running_loop().time()


class _InOrder(dict[Any, None]):
    """A set that is gone through in the order in which it was filled."""

    def add(self, one: object) -> None:
        self[one] = None

    def discard(self, one: object) -> None:
        self.pop(one, None)

    def remove(self, one: object) -> None:
        del self[one]


class _OrderedScope(CancelScope):
    """anyio keeps tasks and scopes in sets, whose order is that of their addresses: no two runs would be the same."""

    def __init__(self, deadline: float = math.inf, shield: bool = False) -> None:
        super().__init__(deadline, shield)
        inside: Any = self
        inside._child_scopes, inside._tasks = _InOrder(), _InOrder()


@contextmanager
def virtual_time() -> Iterator[None]:
    """Inside, no part of the core sees this machine's clock, and runs depend on nothing but their seed.

    Nothing is collected in the middle of a run, either: what a run leaves are cycles, and many of them.
    """
    actor: Any = gateway
    was_enabled, clock, scope = gc.isenabled(), actor.time, backend.CancelScope
    actor.time = _Clock()
    backend.CancelScope = _OrderedScope  # type: ignore[misc]
    gc.disable()
    gc.freeze()  # what is there already is not looked through each time
    try:
        yield
    finally:
        gc.unfreeze()
        actor.time, backend.CancelScope = clock, scope  # type: ignore[misc]
        if was_enabled:
            gc.enable()


def run(seed: int, report: Report, size: Size | None = None) -> list[str]:
    """One run; the laws that it broke, the first one first."""
    chance = Random(seed)
    random.seed(seed)  # pauses after failures are drawn from the module's own
    loop = SeededLoop(chance, steps_max=STEPS_MAX)
    world = World(chance, loop, size or Size.drawn(chance))
    try:
        loop.run_to_end(tell(world))
        for what in () if world.violations else broken(world):
            world.violate(what)
    except (Stuck, Endless) as error:
        world.violate(f"{type(error).__name__}: {error}")
    except ExceptionGroup as group:
        world.violate(f"a process fell: {_innermost(group)}")
    for context in loop.errors:
        world.violate(f"an exception that nobody took: {context}")
    _count(world, loop, report)
    if world.violations:
        report.violations[seed] = world.violations
    return world.violations


def _innermost(error: BaseException) -> str:
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    place = traceback.extract_tb(error.__traceback__)
    return f"{error!r} by way of {', '.join(f'{step.name}:{step.lineno}' for step in place[-6:])}"


def _count(world: World, loop: SeededLoop, report: Report) -> None:
    report.seeds += 1
    report.counts.update(world.around.counts)
    report.counts["takeovers"] += world.store.takeovers
    report.counts["redeliveries"] += world.valkey.redelivered
    report.counts["steps"] += loop.steps


def run_all(seeds: Iterable[int]) -> Report:
    """All of them, one after the other."""
    report = Report()
    with virtual_time():
        for number, seed in enumerate(seeds):
            run(seed, report)
            if number % 200 == 199:
                gc.collect()
    return report
