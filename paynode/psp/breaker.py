"""A breaker around aiobreaker, which keeps the states; what it gets wrong is decided here.

The call itself does not run inside aiobreaker: it would hide the outcome of the call that trips it, let every caller
through when it is half open, and let the late result of an old call flip a newer state. So the call runs first, its
outcome is decided by whoever made it, and only "it worked" or "it failed" is told to the library, and only when the
state has not changed since the call began. It counts failures in a row, which tells soonest that nothing works any
more; a PSP of whose calls two thirds fail would never trip it, so the share of failures over a window is counted here.
Time is the monotonic clock's, not the library's mixture of two.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Any, Final

import aiobreaker

from paynode.psp.window import Window

# The library's own timer never runs out: `Breaker` decides when a probe may go. Its count is never full unless it is
# told how many failures in a row it takes.
_NEVER: Final = timedelta(days=365)
_UNREACHED: Final = 2**62


class State(StrEnum):
    """Closed lets all through, open none, half open one."""

    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half_open"


# By the library's names. A look-up in the vocabulary itself takes ten times as long, and a call asks nine times.
_STATES: Final = {state.name: state for state in State}


@dataclass(frozen=True, slots=True, kw_only=True)
class BreakerRules:
    """Opens when of the calls of the last `window_s` seconds, at least `calls_min`, the share `failed_max` has failed,
    or `in_a_row` have (None: however many); `open_s` seconds later one probe may go."""

    window_s: float
    calls_min: int
    failed_max: float
    open_s: float
    in_a_row: int | None = None


class _CallFailed(Exception):
    """Tells the library that a call failed."""


class _Library(aiobreaker.CircuitBreaker):  # type: ignore[misc]  # the library is untyped
    def open(self) -> None:
        # As the library does, without `utcnow`, which warns since Python 3.12: under -W error it would never open.
        self._state_storage.opened_at = datetime.now(UTC).replace(tzinfo=None)
        self.state = self._state_storage.state = aiobreaker.CircuitBreakerState.OPEN


class Permit:
    """The right to make one call; to be given back with its result, or unused. `is_probe`: the one of a half-open
    breaker."""

    __slots__ = ("_breaker", "_generation", "is_probe")

    def __init__(self, breaker: Breaker, generation: int, *, is_probe: bool) -> None:
        self._breaker = breaker
        self._generation = generation
        self.is_probe = is_probe

    def report(self, *, has_failed: bool) -> None:
        """How the call ended. The result of a call that began before the state changed counts no more."""
        self._breaker._report(self._generation, has_failed=has_failed)

    def give_back(self) -> None:
        """The call is over, reported or not; may be said twice."""
        self._breaker._ended(self._generation)

    def postpone(self, wait_s: float) -> None:
        """Give a probe back unused: another process probes. Open again, and no probe for so many seconds."""
        self._breaker._postponed(self._generation, wait_s)


class Breaker:
    """Says whether a call may be made now, from how the last ones ended."""

    def __init__(self, rules: BreakerRules, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._library: Any = _Library(fail_max=rules.in_a_row or _UNREACHED, timeout_duration=_NEVER)
        self._rules = rules
        self._clock = clock
        self._window = Window(length_s=rules.window_s, clock=clock)
        self._probe_at = 0.0
        self._closed_until: float | None = None
        self._generation = 0
        self._is_probing = False
        self._is_held = False

    @property
    def state(self) -> State:
        """The state as of now."""
        return _STATES[self._library.current_state.name]

    @property
    def is_held(self) -> bool:
        """Whether somebody has opened it, and nobody has said that it may close."""
        return self._is_held

    @property
    def calls(self) -> int:
        """Calls that ended within the window, in the present state."""
        return self._window.calls

    @property
    def failures(self) -> int:
        """Those of them that failed."""
        return self._window.failures

    @property
    def open_for_s(self) -> float:
        """Seconds since it was closed, probes or not; 0 while it is."""
        return 0.0 if self._closed_until is None else self._clock() - self._closed_until

    @property
    def refuses(self) -> bool:
        """Whether no call may be made now; changes nothing."""
        match self.state:
            case State.OPEN:
                return self._is_held or self._clock() < self._probe_at
            case State.HALF_OPEN:
                return self._is_probing
            case State.CLOSED:
                return False

    def enter(self) -> Permit | None:
        """The right to one call, or None when none may be made now."""
        if self.refuses:
            return None
        if self.state is State.OPEN:
            self._library.half_open()
            self._changed()
        self._is_probing = self.state is State.HALF_OPEN
        return Permit(self, self._generation, is_probe=self._is_probing)

    def hold_open(self) -> None:
        """Open it, and let nobody probe until it is reset."""
        self._library.open()
        self._changed()
        self._is_held = True

    def reset(self) -> None:
        """Close it, and forget what was counted."""
        self._library.close()
        self._changed()

    def _report(self, generation: int, *, has_failed: bool) -> None:
        if generation != self._generation:
            return
        before = self.state
        self._window.add(has_failed=has_failed)
        # To a breaker that is closed and has counted nothing one more success says nothing.
        if has_failed or before is not State.CLOSED or self._library.fail_counter:
            with suppress(_CallFailed, aiobreaker.CircuitBreakerError):  # what we told it
                self._library.call(_fail if has_failed else _succeed)
        if self.state is State.CLOSED and self._has_failed_too_often():
            self._library.open()
        if self.state is not before:
            self._changed()

    def _has_failed_too_often(self) -> bool:
        calls = self._window.calls
        return calls >= self._rules.calls_min and self._window.failures >= self._rules.failed_max * calls

    def _changed(self) -> None:
        """Calls of before are of no interest now, the probe that may still be under way among them."""
        self._generation += 1
        now = self._clock()
        self._probe_at = now + self._rules.open_s
        if self.state is State.CLOSED:
            self._closed_until = None
        elif self._closed_until is None:
            self._closed_until = now
        self._window.clear()
        self._is_probing = False
        self._is_held = False

    def _ended(self, generation: int) -> None:
        if generation == self._generation:
            self._is_probing = False

    def _postponed(self, generation: int, wait_s: float) -> None:
        if generation != self._generation:
            return
        self._library.open()
        self._changed()
        self._probe_at = self._clock() + wait_s


def _fail() -> None:
    raise _CallFailed


def _succeed() -> None:
    return None
