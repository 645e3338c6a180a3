"""Whether too much waits, and for whom it is too much: by the age of what waits, not by its number.

A queue that is never empty for a whole interval is a standing one: it only makes everybody late, and the work behind it
is done no sooner. One that comes and goes is a burst, and bursts are welcome. So nothing is refused before the age has
been above the target for a whole interval (that is CoDel's test); from then on each class is refused by the age of the
moment, the lesser ones at a lesser age.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from typing import Final

from paynode.http.work import ORDER, Work

# Looks by which it is told how fast requests are done; together about a second.
_LOOKS: Final = 50

# How many times the target each class bears. Doubled from one to the next: when the lesser are refused, the age must
# have room to fall before it is the next one's turn.
TIMES_TARGET: Final[Mapping[Work, int]] = {work: 2**place for place, work in enumerate(ORDER)}


class Pressure:
    """Told of the age of what waits, again and again; asked who may still come in."""

    def __init__(self, *, target_s: float, interval_s: float) -> None:
        self._target_s = target_s
        self._interval_s = interval_s
        self._turned_at: float | None = None  # since when the age has been on the other side of the target
        self.is_standing = False

    def feel(self, age_s: float, now: float) -> None:
        """What waits longest has waited so long by now."""
        is_above = age_s > self._target_s
        if is_above is self.is_standing:
            self._turned_at = None
        elif self._turned_at is None:
            self._turned_at = now
        elif now - self._turned_at >= self._interval_s:
            self.is_standing, self._turned_at = is_above, None

    def refuses(self, work: Work, age_s: float) -> bool:
        """Whether this class has to go while what waits is so old."""
        return self.is_standing and age_s > self._target_s * TIMES_TARGET[work]


class Pace:
    """How long a request takes when one after the other is done: by those of the last second or so."""

    def __init__(self) -> None:
        self._looks: deque[tuple[float, int]] = deque(maxlen=_LOOKS)
        self.done = 0
        self.each_s = 0.0

    def look(self, now: float) -> None:
        """By now so many were done in all."""
        self._looks.append((now, self.done))
        begun_at, done = self._looks[0]
        self.each_s = (now - begun_at) / max(1, self.done - done)
