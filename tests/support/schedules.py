"""Interleavings by seed: an event loop whose time is a number and whose ready queue is shuffled.

A test that holds for one order of things says little about the others. `explore(test)` runs it under many orders; a
failure names its seed, and PAYNODE_TEST_SEED=<seed> runs that one alone.
"""

from __future__ import annotations

import asyncio
import os
import random
import selectors
from collections.abc import Callable, Coroutine, Iterable
from typing import Any, Final, TypeVar

Result = TypeVar("Result")

# So many orders, the same in every run, and some that nobody has seen yet.
_FIXED: Final = 60
_FRESH: Final = 10
# Above the clock's resolution as the loop sees it: a timer is due once we have jumped to it.
_JUMP_S: Final = 1e-6


class NothingWillHappen(Exception):
    """Everybody waits and nothing is scheduled: a deadlock, found at once and not by a time-out."""


class _Selector(selectors.DefaultSelector):
    """Where the loop would wait, the time jumps instead."""

    now = 0.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        events = super().select(0)
        if not events and timeout is None:
            raise NothingWillHappen
        if not events and timeout:
            self.now += timeout + _JUMP_S
        return events


class ShuffledLoop(asyncio.SelectorEventLoop):
    """Runs what is ready in an order that the seed decides."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)
        self._virtual = _Selector()
        super().__init__(self._virtual)

    def time(self) -> float:
        return self._virtual.now

    def _run_once(self) -> None:
        loop: Any = self  # the queue and this method are the base class's own, and no part of its types
        ready = loop._ready
        self._random.shuffle(ready)
        # Some wait for another turn: else two that begin together would always take their first steps together.
        waiting = [ready.pop() for _ in range(self._random.randrange(len(ready)))] if ready else []
        super()._run_once()  # type: ignore[misc]
        ready.extend(waiting)


def run(test: Callable[[], Coroutine[Any, Any, Result]], seed: int) -> Result:
    """Run one coroutine under one order. What fails says under which."""
    with asyncio.Runner(loop_factory=lambda: ShuffledLoop(seed)) as runner:
        try:
            return runner.run(test())
        except BaseException as error:
            error.add_note(f"the order was that of PAYNODE_TEST_SEED={seed}")
            raise


def explore(test: Callable[[], Coroutine[Any, Any, Result]]) -> list[Result]:
    """Run a coroutine function under many orders; what it returned under each."""
    return [run(test, seed) for seed in _seeds()]


def _seeds() -> Iterable[int]:
    named = os.environ.get("PAYNODE_TEST_SEED")
    if named is not None:
        return [int(named)]
    return [*range(_FIXED), *(random.SystemRandom().randrange(2**32) for _ in range(_FRESH))]
