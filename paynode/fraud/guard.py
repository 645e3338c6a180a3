"""The fraud check behind its guards: a deadline that covers the wait too, so many questions at once, a breaker.

A charge waits for it, so that the deadline is short; and a check that is out costs every charge that deadline until the
breaker opens, after which nobody waits.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final, Protocol

import anyio

from paynode.domain.screening import Judgement, Opinion, Question
from paynode.fraud.words import out

# No place was free in time: our own limit, and no fault of the check.
_NO_PLACE: Final = "no_place"


class Permit(Protocol):
    """The right to ask once."""

    def report(self, *, has_failed: bool) -> None: ...
    def give_back(self) -> None: ...


class Breaker(Protocol):
    """Says whether the check may be asked now. The same as a PSP's; handed in, because the wings do not touch."""

    def enter(self) -> Permit | None: ...


class Client(Protocol):
    """Asks; raises nothing."""

    async def ask(self, question: Question, *, deadline_s: float) -> Judgement: ...


class CheckObserver(Protocol):
    """Hears of questions."""

    def fraud_checked(self, judgement: Judgement, seconds: float) -> None: ...


class GuardedCheck:
    """Asks within `deadline_s` seconds, `concurrency` questions at once. What comes too late is no opinion.

    A place must be had within half of that. So the check always has the other half to itself, and its silence may be
    counted against it.
    """

    def __init__(
        self,
        client: Client,
        breaker: Breaker,
        observer: CheckObserver,
        *,
        deadline_s: float,
        concurrency: int,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._client = client
        self._breaker = breaker
        self._observer = observer
        self._deadline_s = deadline_s
        self._places = anyio.Semaphore(concurrency)
        self._clock = clock

    async def ask(self, question: Question) -> Judgement:
        """An opinion, or OUT with the reason. Raises nothing but cancellation."""
        begun = self._clock()
        judgement = await self._at_a_place(question, begun)
        self._observer.fraud_checked(judgement, self._clock() - begun)
        return judgement

    async def _at_a_place(self, question: Question, begun: float) -> Judgement:
        has_place = False
        try:
            with anyio.move_on_after(self._deadline_s / 2):
                await self._places.acquire()
                has_place = True
            if not has_place:
                return out(_NO_PLACE)
            # Asked for only now: whoever waits must not hold the one probe of a half-open breaker.
            return await self._permitted(question, self._deadline_s - (self._clock() - begun))
        finally:
            if has_place:
                self._places.release()

    async def _permitted(self, question: Question, left_s: float) -> Judgement:
        permit = self._breaker.enter()
        if permit is None:
            return out("breaker_open")
        try:
            judgement = await self._client.ask(question, deadline_s=left_s)
            permit.report(has_failed=judgement.opinion is Opinion.OUT)
            return judgement
        finally:
            permit.give_back()
