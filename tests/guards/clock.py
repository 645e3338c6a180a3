"""Time and tasks of a test: nothing waits for real, and what is ready runs in the order of a seed."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from contextvars import Context
from random import Random
from typing import Any, TypeVar

from tests.simulation.loop import SeededLoop

Result = TypeVar("Result")

# Steps of the loop after which a test counts as endless.
_STEPS_MAX = 5_000_000
# Seconds that a timer takes at least, as on every real loop. aiolimiter sets one for a remainder of rounding, which is
# smaller than any clock's step, and would set it for ever where no time passes.
_TICK_S = 1e-7


class _Loop(SeededLoop):
    def call_at(self, when: float, callback: Callable[..., object], *args: Any, context: Context | None = None) -> Any:
        return super().call_at(max(when, self.time() + _TICK_S), callback, *args, context=context)


def now() -> float:
    """The loop's clock."""
    return asyncio.get_running_loop().time()


def at_once(main: Callable[[], Coroutine[Any, Any, Result]], *, seed: int = 1) -> Result:
    """Run to the end, however many virtual seconds it takes."""
    loop = _Loop(Random(seed), steps_max=_STEPS_MAX)
    return loop.run_to_end(main())
