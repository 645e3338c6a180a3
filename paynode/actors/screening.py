"""Screening charges: one before it is sent, and once more those about which the check was asked in vain."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Protocol, assert_never

from paynode.domain.errors import Transient
from paynode.domain.payment import Fact, PspOrder, Source
from paynode.domain.psp import Outcome
from paynode.domain.screening import (
    LATE_REJECTED_REASON,
    NO_ALLOWANCE,
    NOT_SCREENED,
    SCREENED_KINDS,
    Allowance,
    Judgement,
    Opinion,
    Owed,
    Question,
    Screened,
    Settled,
    Standing,
    Verdict,
)
from paynode.runtime.rounds import Rounds, Singleton
from paynode.runtime.stopping import Stop


class Check(Protocol):
    """The fraud check behind its guards. Raises nothing: no usable answer is no opinion."""

    async def ask(self, question: Question) -> Judgement: ...


class Screenings(Protocol):
    """Verdicts, each given once. Raises: Unavailable, Conflict."""

    async def find(self, operation_id: str, payment_id: str) -> Standing: ...
    async def record(self, question: Question, screened: Screened) -> Screened: ...
    async def bypass(self, question: Question, reason: str, allowance: Allowance) -> Screened: ...


class Debts(Protocol):
    """What the check owes an answer about. Raises: Unavailable, Conflict."""

    async def owed(self, count: int) -> Sequence[Owed]: ...
    async def postpone(self, operation_id: str) -> None: ...
    async def settle(
        self, question: Question, judgement: Judgement, *, command_id: str, marker: Fact, giving_back_id: str | None
    ) -> Settled: ...


class ScreeningObserver(Protocol):
    """Hears of verdicts."""

    def screened(self, screened: Screened) -> None: ...
    def screening_settled(self, question: Question, settled: Settled) -> None: ...
    def rescreening_failed(self, error: Exception) -> None: ...


class Screener:
    """Gives each charge its verdict before it is sent for the first time.

    The verdict is kept by the operation. Whoever is brought the same operation again, after a crash or because nothing
    was sent the first time, gets the same one: it asks nobody and counts nothing twice.
    """

    def __init__(
        self,
        check: Check,
        screenings: Screenings,
        observer: ScreeningObserver,
        *,
        allowances: Mapping[str, Allowance],
    ) -> None:
        self._check = check
        self._screenings = screenings
        self._observer = observer
        self._allowances = allowances

    async def screen(self, order: PspOrder) -> Screened:
        """The verdict on an order. Raises: Unavailable, Conflict; then nothing may be sent yet."""
        if order.kind not in SCREENED_KINDS:
            return NOT_SCREENED
        standing = await self._screenings.find(order.operation_id, order.payment_id)
        if standing.screened is not None:
            return standing.screened
        question = Question.about(order, standing.customer)
        screened = await self._verdict(question, await self._check.ask(question))
        self._observer.screened(screened)
        return screened

    async def _verdict(self, question: Question, judgement: Judgement) -> Screened:
        match judgement.opinion:
            case Opinion.PASS:
                verdict = Verdict.PASSED
            case Opinion.REJECT:
                verdict = Verdict.REJECTED
            case Opinion.REVIEW:
                verdict = Verdict.HELD
            case Opinion.OUT:
                allowance = self._allowances.get(question.money.currency, NO_ALLOWANCE)
                return await self._screenings.bypass(question, judgement.reason, allowance)
            case _:
                assert_never(judgement.opinion)
        return await self._screenings.record(question, Screened(verdict=verdict, reason=judgement.reason))


class Unscreened:
    """No fraud check is configured: nobody is asked, and nothing is kept."""

    async def screen(self, order: PspOrder) -> Screened:
        """Says that nobody looked."""
        del order
        return NOT_SCREENED


UNSCREENED: Final = Unscreened()


@dataclass(frozen=True, slots=True, kw_only=True)
class RescreeningRules:
    """Seconds between sweeps; charges of one sweep; whether what was rejected too late is given back."""

    interval_s: float
    sweep_size: int
    gives_back: bool


class Rescreening:
    """Asks again about what went unscreened or was held, once the check answers. One process at a time does it."""

    def __init__(
        self,
        check: Check,
        debts: Debts,
        singleton: Singleton,
        observer: ScreeningObserver,
        rules: RescreeningRules,
        *,
        new_id: Callable[[], str],
    ) -> None:
        self._check = check
        self._debts = debts
        self._rounds = Rounds(singleton, observer.rescreening_failed, interval_s=rules.interval_s, transient=Transient)
        self._observer = observer
        self._rules = rules
        self._new_id = new_id

    async def run(self, stop: Stop) -> None:
        """Sweep until `stop`."""
        await self._rounds.run(self.run_once, stop)

    async def run_once(self) -> bool:
        """Ask about what is owed; says whether there may be more to ask about now.

        Once the check says nothing it is not back yet. The next sweep begins with another charge, so that one which it
        cannot answer holds up nobody.
        """
        page, is_less = await self._debts.owed(self._rules.sweep_size), False
        for owed in page:
            judgement = await self._check.ask(owed.question)
            if judgement.opinion is Opinion.OUT:
                await self._debts.postpone(owed.question.operation_id)
                return False
            if await self._settle(owed.question, judgement) is not Settled.DEFERRED:
                is_less = True
        # A page that is owed as before is not asked about again at once.
        return is_less and len(page) == self._rules.sweep_size

    async def _settle(self, question: Question, judgement: Judgement) -> Settled:
        settled = await self._debts.settle(
            question,
            judgement,
            command_id=self._new_id(),
            marker=late_rejection(question, event_id=self._new_id()),
            giving_back_id=self._new_id() if self._rules.gives_back else None,
        )
        self._observer.screening_settled(question, settled)
        return settled


def late_rejection(question: Question, *, event_id: str) -> Fact:
    """Evidence that a charge should not have been sent. It says nothing about money, and moves none."""
    return Fact(
        event_id=event_id,
        payment_id=question.payment_id,
        operation_id=question.operation_id,
        outcome=Outcome.HELD,
        source=Source.INQUIRY,
        reason=LATE_REJECTED_REASON,
        fraud_check="rejected",
    )
