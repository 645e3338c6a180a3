"""An event loop that is nothing but a queue in the order of a seed and a clock that jumps.

It has no sockets, threads or signals, which is what makes it fast: what runs on it may touch nothing but other
coroutines. Real servers are not reached from here; their twins are.
"""

from __future__ import annotations

import asyncio
from asyncio import events
from collections.abc import Callable, Coroutine, Generator
from contextvars import Context, copy_context
from heapq import heappop, heappush
from random import Random
from types import coroutine
from typing import Any, TypeVar

Result = TypeVar("Result")


class Stuck(Exception):
    """Everybody waits and nothing is scheduled: a deadlock."""


class Endless(Exception):
    """More steps than any schedule of this size needs: a livelock."""


@coroutine
def a_moment() -> Generator[None, None, None]:
    """Let others go first: the cheapest way to wait."""
    yield


class _Handle:
    """One call that is to be made."""

    __slots__ = ("args", "callback", "context", "is_cancelled", "when")

    def __init__(self, callback: Callable[..., object], args: tuple[Any, ...], context: Context | None) -> None:
        self.callback = callback
        self.args = args
        self.context = copy_context() if context is None else context
        self.is_cancelled = False
        self.when = 0.0

    def cancel(self) -> None:
        self.is_cancelled = True


# Untyped: this loop can do only what tasks, futures and anyio ask of one.
_Base: Any = asyncio.AbstractEventLoop


class SeededLoop(_Base):  # type: ignore[misc]
    """Of all calls that are ready it makes any: which one, the seed decides."""

    def __init__(self, chance: Random, *, steps_max: int) -> None:
        self.errors: list[dict[str, Any]] = []
        self.steps = 0
        self._chance = chance.random
        self._steps_max = steps_max
        self._now = 0.0
        self._ready: list[_Handle] = []
        self._timers: list[tuple[float, int, _Handle]] = []
        self._count = 0
        self._is_closed = False

    def run_to_end(self, main: Coroutine[Any, Any, Result]) -> Result:
        """Run until `main` is done.

        Raises: whatever it raises; Stuck; Endless.
        """
        task: asyncio.Task[Result] = self.create_task(main)
        events._set_running_loop(self)
        try:
            self._run_until(task)
        finally:
            events._set_running_loop(None)
        return task.result()

    def _run_until(self, task: asyncio.Task[Any]) -> None:
        ready, timers, chance = self._ready, self._timers, self._chance
        while not task.done():
            if not ready:
                if not timers:
                    raise Stuck(repr(task))
                self._now, _, handle = heappop(timers)
                ready.append(handle)
            while timers and timers[0][0] <= self._now:
                ready.append(heappop(timers)[2])
            count = len(ready)
            # Swapped with the last one and popped: what is ready has no order that anybody may rely upon.
            if count > 1:
                place = int(chance() * count)
                ready[place], ready[-1] = ready[-1], ready[place]
            handle = ready.pop()
            if not handle.is_cancelled:
                handle.context.run(handle.callback, *handle.args)
            self.steps += 1
            if self.steps > self._steps_max:
                raise Endless(f"{self.steps} steps, at {self._now:.3f} s")

    # -- what tasks, futures and anyio ask of a loop ----------------------------------------------------------------

    def time(self) -> float:
        return self._now

    def call_soon(self, callback: Callable[..., object], *args: Any, context: Context | None = None) -> Any:
        handle = _Handle(callback, args, context)
        self._ready.append(handle)
        return handle

    def call_at(self, when: float, callback: Callable[..., object], *args: Any, context: Context | None = None) -> Any:
        handle = _Handle(callback, args, context)
        handle.when = when
        self._count += 1
        heappush(self._timers, (when, self._count, handle))
        return handle

    def call_later(
        self, delay: float, callback: Callable[..., object], *args: Any, context: Context | None = None
    ) -> Any:
        return self.call_at(self._now + delay, callback, *args, context=context)

    def create_future(self) -> asyncio.Future[Any]:
        return asyncio.Future(loop=self)

    def create_task(self, coro: Any, *, name: str | None = None, context: Context | None = None) -> asyncio.Task[Any]:
        return asyncio.Task(coro, loop=self, name=name, context=context)

    def get_task_factory(self) -> None:
        return None

    def get_debug(self) -> bool:
        return False

    def is_running(self) -> bool:
        return not self._is_closed

    def is_closed(self) -> bool:
        return self._is_closed

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        self.errors.append(context)

    def default_exception_handler(self, context: dict[str, Any]) -> None:
        self.errors.append(context)
