"""A breaker around aiobreaker, which keeps the states and counts; what it gets wrong is decided here.

The call itself does not run inside aiobreaker: it would hide the outcome of the call that trips it, let every caller
through when it is half open, and let the late result of an old call flip a newer state. So the call runs first, its
outcome is decided by whoever made it, and only "it worked" or "it failed" is told to the library, and only when the
state has not changed since the call began. Time is the monotonic clock's, not the library's mixture of two.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Any, Final

import aiobreaker

# The library's own timer never runs out: `Breaker` decides when a probe may go.
_NEVER: Final = timedelta(days=365)


class State(StrEnum):
    """Closed lets all through, open none, half open one."""

    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half_open"


class _CallFailed(Exception):
    """Tells the library that a call failed."""


class _Library(aiobreaker.CircuitBreaker):  # type: ignore[misc]  # the library is untyped
    def open(self) -> None:
        # As the library does, without `utcnow`, which warns since Python 3.12: under -W error it would never open.
        self._state_storage.opened_at = datetime.now(UTC).replace(tzinfo=None)
        self.state = self._state_storage.state = aiobreaker.CircuitBreakerState.OPEN


class Permit:
    """The right to make one call; to be given back with its result, or unused."""

    __slots__ = ("_breaker", "_generation", "_is_probe")

    def __init__(self, breaker: Breaker, generation: int, *, is_probe: bool) -> None:
        self._breaker = breaker
        self._generation = generation
        self._is_probe = is_probe

    def report(self, *, has_failed: bool) -> None:
        """How the call ended. The result of a call that began before the state changed counts no more."""
        self._breaker._report(self._generation, has_failed=has_failed)

    def give_back(self) -> None:
        """The call is over, reported or not."""
        if self._is_probe:
            self._breaker._probe_ended()


class Breaker:
    """Opens after so many failures in a row; after `open_s` seconds lets one probe through at a time."""

    def __init__(self, *, failures_max: int, open_s: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._library: Any = _Library(fail_max=failures_max, timeout_duration=_NEVER)
        self._open_s = open_s
        self._clock = clock
        self._opened_at = 0.0
        self._generation = 0
        self._is_probing = False

    @property
    def state(self) -> State:
        """The state as of now."""
        return State[self._library.current_state.name]

    def enter(self) -> Permit | None:
        """The right to one call, or None when none may be made now."""
        if self.state is State.OPEN and self._clock() >= self._opened_at + self._open_s:
            self._library.half_open()
            self._changed()
        match self.state:
            case State.CLOSED:
                return Permit(self, self._generation, is_probe=False)
            case State.HALF_OPEN if not self._is_probing:
                self._is_probing = True
                return Permit(self, self._generation, is_probe=True)
            case _:
                return None

    def _report(self, generation: int, *, has_failed: bool) -> None:
        if generation != self._generation:
            return
        before = self.state
        with suppress(_CallFailed, aiobreaker.CircuitBreakerError):  # what we told it
            self._library.call(_fail if has_failed else _succeed)
        if self.state is not before:
            self._changed()

    def _changed(self) -> None:
        self._generation += 1
        self._opened_at = self._clock()

    def _probe_ended(self) -> None:
        self._is_probing = False


def _fail() -> None:
    raise _CallFailed


def _succeed() -> None:
    return None
