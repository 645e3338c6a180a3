"""Where things stand on a plot, and how figures are written beside it."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

# After a figure that says how many times.
TIMES: Final = "\N{MULTIPLICATION SIGN}"
# Steps of a tick within a power of ten.
_STEPS: Final = (1, 2, 5)
# Where an axis from zero may end, in its power of ten, and in how many parts it is divided.
_ENDS: Final = {1: 5, 1.5: 3, 2: 4, 3: 3, 4: 4, 5: 5, 6: 3, 8: 4, 10: 5}
# An axis on which the last figure is so many times the first has ticks at powers of ten alone.
_LONG: Final = 1000
# As far as two figures may be apart and be the same tick.
_EXACT: Final = 1e-9


@dataclass(frozen=True, slots=True, kw_only=True)
class Tick:
    """A mark of an axis, with its words."""

    at: float
    words: str


@dataclass(frozen=True, slots=True)
class Log:
    """A logarithmic axis from `low` to `high`, both above zero."""

    low: float
    high: float

    @classmethod
    def around(cls, values: Iterable[float]) -> Log:
        """The shortest axis that has all of these and begins and ends at a tick; from 1 to 10 when there are none."""
        known = [value for value in values if value > 0]
        if not known:
            return cls(1.0, 10.0)
        low, high = _floor(min(known)), _ceiling(max(known))
        if high / low > _LONG:
            low, high = _power(low), 10 * _power(high * (1 - 2 * _EXACT))
        return cls(low, high if high > low else low * 10)

    def at(self, value: float) -> float:
        """0 at its beginning, 1 at its end; what is beyond them stands at them."""
        inside = min(max(value, self.low), self.high)
        return math.log(inside / self.low) / math.log(self.high / self.low)

    @property
    def ticks(self) -> Sequence[float]:
        """1, 2 and 5 of each power of ten; of a long axis the powers alone."""
        first, last = math.floor(math.log10(self.low)), math.ceil(math.log10(self.high))
        steps = _STEPS if self.high / self.low <= _LONG * (1 + _EXACT) else (1,)
        found = (step * 10.0**power for power in range(first, last + 1) for step in steps)
        return [tick for tick in found if self.low * 0.999 <= tick <= self.high * 1.001]


@dataclass(frozen=True, slots=True)
class Linear:
    """An axis from 0 to `high`, in so many parts."""

    high: float
    parts: int

    @classmethod
    def around(cls, values: Iterable[float]) -> Linear:
        """From 0 to a round number that is not below any of these; to 1 when there are none."""
        most = max([value for value in values if value > 0], default=1.0)
        power = _power(most)
        high = min(high for high in _ENDS if high * power >= most * (1 - _EXACT))
        return cls(high * power, _ENDS[high])

    def at(self, value: float) -> float:
        """0 at its beginning, 1 at its end; what is beyond them stands at them."""
        return min(max(value / self.high, 0.0), 1.0)

    @property
    def ticks(self) -> Sequence[float]:
        """From 0 on."""
        return [self.high * part / self.parts for part in range(self.parts + 1)]


def _floor(value: float) -> float:
    """The last of 1, 2, 5, 10, … that is not above."""
    return max(step for step in _STEPS if step * _power(value) <= value * (1 + _EXACT)) * _power(value)


def _ceiling(value: float) -> float:
    """The first of 1, 2, 5, 10, … that is not below."""
    return min(step for step in (*_STEPS, 10) if step * _power(value) >= value * (1 - _EXACT)) * _power(value)


def _power(value: float) -> float:
    return 10.0 ** math.floor(math.log10(value) + _EXACT)


def number(value: float) -> str:
    """Three digits that count, and all of those before the point: 62,400, 38.2, 0.41."""
    if value == 0:
        return "0"
    digits = 2 - math.floor(math.log10(abs(value)))
    rounded = round(value, digits)
    return f"{rounded:,.{max(digits, 0)}f}".rstrip("0").rstrip(".") if digits > 0 else f"{rounded:,.0f}"
