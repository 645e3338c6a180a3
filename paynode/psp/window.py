"""Counts over the last so many seconds, in slices: no call is remembered one by one."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Final

# A window is off by at most a tenth of its length.
_SLICES: Final = 10


class Window:
    """How many there were lately, and how many of them failed."""

    def __init__(self, *, length_s: float, clock: Callable[[], float]) -> None:
        self._slice_s = length_s / _SLICES
        self._clock = clock
        self._slices: deque[tuple[int, int, int]] = deque()  # number of the slice, calls, failures

    def add(self, *, has_failed: bool = False) -> None:
        """One more, now."""
        number, calls, failures = self._current()
        self._slices[-1] = (number, calls + 1, failures + has_failed)

    @property
    def calls(self) -> int:
        """All of them."""
        self._current()
        return sum(calls for _, calls, _ in self._slices)

    @property
    def failures(self) -> int:
        """Those that failed."""
        self._current()
        return sum(failures for *_, failures in self._slices)

    def clear(self) -> None:
        """Forget all."""
        self._slices.clear()

    def _current(self) -> tuple[int, int, int]:
        number = int(self._clock() // self._slice_s)
        while self._slices and self._slices[0][0] <= number - _SLICES:
            self._slices.popleft()
        if not self._slices or self._slices[-1][0] != number:
            self._slices.append((number, 0, 0))
        return self._slices[-1]
