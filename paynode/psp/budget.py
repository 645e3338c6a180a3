"""How many of the calls may be retries: of what was never sent, and waits for its PSP to come back.

During an outage all new payments are refused, and wait. If they came back together, the PSP would meet the payments of
a minute in its first second, and fall again. So retries are a tenth of what comes in new; and when less comes in than
the PSP has borne before, they may have what is left of that. A PSP that returns is thus called as often as before the
outage and a tenth more, whatever waits.
"""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from paynode.psp.window import Window

# Seconds over which "what comes in now" and "what it has borne" are measured: shorter, and chance would show.
_MEASURE_S: Final = 10.0
# Measures that are remembered: a quarter of an hour.
_MEASURES: Final = 90
# Seconds: the shortest pause of a retry that finds the budget spent; the relay looks twice a second.
_PAUSE_MIN_S: Final = 2.0
# Retries that are granted to whoever asks first after so many seconds in which nobody did.
_FIRST: Final = 2.0
_IDLE_S: Final = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class BudgetRules:
    """Retries are at most `share_max` of first tries; one every `every_s` seconds is always granted. Whoever finds it
    spent pauses for some time, on average at most half of `pause_max_s`."""

    share_max: float
    every_s: float
    pause_max_s: float


class _Borne:
    """The most first tries that were sent in any ten seconds of the last quarter of an hour."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._counts: deque[tuple[int, int]] = deque()

    def add(self) -> None:
        number = int(self._clock() // _MEASURE_S)
        if self._counts and self._counts[-1][0] == number:
            self._counts[-1] = (number, self._counts[-1][1] + 1)
        else:
            self._counts.append((number, 1))

    @property
    def per_s(self) -> float:
        oldest = int(self._clock() // _MEASURE_S) - _MEASURES
        while self._counts and self._counts[0][0] <= oldest:
            self._counts.popleft()
        return max((count for _, count in self._counts), default=0) / _MEASURE_S


class RetryBudget:
    """One PSP's, in one process."""

    def __init__(
        self, rules: BudgetRules, *, clock: Callable[[], float], chance: Callable[[], float] = random.random
    ) -> None:
        self._rules = rules
        self._clock = clock
        self._chance = chance
        self._arriving = Window(length_s=_MEASURE_S, clock=clock)
        self._refused = Window(length_s=_MEASURE_S, clock=clock)
        self._borne = _Borne(clock)
        self._tokens = _FIRST
        self._counted_at = clock()

    @property
    def per_s(self) -> float:
        """Retries that may be made in a second, as things are."""
        arriving = self._arriving.calls / _MEASURE_S
        return max(self._rules.share_max * arriving, self._borne.per_s - arriving, 1 / self._rules.every_s)

    @property
    def usual_per_s(self) -> float:
        """What comes in now or has been borne before, whichever is more."""
        return max(self._arriving.calls / _MEASURE_S, self._borne.per_s)

    def came(self) -> None:
        """A first try, whether it can be sent or not."""
        self._arriving.add()

    def sent(self) -> None:
        """A first try is being sent."""
        self._borne.add()

    def take(self, *, is_reserved: bool) -> float | None:
        """None: go. Else the budget is spent: seconds to pause, of full jitter, before asking again.

        What is reserved may take the last one: a refund does not wait behind a minute of charges.
        """
        per_s = self._refill()
        if self._tokens >= (1 if is_reserved else 2):
            self._tokens -= 1
            return None
        self._refused.add()
        # The more wait, the longer, so that those who ask in vain are not many more than those who may go.
        pause_s = max(_PAUSE_MIN_S, self._refused.calls / per_s)
        return self._chance() * min(2 * pause_s, self._rules.pause_max_s)

    def _refill(self) -> float:
        now, per_s = self._clock(), self.per_s
        since_s = now - self._counted_at
        # Saved up, it would be the storm: what nobody took within half a second, the pause of the relay, is gone, and
        # nothing is left when nobody asked at all, because the breaker was open.
        most = 1 + max(1.0, per_s / 2)
        self._tokens = min(self._tokens + since_s * per_s, most) if since_s <= _IDLE_S else _FIRST
        self._counted_at = now
        return per_s
