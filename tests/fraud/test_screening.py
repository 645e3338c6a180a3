"""Who is asked, how often, and what follows: the screener, the sweep and the PSP's actor, each alone."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field, replace
from itertools import count

import anyio
import pytest

from paynode.actors.gateway import PspActor, Screening
from paynode.actors.screening import UNSCREENED, Rescreening, RescreeningRules, Screener
from paynode.domain.attempts import Attempt, Claim, Conclusion, GatewayCommand, Postponed, Turn
from paynode.domain.deciding import CommandKind
from paynode.domain.errors import Unavailable
from paynode.domain.money import Money
from paynode.domain.payment import Fact, Method, OperationKind, PspOrder
from paynode.domain.psp import Answer, Capabilities, Outcome, PspRequest
from paynode.domain.road import Pointer
from paynode.domain.screening import (
    NO_ALLOWANCE,
    NOT_SCREENED,
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
from paynode.runtime.stopping import Stop
from tests.fraud.conftest import question
from tests.support.waiting import wait_until

ORDER = PspOrder(
    operation_id="op-1",
    payment_id="pay-1",
    merchant_id="mer-1",
    psp="sim",
    money=Money(amount=1000, currency="EUR"),
    method=Method.TOKEN,
    token="tok",
    description="a secret gift",
)
EUROS = Allowance(payment_max=1, hour_max=2)
PASSED, REJECTED, HELD, BYPASSED = (
    Screened(verdict=verdict, reason="why")
    for verdict in (Verdict.PASSED, Verdict.REJECTED, Verdict.HELD, Verdict.BYPASSED)
)
OUT = Judgement(opinion=Opinion.OUT, reason="timeout")
PASS = Judgement(opinion=Opinion.PASS)


@dataclass
class Check:
    """Says what it is told to, in turn; the last for ever."""

    says: list[Judgement]
    asked: list[Question] = field(default_factory=list)

    async def ask(self, question: Question) -> Judgement:
        self.asked.append(question)
        return self.says.pop(0) if len(self.says) > 1 else self.says[0]


@dataclass
class Kept:
    """Verdicts in memory."""

    verdicts: dict[str, Screened] = field(default_factory=dict)
    allowances: list[Allowance] = field(default_factory=list)

    async def find(self, operation_id: str, payment_id: str) -> Standing:
        assert payment_id == ORDER.payment_id
        return Standing(screened=self.verdicts.get(operation_id), customer="digest")

    async def record(self, question: Question, screened: Screened) -> Screened:
        return self.verdicts.setdefault(question.operation_id, screened)

    async def bypass(self, question: Question, reason: str, allowance: Allowance) -> Screened:
        self.allowances.append(allowance)
        return self.verdicts.setdefault(question.operation_id, replace(BYPASSED, reason=reason))


@dataclass
class Heard:
    """An observer."""

    verdicts: list[Screened] = field(default_factory=list)
    settled: list[Settled] = field(default_factory=list)
    failures: int = 0

    def screened(self, screened: Screened) -> None:
        self.verdicts.append(screened)

    def screening_settled(self, question: Question, settled: Settled) -> None:
        self.settled.append(settled)

    def rescreening_failed(self, error: Exception) -> None:
        self.failures += 1


def screener(check: Check, kept: Kept, heard: Heard) -> Screener:
    return Screener(check, kept, heard, allowances={"EUR": EUROS})


@pytest.mark.parametrize(
    ("judgement", "expected"),
    [
        (Judgement(opinion=Opinion.PASS, reason="why"), PASSED),
        (Judgement(opinion=Opinion.REJECT, reason="why"), REJECTED),
        (Judgement(opinion=Opinion.REVIEW, reason="why"), HELD),
        (OUT, replace(BYPASSED, reason="timeout")),
    ],
)
async def test_a_charge_is_asked_about_once_and_has_the_same_verdict_every_time(
    judgement: Judgement, expected: Screened
) -> None:
    check, kept, heard = Check([judgement]), Kept(), Heard()
    for _ in range(3):
        assert await screener(check, kept, heard).screen(ORDER) == expected
    assert check.asked == [Question.about(ORDER, "digest")]
    assert heard.verdicts == [expected]
    assert kept.allowances == ([EUROS] if judgement is OUT else [])


async def test_a_verdict_that_another_has_given_meanwhile_counts() -> None:
    kept = Kept()

    class Slow(Check):
        async def ask(self, question: Question) -> Judgement:
            kept.verdicts[question.operation_id] = REJECTED
            return await super().ask(question)

    assert await screener(Slow([PASS]), kept, Heard()).screen(ORDER) == REJECTED


async def test_a_currency_without_an_allowance_has_none() -> None:
    kept = Kept()
    await screener(Check([OUT]), kept, Heard()).screen(replace(ORDER, money=Money(amount=1, currency="JPY")))
    assert kept.allowances == [NO_ALLOWANCE]


@pytest.mark.parametrize(
    "kind", [OperationKind.CAPTURE, OperationKind.VOID, OperationKind.REFUND, OperationKind.CANCEL]
)
async def test_what_follows_a_charge_is_not_asked_about(kind: OperationKind) -> None:
    check = Check([OUT])
    order = replace(ORDER, kind=kind, charge_id="op-0", charge_reference="ch_0")
    assert await screener(check, Kept(), Heard()).screen(order) == NOT_SCREENED
    assert check.asked == []


# -- the PSP's actor --------------------------------------------------------------------------------------------------

APPROVED = Answer(outcome=Outcome.APPROVED, reference="ch_1", amount=1000, currency="EUR")
OPEN = Attempt(
    id="attempt-0",
    psp="sim",
    request=PspRequest(path="/", body=b"", idempotency_key="op-1"),
    outcome=None,
    is_past_deadline=False,
    age_ms=1,
    sent_ms=1,
)


@dataclass
class Says:
    """A screening."""

    screened: Screened
    error: Exception | None = None

    async def screen(self, order: PspOrder) -> Screened:
        assert order is ORDER
        if self.error is not None:
            raise self.error
        return self.screened


class Psp:
    """Counts what is sent."""

    sent = 0

    @property
    def capabilities(self) -> Capabilities:
        raise NotImplementedError

    def prepare(self, order: PspOrder) -> PspRequest:
        return PspRequest(path="/", body=b"", idempotency_key=order.operation_id)

    @asynccontextmanager
    async def turn_to_send(self, order: PspOrder, *, is_retry: bool, is_urgent: bool) -> AsyncIterator[Turn]:
        yield Turn()

    def turn_to_ask(self) -> AbstractAsyncContextManager[Turn]:
        raise NotImplementedError

    async def send(self, order: PspOrder, request: PspRequest, *, send_by: float, deadline: float) -> Answer:
        self.sent += 1
        return APPROVED

    async def find(self, order: PspOrder, *, deadline: float) -> Answer | None:
        raise NotImplementedError


@dataclass
class Rows:
    """One attempt or none."""

    attempt: Attempt | None = None
    claimed: int = 0

    async def submit(self, claim: Claim, /) -> bool:
        self.claimed += 1
        return self.attempt is None

    async def find(self, operation_id: str) -> Attempt | None:
        return self.attempt

    async def claim(self, claims: Sequence[Claim]) -> Sequence[bool]:
        raise NotImplementedError

    async def claim_resend(self, attempt_id: str, *, idempotent_for_s: float) -> bool:
        raise NotImplementedError

    async def conclude(self, conclusions: Sequence[Conclusion]) -> Sequence[Pointer]:
        raise NotImplementedError


async def submitted(screening: Screening, psp: Psp, rows: Rows) -> Conclusion | None:
    ids = count()
    actor = PspActor(
        psp,
        rows,
        rows,
        new_id=lambda: f"id-{next(ids)}",
        send_within_s=5,
        call_deadline_s=10,
        now_ms=lambda: 0,
        screening=screening,
    )
    concluded = await actor.perform(GatewayCommand(ref="row", kind=CommandKind.SUBMIT, order=ORDER))
    assert not isinstance(concluded, Postponed)
    return concluded


@pytest.mark.parametrize(
    ("screening", "fraud_check"),
    [(Says(PASSED), "passed"), (Says(BYPASSED), "bypassed"), (UNSCREENED, None)],
)
async def test_what_may_pass_is_sent_and_says_how_it_passed(screening: Screening, fraud_check: str | None) -> None:
    psp, rows = Psp(), Rows()
    concluded = await submitted(screening, psp, rows)
    assert concluded is not None
    assert (psp.sent, concluded.answer) == (1, replace(APPROVED, fraud_check=fraud_check))
    assert concluded.fact is not None
    assert concluded.fact.fraud_check == fraud_check


@pytest.mark.parametrize(
    ("screened", "answer"),
    [
        (REJECTED, Answer(outcome=Outcome.DECLINED, reason="fraud_rejected", fraud_check="rejected")),
        (HELD, Answer(outcome=Outcome.HELD, reason="why", fraud_check="review")),
    ],
)
async def test_what_may_not_pass_is_never_claimed(screened: Screened, answer: Answer) -> None:
    psp, rows = Psp(), Rows()
    concluded = await submitted(Says(screened), psp, rows)
    assert concluded is not None
    assert (concluded.attempt_id, concluded.answer) == (None, answer)
    assert (psp.sent, rows.claimed) == (0, 0)


@pytest.mark.parametrize("screened", [REJECTED, HELD])
async def test_what_may_have_been_sent_before_anybody_asked_is_not_called_declined(screened: Screened) -> None:
    """The check was switched on while a charge was under way: its attempt is open, and only the PSP can say."""
    psp, rows = Psp(), Rows(attempt=OPEN)
    assert await submitted(Says(screened), psp, rows) is None
    lost = await submitted(Says(screened), psp, Rows(attempt=replace(OPEN, is_past_deadline=True)))
    assert lost is not None
    assert lost.answer is not None
    assert lost.answer.outcome is Outcome.UNKNOWN
    assert (psp.sent, rows.claimed) == (0, 0)


async def test_without_a_verdict_nothing_is_sent() -> None:
    psp, rows = Psp(), Rows()
    with pytest.raises(Unavailable):
        await submitted(Says(PASSED, error=Unavailable("away")), psp, rows)
    assert (psp.sent, rows.claimed) == (0, 0)


# -- the sweep --------------------------------------------------------------------------------------------------------


@dataclass
class Debts:
    """What is owed, those asked least first."""

    waiting: list[Owed]
    postponed: list[str] = field(default_factory=list)
    markers: list[Fact] = field(default_factory=list)
    commands: list[str] = field(default_factory=list)
    given_back: list[bool] = field(default_factory=list)
    fails: int = 0
    defers: int = 0

    async def owed(self, count: int) -> Sequence[Owed]:
        if self.fails:
            self.fails -= 1
            raise Unavailable("away")
        return self.waiting[:count]

    async def postpone(self, operation_id: str) -> None:
        self.postponed.append(operation_id)
        self.waiting.append(self.waiting.pop(0))

    async def settle(
        self, question: Question, judgement: Judgement, *, command_id: str, marker: Fact, giving_back_id: str | None
    ) -> Settled:
        [owed] = [one for one in self.waiting if one.question == question]
        self.waiting.remove(owed)
        if self.defers:
            self.defers -= 1
            self.waiting.append(owed)
            return Settled.DEFERRED
        self.given_back.append(giving_back_id is not None)
        self.markers.append(marker)
        self.commands.append(command_id)
        return Settled.CONFIRMED


@dataclass
class Lease:
    """On being the one who asks again."""

    is_held: bool = True
    dropped: int = 0

    async def hold(self) -> bool:
        return self.is_held

    async def drop(self) -> None:
        self.dropped += 1


def owed(number: int) -> list[Owed]:
    return [Owed(question=question(), verdict=Verdict.HELD) for _ in range(number)]


def sweep(
    check: Check, debts: Debts, heard: Heard, lease: Lease | None = None, *, gives_back: bool = False
) -> Rescreening:
    ids = count()
    rules = RescreeningRules(interval_s=0.001, sweep_size=2, gives_back=gives_back)
    return Rescreening(check, debts, lease or Lease(), heard, rules, new_id=lambda: f"id-{next(ids)}")


async def running_until(rescreening: Rescreening, predicate: Callable[[], bool], description: str) -> None:
    stop = Stop()
    async with anyio.create_task_group() as group:
        group.start_soon(rescreening.run, stop)
        await wait_until(predicate, description)
        stop.set()


async def test_what_is_owed_is_asked_again_until_nothing_is() -> None:
    check, debts, heard, lease = Check([PASS]), Debts(owed(5)), Heard(), Lease()
    wanted = [one.question for one in debts.waiting]
    await running_until(sweep(check, debts, heard, lease), lambda: not debts.waiting, "all is settled")
    assert check.asked == wanted
    assert heard.settled == [Settled.CONFIRMED] * 5
    assert len(set(debts.commands) | {marker.event_id for marker in debts.markers}) == 10
    assert lease.dropped == 1


async def test_while_the_check_is_out_one_question_a_sweep_is_enough_and_never_the_same_first() -> None:
    check, debts = Check([OUT]), Debts(owed(3))
    first = [one.question.operation_id for one in debts.waiting]
    rescreening = sweep(check, debts, Heard())
    assert [await rescreening.run_once() for _ in range(3)] == [False] * 3
    assert debts.postponed == first


async def test_a_question_that_the_check_cannot_answer_holds_up_nobody() -> None:
    debts = Debts(owed(3))
    bad = debts.waiting[0].question

    class Picky(Check):
        async def ask(self, question: Question) -> Judgement:
            return OUT if question == bad else PASS

    await running_until(
        sweep(Picky([PASS]), debts, Heard()),
        lambda: [one.question for one in debts.waiting] == [bad],
        "all others are settled",
    )


async def test_a_page_of_which_nothing_can_be_settled_yet_is_not_asked_about_again_at_once() -> None:
    debts, heard = Debts(owed(2), defers=3), Heard()
    rescreening = sweep(Check([PASS]), debts, heard)
    assert [await rescreening.run_once() for _ in range(2)] == [False, True]
    assert heard.settled == [Settled.DEFERRED] * 3 + [Settled.CONFIRMED]


async def test_money_is_given_back_only_where_that_is_wanted() -> None:
    for gives_back in (False, True):
        debts = Debts(owed(1))
        await sweep(Check([PASS]), debts, Heard(), gives_back=gives_back).run_once()
        assert debts.given_back == [gives_back]


async def test_a_sweep_that_breaks_off_is_begun_again_and_who_has_no_lease_asks_nobody() -> None:
    check, debts, heard = Check([PASS]), Debts(owed(1), fails=2), Heard()
    await running_until(sweep(check, debts, heard), lambda: not debts.waiting, "all is settled")
    assert heard.failures == 2
    idle, lease = Check([PASS]), Lease(is_held=False)
    stop = Stop()
    async with anyio.create_task_group() as group:
        group.start_soon(sweep(idle, Debts(owed(1)), heard, lease).run, stop)
        await anyio.sleep(0.02)
        stop.set()
    assert (idle.asked, lease.dropped) == ([], 1)
