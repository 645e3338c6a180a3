"""What one merchant may ask for in a time: a token bucket for each merchant and class of work; and how many may wait.

A bucket is one number, the instant at which it is full again; that is all that GCRA needs.
"""

from __future__ import annotations

import math
import time
from collections import Counter, OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from paynode.http.work import Work


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """How a merchant stands after a request: `reset_s` until the bucket is full, `retry_after_s` if it was refused."""

    quota: int
    remaining: int
    reset_s: float
    retry_after_s: float | None = None


class Quotas:
    """`quotas` are requests of one merchant in `window_s`, by class; a class without one is not limited.

    At most `buckets_max` buckets are kept. The one that was used longest ago goes first: most likely it is full again,
    and a full bucket is the same as none.
    """

    def __init__(
        self,
        quotas: Mapping[Work, int],
        *,
        window_s: float,
        buckets_max: int,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.window_s = window_s
        self._quotas = quotas
        self._buckets_max = buckets_max
        self._clock = clock
        self._full_at: OrderedDict[tuple[str, Work], float] = OrderedDict()

    def __len__(self) -> int:
        return len(self._full_at)

    def take(self, merchant_id: str, work: Work) -> Standing | None:
        """Take a token, if there is one; None for a class that is not limited."""
        quota = self._quotas.get(work)
        if quota is None:
            return None
        key, now, each_s = (merchant_id, work), self._clock(), self.window_s / quota
        full_in_s = max(0.0, self._full_at.get(key, now) - now)
        # A millionth of a token: adding floats must not cost a merchant the last one.
        if full_in_s + each_s > self.window_s + each_s * 1e-6:
            wait_s = full_in_s + each_s - self.window_s
            return Standing(quota=quota, remaining=0, reset_s=full_in_s, retry_after_s=wait_s)
        full_in_s += each_s
        self._keep(key, now + full_in_s)
        remaining = math.floor((self.window_s - full_in_s) / each_s + 1e-6)
        return Standing(quota=quota, remaining=remaining, reset_s=full_in_s)

    def give_back(self, merchant_id: str, work: Work) -> None:
        """The token was taken from the wrong bucket."""
        key, quota = (merchant_id, work), self._quotas.get(work)
        if quota is not None and key in self._full_at:
            self._full_at[key] -= self.window_s / quota

    def _keep(self, key: tuple[str, Work], full_at: float) -> None:
        if key not in self._full_at and len(self._full_at) >= self._buckets_max:
            self._full_at.popitem(last=False)
        self._full_at[key] = full_at
        self._full_at.move_to_end(key)


class Waits:
    """How many requests of each merchant and class wait, each holding its place; at most `waiting_max` of the class."""

    def __init__(self, waiting_max: Mapping[Work, int]) -> None:
        self.waiting_max = waiting_max
        self._waiting: Counter[tuple[str, Work]] = Counter()

    def __len__(self) -> int:
        return len(self._waiting)

    def begin(self, merchant_id: str, work: Work) -> bool:
        """Whether one more may wait; then it does until its `end`."""
        if self._waiting[merchant_id, work] >= self.waiting_max[work]:
            return False
        self._waiting[merchant_id, work] += 1
        return True

    def end(self, merchant_id: str, work: Work) -> None:
        """One waits no longer."""
        self._waiting[merchant_id, work] -= 1
        if not self._waiting[merchant_id, work]:
            del self._waiting[merchant_id, work]  # else every merchant that ever came would stay
