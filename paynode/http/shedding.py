"""Who comes in: places by class, refusals by the age of what waits, quotas of merchants.

Two of the three are about the whole ingress and are asked before anything else is done for a request: a refusal must
cost little, or refusing is all that is left to do.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Final, Protocol

import anyio
import uuid_utils

from paynode.domain import ids
from paynode.http import rate_fields
from paynode.http.dressing import written
from paynode.http.glance import Begun
from paynode.http.pressure import Pace, Pressure
from paynode.http.problem import RETRY_AFTER_S, Problem, retry_after
from paynode.http.quotas import Quotas, Waits
from paynode.http.work import ORDER, Work
from paynode.sections import Overload

# Seconds that the oldest of something has been waiting by now; 0 when nothing waits.
Waiting = Callable[[], float]

# The share of the places that a class may fill: what is above it is kept free for those that are refused later.
# Half for the first to go, all for the last: a tenth of the places is nobody's but theirs.
SHARE_OF_PLACES: Final[Mapping[Work, float]] = {work: 0.5 + 0.1 * place for place, work in enumerate(ORDER)}
# One merchant's requests may wait on so much of their class's places: while a PSP is slow there is room for the others.
_SHARE_OF_ONE: Final = 1 / 4

_AGE: Final = "age"
_PLACES: Final = "places"
_RATE: Final = "rate"
_POLICY: Final = "overload"
_POLICY_OF_WAITS: Final = "waiting"


class ShedObserver(Protocol):
    """Who is told about refusals."""

    def answered(self, *, route: str, method: str, status: int, seconds: float, facts: Mapping[str, str]) -> None:
        """A request was refused by its first bytes."""

    def shed(self, work: str, reason: str) -> None:
        """A request was refused: too old is what waits (`age`), no place is left (`places`), too many of one merchant
        (`rate`), the group commit is full (`group`)."""


class Gate:
    """Lets requests in, one place each; `run` watches how late the event loop is."""

    def __init__(
        self,
        limits: Overload,
        observer: ShedObserver,
        *,
        waiting: Sequence[Waiting] = (),
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._limits = limits
        self._observer = observer
        self._waiting = waiting
        self._clock = clock
        self._places = {work: round(limits.requests_max * share) for work, share in SHARE_OF_PLACES.items()}
        self._fields = {
            work: {**rate_fields.of_places(_POLICY, places, retry_after_s=RETRY_AFTER_S), **retry_after()}
            for work, places in self._places.items()
        }
        self._pressure = Pressure(target_s=limits.target_ms / 1000, interval_s=limits.interval_ms / 1000)
        self.quotas = Quotas(
            {
                Work.EXPORT: limits.exports_max,
                Work.READ: limits.reads_max,
                Work.CHECKOUT: limits.checkouts_max,
                Work.POS: limits.pos_max,
                Work.OPERATION: limits.operations_max,
            },
            window_s=limits.window_s,
            buckets_max=limits.buckets_max,
            clock=clock,
        )
        self.waits = Waits({work: max(1, int(places * _SHARE_OF_ONE)) for work, places in self._places.items()})
        self._lag_s = 0.0
        self._look_at = float("inf")  # when the loop should have come by again
        self._pace = Pace()
        self._coming = 0
        self.under_way = 0

    async def run(self) -> None:
        """Look again and again, until cancelled. How late a look is, is how late everything is."""
        look_s = self._limits.look_ms / 1000
        while True:
            self._look_at = self._clock() + look_s
            await anyio.sleep(look_s)
            now = self._clock()
            self._lag_s = max(0.0, now - self._look_at)
            self._pressure.feel(self.age_s(now), now)
            self._pace.look(now)

    def age_s(self, now: float) -> float:
        """For how long the oldest of all that waits has been waiting."""
        return max([self._late_s(now), *(waits() for waits in self._waiting)])

    def _late_s(self, now: float) -> float:
        return max(self._lag_s, now - self._look_at)

    @contextmanager
    def admitted(self, work: Work) -> Iterator[Admission]:
        """A place, for as long as the block lasts.

        Raises: Problem (503).
        """
        self.check(work, self.under_way + 1)
        self.under_way += 1
        admission = Admission(self, work)
        try:
            yield admission
        finally:
            admission.leave()
            self.under_way -= 1
            self._pace.done += 1

    def check(self, work: Work, under_way: int) -> None:
        """Whether this class may be there while so many requests are.

        Raises: Problem (503).
        """
        refusal = self._refused(work, under_way, coming=0)
        if refusal is not None:
            raise refusal

    def refusal(self, begun: Begun) -> bytes:
        """The whole answer to a request that is refused by its head; empty for one that is not.

        Its line has no trace: its headers are not read.
        """
        found = self._refused(begun.work, self.under_way + self._coming + 1, coming=self._coming)
        if found is None:
            self._coming += 1
            return b""
        request_id = ids.public("req", str(uuid_utils.uuid7()))
        facts = {"request_id": request_id, "code": found.code}
        self._observer.answered(route=begun.route, method=begun.method, status=found.status, seconds=0.0, facts=facts)
        return written(found, request_id=request_id)

    def arrived(self) -> None:
        """One that was let in by its head asks for its place, or never will."""
        self._coming -= 1

    def charge(self, merchant_id: str, work: Work) -> Mapping[str, str]:
        """Count a merchant's request; the fields that tell how it stands.

        Raises: Problem (429).
        """
        standing = self.quotas.take(merchant_id, work)
        if standing is None:
            return {}
        fields = rate_fields.of_quota(work, standing, window_s=self.quotas.window_s)
        if standing.retry_after_s is None:
            return fields
        self._observer.shed(work, _RATE)
        detail = f"this merchant asks for more than {standing.quota} in {self.quotas.window_s:g} s; nothing was done"
        headers = {**fields, **retry_after(standing.retry_after_s)}
        raise Problem(status=429, code="rate_limited", detail=detail, headers=headers)

    def too_many_wait(self, work: Work) -> Problem:
        """The refusal of one who has no answer before his wait is over."""
        self._observer.shed(work, _RATE)
        fields = rate_fields.of_places(_POLICY_OF_WAITS, self.waits.waiting_max[work], retry_after_s=RETRY_AFTER_S)
        detail = "too many requests of this merchant wait; nothing was done"
        return Problem(status=429, code="rate_limited", detail=detail, headers={**fields, **retry_after()})

    def _refused(self, work: Work, under_way: int, *, coming: int) -> Problem | None:
        now = self._clock()
        age_s = self.age_s(now)
        self._pressure.feel(age_s, now)
        # Hundreds are read before the first of them is begun: in no queue yet, but ahead all the same. And a callback
        # waits in none of the queues: only a late loop is late for it too.
        expected_s = self._late_s(now) if work is Work.CALLBACK else age_s + coming * self._pace.each_s
        if under_way > self._places[work]:
            reason = _PLACES
        elif self._pressure.refuses(work, expected_s):
            reason = _AGE
        else:
            return None
        self._observer.shed(work, reason)
        detail = "more is asked for than can be done in time; nothing was done"
        return Problem(status=503, code="overloaded", detail=detail, headers=self._fields[work])


class Admission:
    """One request's place. `fields` are what its answer tells about the merchant's quota."""

    def __init__(self, gate: Gate, work: Work) -> None:
        self._gate = gate
        self._merchant_id: str | None = None
        self._is_waiting = False
        self.work = work
        self.fields: Mapping[str, str] = {}

    def charge(self, merchant_id: str) -> None:
        """It is known whose request it is.

        Raises: Problem (429).
        """
        self._merchant_id = merchant_id
        self.fields = self._gate.charge(merchant_id, self.work)

    def become(self, work: Work) -> None:
        """It is known by its body what it is about.

        Raises: Problem (503, 429).
        """
        if work is self.work:
            return
        if self._merchant_id is not None:
            self._gate.quotas.give_back(self._merchant_id, self.work)
        self.work = work
        self._gate.check(work, self._gate.under_way)
        if self._merchant_id is not None:
            self.charge(self._merchant_id)

    def wait(self) -> bool:
        """Keep the place while something is waited for; False when so many of the merchant's wait that it may not.

        Raises: Problem (429) at a point of sale, which has no answer before it is known.
        """
        if self._merchant_id is None:
            return True
        self._is_waiting = self._gate.waits.begin(self._merchant_id, self.work)
        if not self._is_waiting and self.work is Work.POS:
            self.fields = {}  # the refusal tells its own
            raise self._gate.too_many_wait(self.work)
        return self._is_waiting

    def leave(self) -> None:
        """Its place is given back."""
        if self._is_waiting and self._merchant_id is not None:
            self._gate.waits.end(self._merchant_id, self.work)
