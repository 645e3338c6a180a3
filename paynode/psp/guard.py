"""A PSP behind its guards: every adapter is used through this, never bare.

Whoever wants to call waits for its turn first: for a place, and for the pace of the account, both for a bounded time.
What is refused a turn was not sent, and that is proof: it was refused before there was a connection. The deadline of a
call is the adapter's own, which alone knows what has left by then.
"""

from __future__ import annotations

import random
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Final, Protocol

import anyio

from paynode.domain.attempts import Turn
from paynode.domain.guarding import CALL_KINDS, INQUIRY, BreakerAction, BreakerVitals, Company, Vitals
from paynode.domain.payment import OperationKind, PspOrder
from paynode.domain.psp import Answer, Capabilities, Outcome, PspRequest
from paynode.psp.adapter import Adapter
from paynode.psp.breaker import Breaker, BreakerRules, State
from paynode.psp.budget import BudgetRules, RetryBudget
from paynode.psp.bulkhead import Bulkhead, Rank
from paynode.psp.pace import Pace
from paynode.psp.probes import Gate, Leave, OwnProbes, Probes

_CHARGES: Final = (OperationKind.SALE, OperationKind.AUTHORIZE)

# Seconds that a breaker was open for, and seconds after it has closed in which the PSP is then called no more often
# than this share of what is usual. Retries have their budget; but new payments, too, may have piled up on the way. A
# minute: by then the relay and the actors have brought what an outage delayed. Ten calls a second are no storm for
# anybody, and a small shop's morning rush.
_OUTAGE_S: Final = 10.0
_RETURN_S: Final = 60.0
_RETURN_MAX: Final = 1.1
_RETURN_PER_S: Final = 10.0


class CallObserver(Protocol):
    """Hears of calls and breakers."""

    def calling(self, psp: str, change: int) -> None: ...
    def called(self, psp: str, operation: str, answer: Answer | None, seconds: float) -> None: ...
    def refused(self, psp: str, operation: str, reason: str) -> None: ...
    def retrying(self, psp: str) -> None: ...
    def breaker_is(self, psp: str, operation: str, state: State) -> None: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class GuardRules:
    """`places` for calls at once, of which `reserved` are not for new charges; a call waits for its turn for at most
    `wait_max_s` seconds, and of each rank at most `waiting_max` do. `per_s_max`: calls a second of all processes, 0:
    no limit. A probe is over after `probe_s` seconds: more than a call takes from its turn to its answer."""

    breaker: BreakerRules
    budget: BudgetRules
    places: int
    reserved: int
    waiting_max: int
    wait_max_s: float
    per_s_max: float
    probe_s: float = 20.0


class GuardedPsp:
    """An adapter with a breaker for each kind of call, and one bulkhead, one pace and one retry budget for all."""

    def __init__(
        self,
        name: str,
        adapter: Adapter,
        observer: CallObserver,
        rules: GuardRules,
        *,
        clock: Callable[[], float],
        chance: Callable[[], float] = random.random,
        probes: Probes | None = None,
    ) -> None:
        """Without `probes` a breaker probes as if no other process did."""
        self._name = name
        self._adapter = adapter
        self._observer = observer
        self._rules = rules
        self._clock = clock
        self._chance = chance
        self._breakers = {kind: Breaker(rules.breaker, clock=clock) for kind in CALL_KINDS}
        shared = probes or OwnProbes(clock=clock)
        self._gates = {
            kind: Gate(kind, breaker, shared, open_s=rules.breaker.open_s, lease_s=rules.probe_s, clock=clock)
            for kind, breaker in self._breakers.items()
        }
        self._bulkhead = Bulkhead(places=rules.places, reserved=rules.reserved, waiting_max=rules.waiting_max)
        self._pace = Pace(rules.per_s_max)
        self._budget = RetryBudget(rules.budget, clock=clock, chance=chance)
        self._in_flight = 0
        self._pacing = 0
        self._returns_until: float | None = None
        self._obeyed: dict[str, int] | None = None
        # By operation: what a turn has reserved at the breaker for the sending that comes of it.
        self._leaves: dict[str, Leave] = {}

    @property
    def name(self) -> str:
        """Which PSP it is."""
        return self._name

    @property
    def capabilities(self) -> Capabilities:
        """What the PSP can do."""
        return self._adapter.capabilities

    def prepare(self, order: PspOrder) -> PspRequest:
        """The bytes that ask for an operation."""
        return self._adapter.prepare(order)

    # -- turns ----------------------------------------------------------------------------------------------------

    @asynccontextmanager
    async def turn_to_send(self, order: PspOrder, *, is_retry: bool, is_urgent: bool) -> AsyncIterator[Turn]:
        """The turn to send an operation for the first time; kept until the call is over.

        `is_retry`: it was tried before, and provably not sent. `is_urgent`: somebody stands at a till. A charge that is
        refused may go to another PSP; whatever else is asked belongs to this one, and is only told to wait.
        """
        if not is_retry:
            self._budget.came()
        if self._breakers[order.kind].refuses:
            yield self._refusal(order, "breaker_open")
            return
        is_reserved = is_urgent or order.kind not in _CHARGES
        if is_retry:
            pause_s = self._budget.take(is_reserved=is_reserved)
            if pause_s is not None:
                self._observer.refused(self._name, order.kind, "retry_budget")
                yield Turn(pause_s=pause_s)
                return
            self._observer.retrying(self._name)
        else:
            self._budget.sent()
        async with self._place(Rank.RESERVED if is_reserved else Rank.ORDINARY) as reason:
            if reason:
                yield self._refusal(order, reason)
                return
            # Taken now: of many that wait while it is half open one may call, and the others are not even claimed.
            leave = await self._gates[order.kind].enter()
            if leave is None:
                yield self._refusal(order, "breaker_open")
                return
            async with self._reserved(order.operation_id, leave):
                yield Turn()

    @asynccontextmanager
    async def _reserved(self, operation_id: str, leave: Leave) -> AsyncIterator[None]:
        self._leaves[operation_id] = leave
        try:
            yield
        finally:
            is_unused = self._leaves.get(operation_id) is leave
            if is_unused:
                del self._leaves[operation_id]
            leave.give_back()
        if is_unused:
            await leave.report(has_failed=None)  # nothing came of it: another has claimed the sending

    @asynccontextmanager
    async def turn_to_ask(self) -> AsyncIterator[Turn]:
        """The turn to inquire. Refused, it says nothing about the operation: so it is asked later."""
        if self._breakers[INQUIRY].refuses:
            yield self._later(INQUIRY, "breaker_open")
            return
        async with self._place(Rank.RESERVED) as reason:
            yield self._later(INQUIRY, reason) if reason else Turn()

    @asynccontextmanager
    async def _place(self, rank: Rank) -> AsyncIterator[str]:
        """A place in the account's pace; else why there is none."""
        if not await self._bulkhead.enter(rank, within_s=self._rules.wait_max_s):
            yield "bulkhead_full"
            return
        try:
            yield "" if await self._paced(rank) else "pace"
        finally:
            self._bulkhead.leave()

    async def _paced(self, rank: Rank) -> bool:
        self._hold_back()
        if self._pace.is_free:
            return True
        self._pacing += 1
        try:
            with anyio.move_on_after(self._rules.wait_max_s) as scope:
                await self._pace.turn(rank)
            return not scope.cancelled_caught
        finally:
            self._pacing -= 1

    def _refusal(self, order: PspOrder, reason: str) -> Turn:
        if order.kind not in _CHARGES:
            return self._later(order.kind, reason)
        self._observer.refused(self._name, order.kind, reason)
        return Turn(refusal=reason)

    def _later(self, operation: str, reason: str) -> Turn:
        self._observer.refused(self._name, operation, reason)
        about_s = self._rules.breaker.open_s if reason == "breaker_open" else self._rules.wait_max_s
        # Full jitter around twice the time after which it may be otherwise.
        return Turn(pause_s=self._chance() * 4 * about_s)

    # -- calls ----------------------------------------------------------------------------------------------------

    async def send(self, order: PspOrder, request: PspRequest, *, send_by: float, deadline: float) -> Answer:
        """Send the bytes unless the breaker refuses: then they were not sent."""
        leave = self._leaves.pop(order.operation_id, None) or await self._gates[order.kind].enter()
        if leave is None:
            self._observer.refused(self._name, order.kind, "breaker_open")
            return Answer(outcome=Outcome.NOT_SENT, reason="breaker_open")
        send_by, deadline = min(send_by, leave.until), min(deadline, leave.until)
        answer = await self._guarded(
            order.kind, leave, lambda: self._adapter.send(order, request, send_by=send_by, deadline=deadline)
        )
        assert answer is not None, "only an inquiry finds nothing"
        return answer

    async def find(self, order: PspOrder, *, deadline: float) -> Answer | Turn | None:
        """Ask unless the breaker refuses: then nothing is known, and it is to be asked later."""
        leave = await self._gates[INQUIRY].enter()
        if leave is None:
            return self._later(INQUIRY, "breaker_open")
        deadline = min(deadline, leave.until)
        return await self._guarded(INQUIRY, leave, lambda: self._adapter.find(order, deadline=deadline))

    async def _guarded(
        self, operation: str, leave: Leave, call: Callable[[], Awaitable[Answer | None]]
    ) -> Answer | None:
        breaker = self._breakers[operation]
        open_for_s, begun = breaker.open_for_s, self._clock()
        self._calling(1)
        try:
            answer = _storable(await call())
            await leave.report(has_failed=_has_failed(answer))
        finally:
            leave.give_back()
            self._calling(-1)
        if breaker.state is State.CLOSED:
            self._returned(open_for_s)
        self._observer.called(self._name, operation, answer, self._clock() - begun)
        self._observer.breaker_is(self._name, operation, breaker.state)
        return answer

    def _returned(self, open_for_s: float) -> None:
        """It answers again: it is not to be thrown down by what has waited, if that can be much."""
        if open_for_s < _OUTAGE_S:
            return
        self._returns_until = self._clock() + _RETURN_S
        self._pace.hold_to(max(_RETURN_MAX * self._budget.usual_per_s, _RETURN_PER_S))

    def _hold_back(self) -> None:
        if self._returns_until is not None and self._clock() >= self._returns_until:
            self._returns_until = None
            self._pace.hold_to(None)

    def _calling(self, change: int) -> None:
        self._in_flight += change
        self._observer.calling(self._name, change)

    # -- telling and obeying --------------------------------------------------------------------------------------

    @property
    def vitals(self) -> Vitals:
        """How the guards stand."""
        return Vitals(
            breakers={
                kind: BreakerVitals(
                    state=breaker.state.value, is_held=breaker.is_held, calls=breaker.calls, failures=breaker.failures
                )
                for kind, breaker in self._breakers.items()
            },
            in_flight=self._in_flight,
            waiting=self._bulkhead.waiting + self._pacing,
            pace_per_s=self._pace.per_s,
            retries_per_s=self._budget.per_s,
        )

    def obey(self, company: Company) -> None:
        """Take our share of the pace, and do what operators have said since the last time.

        A process that has just started holds open what is held open; a reset of before its time is none of its own.
        """
        self._pace.share(company.live)
        is_new = self._obeyed is None
        obeyed = self._obeyed or {}
        for order in company.orders:
            breaker = self._breakers.get(order.operation)
            if breaker is None or obeyed.get(order.operation) == order.number:
                continue
            if order.action is BreakerAction.TRIP:
                breaker.hold_open()
            elif not is_new:
                self._returned(breaker.open_for_s)
                breaker.reset()
            self._observer.breaker_is(self._name, order.operation, breaker.state)
        self._obeyed = {order.operation: order.number for order in company.orders}


def _has_failed(answer: Answer | None) -> bool | None:
    """Whether the PSP has; None: it never came to a call, and that tells neither good nor bad of it."""
    if answer is None:
        return False
    if answer.outcome is Outcome.NOT_SENT and not answer.is_psp_failure:
        return None
    return answer.is_psp_failure


def _storable(answer: Answer | None) -> Answer | None:
    """An answer that no row could hold was not understood: no adapter's carelessness may stop the gateway."""
    if answer is None or answer.is_storable:
        return answer
    return Answer(outcome=Outcome.UNKNOWN, reason="answer_invalid", is_psp_failure=True)
