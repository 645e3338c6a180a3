"""PspActor: every way through a command, and the conclusion at its end."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from itertools import count

import pytest

from paynode.actors.gateway import PspActor
from paynode.domain.attempts import Attempt, Claim, Conclusion, GatewayCommand, Postponed, Turn
from paynode.domain.deciding import CommandKind
from paynode.domain.errors import Unavailable
from paynode.domain.money import Money
from paynode.domain.payment import Method, PspOrder, Source
from paynode.domain.psp import Answer, Capabilities, Outcome, PspRequest
from paynode.domain.road import Pointer

ORDER = PspOrder(
    operation_id="op-1",
    payment_id="pay-1",
    merchant_id="mer-1",
    psp="sim",
    money=Money(amount=1000, currency="EUR"),
    method=Method.TOKEN,
    token="tok",
)
PREPARED = PspRequest(path="/charges", body=b"prepared", idempotency_key="op-1")
STORED = PspRequest(path="/charges", body=b"stored", idempotency_key="op-1")
APPROVED = Answer(outcome=Outcome.APPROVED, reference="ch_1", amount=1000, currency="EUR")
DECLINED = Answer(outcome=Outcome.DECLINED, reason="insufficient_funds")
IN_DOUBT = Answer(outcome=Outcome.UNKNOWN, reason="timeout")
NOT_SENT = Answer(outcome=Outcome.NOT_SENT, reason="breaker_open")
PENDING = Answer(outcome=Outcome.PENDING, page_url="https://psp.example/a")
IDEMPOTENT_FOR_MS = 86_400_000
CAPABILITIES = Capabilities(
    has_page=True,
    has_token=True,
    can_authorize=True,
    can_capture_partially=True,
    can_capture_repeatedly=True,
    can_refund_partially=True,
    can_cancel_page=True,
    is_callback_binding=True,
    idempotent_for_s=IDEMPOTENT_FOR_MS / 1000,
    settle_s=60.0,
)
SEND_WITHIN_S, CALL_DEADLINE_S = 5.0, 10.0
PENDING_INQUIRY_S = 600.0


LEAVE = Turn()


@dataclass
class World:
    """A PSP, attempts and claims as the script says; `said` is what the actor asked of them, in order."""

    is_claimed: bool = True
    attempt: Attempt | None = None
    sent: Answer = APPROVED
    found: Answer | Turn | None = None
    again: Attempt | None = None  # what the second look at the attempt shows, if not the same
    looks: int = 0
    may_resend: bool = True
    turn: Turn = LEAVE
    now_ms: int = 1_000_000
    said: list[str] = field(default_factory=list)
    requests: list[PspRequest] = field(default_factory=list)
    claimed_at: float = 0.0
    instants: list[tuple[float, float]] = field(default_factory=list)

    # -- Psp --
    @property
    def capabilities(self) -> Capabilities:
        return CAPABILITIES

    def prepare(self, order: PspOrder) -> PspRequest:
        assert order.operation_id == "op-1"
        return PREPARED

    async def send(self, order: PspOrder, request: PspRequest, *, send_by: float, deadline: float) -> Answer:
        assert order.operation_id == "op-1"
        self.said.append("send")
        self.requests.append(request)
        self.instants.append((send_by, deadline))
        return self.sent

    @asynccontextmanager
    async def turn_to_send(self, order: PspOrder, *, is_retry: bool, is_urgent: bool) -> AsyncIterator[Turn]:
        self.said.append("wait to retry" if is_retry else "wait")
        yield self.turn

    @asynccontextmanager
    async def turn_to_ask(self) -> AsyncIterator[Turn]:
        self.said.append("wait")
        yield self.turn

    # -- Claims --
    async def submit(self, claim: Claim, /) -> bool:
        self.said.append("claim")
        self.claimed_at = time.monotonic()
        assert claim.request is PREPARED
        return self.is_claimed


class Inquiries(World):
    """The PSP's side that is asked; `find` is a name of two Protocols."""

    async def find(self, order: PspOrder, *, deadline: float) -> Answer | Turn | None:
        self.said.append("ask")
        assert order.operation_id == "op-1"
        return self.found


class Rows:
    """The attempts' side."""

    def __init__(self, world: World) -> None:
        self._world = world

    async def find(self, operation_id: str) -> Attempt | None:
        assert operation_id == ORDER.operation_id
        self._world.looks += 1
        is_again = self._world.looks > 1 and self._world.again is not None
        return self._world.again if is_again else self._world.attempt

    async def claim_resend(self, attempt_id: str, *, idempotent_for_s: float) -> bool:
        assert idempotent_for_s == CAPABILITIES.idempotent_for_s
        self._world.said.append("claim again")
        assert attempt_id == "attempt-0"
        return self._world.may_resend

    async def claim(self, claims: Sequence[Claim]) -> Sequence[bool]:
        raise NotImplementedError

    async def conclude(self, conclusions: Sequence[Conclusion]) -> Sequence[Pointer]:
        raise NotImplementedError


def attempt(
    outcome: Outcome | None, *, is_past: bool = False, age_ms: int = 60_000, sent_ms: int = 55_000, psp: str = "sim"
) -> Attempt:
    return Attempt(
        id="attempt-0",
        psp=psp,
        request=STORED,
        outcome=outcome,
        is_past_deadline=is_past,
        age_ms=age_ms,
        sent_ms=sent_ms,
    )


def actor(world: Inquiries) -> PspActor:
    numbers = count(1)
    return PspActor(
        world,
        Rows(world),
        world,
        new_id=lambda: f"id-{next(numbers)}",
        send_within_s=SEND_WITHIN_S,
        call_deadline_s=CALL_DEADLINE_S,
        now_ms=lambda: world.now_ms,
        pending_inquiry_s=PENDING_INQUIRY_S,
        chance=lambda: 0.75,
    )


def command(kind: CommandKind, *, tries: int = 0, give_up_at_ms: int | None = None) -> GatewayCommand:
    order = replace(ORDER, give_up_at_ms=give_up_at_ms)
    return GatewayCommand(ref="command-1", kind=kind, order=order, tries=tries)


WAIT = None  # no conclusion: the command stays where it is
# (attempt id, answer, source) of a conclusion
End = tuple[str | None, Answer | None, Source]
GONE: End = (None, None, Source.ANSWER)
LOST = Answer(outcome=Outcome.UNKNOWN, reason="gateway_lost")
NOT_FOUND = Answer(outcome=Outcome.UNKNOWN, reason="not_found")
ABSENT = Answer(outcome=Outcome.ABSENT, reason="not_found")
SETTLE_MS = 60_000


def inquired(answer: Answer | None) -> End:
    return ("attempt-0", answer, Source.INQUIRY)


SUBMITS: Mapping[str, tuple[Inquiries, End | None, list[str]]] = {
    **{
        f"claimed, and the PSP says {answer.outcome}": (
            Inquiries(sent=answer),
            ("id-1", answer, Source.ANSWER),
            ["wait", "claim", "send"],
        )
        for answer in (APPROVED, DECLINED, PENDING, IN_DOUBT, NOT_SENT)
    },
    "claim lost, and the attempt was not sent after all": (Inquiries(is_claimed=False), GONE, ["wait", "claim"]),
    "claim lost to one that is at it": (Inquiries(is_claimed=False, attempt=attempt(None)), WAIT, ["wait", "claim"]),
    "claim lost to one that is gone": (
        Inquiries(is_claimed=False, attempt=attempt(None, is_past=True)),
        ("attempt-0", LOST, Source.ANSWER),
        ["wait", "claim"],
    ),
    **{
        f"claim lost to one that has concluded {outcome}": (
            Inquiries(is_claimed=False, attempt=attempt(outcome, is_past=is_past)),
            GONE,
            ["wait", "claim"],
        )
        for outcome in (Outcome.APPROVED, Outcome.DECLINED, Outcome.PENDING, Outcome.UNKNOWN)
        for is_past in (False, True)
    },
}

INQUIRIES: Mapping[str, tuple[Inquiries, End | None, list[str]]] = {
    "nothing was ever sent": (Inquiries(), GONE, []),
    "somebody is sending it: the answer will come": (Inquiries(attempt=attempt(None)), GONE, []),
    "its sender is gone: the submit command comes first": (Inquiries(attempt=attempt(None, is_past=True)), WAIT, []),
    "in doubt, and found": (
        Inquiries(attempt=attempt(Outcome.UNKNOWN), found=APPROVED),
        inquired(APPROVED),
        ["wait", "ask"],
    ),
    "in doubt, and nobody can be asked": (
        Inquiries(attempt=attempt(Outcome.UNKNOWN), found=IN_DOUBT),
        inquired(IN_DOUBT),
        ["wait", "ask"],
    ),
    "in doubt, not found, sent again": (
        Inquiries(attempt=attempt(Outcome.UNKNOWN), sent=APPROVED),
        inquired(APPROVED),
        ["wait", "ask", "claim again", "send"],
    ),
    "in doubt, not found, sent again in doubt": (
        Inquiries(attempt=attempt(Outcome.UNKNOWN), sent=IN_DOUBT),
        inquired(IN_DOUBT),
        ["wait", "ask", "claim again", "send"],
    ),
    "in doubt, not found, and not sent again": (
        Inquiries(attempt=attempt(Outcome.UNKNOWN), sent=NOT_SENT),
        inquired(Answer(outcome=Outcome.UNKNOWN, reason="not_sent_again: breaker_open")),
        ["wait", "ask", "claim again", "send"],
    ),
    "in doubt, not found, another sends it again": (
        Inquiries(attempt=attempt(Outcome.UNKNOWN), may_resend=False),
        WAIT,
        ["wait", "ask", "claim again"],
    ),
    "in doubt, not found, the key is forgotten by now, and it has settled": (
        Inquiries(attempt=attempt(Outcome.UNKNOWN, is_past=True, age_ms=IDEMPOTENT_FOR_MS, sent_ms=SETTLE_MS)),
        inquired(ABSENT),
        ["wait", "ask"],
    ),
    "in doubt, not found, settled, and its answer is still waited for": (
        Inquiries(attempt=attempt(Outcome.UNKNOWN, age_ms=IDEMPOTENT_FOR_MS, sent_ms=SETTLE_MS)),
        inquired(NOT_FOUND),
        ["wait", "ask"],
    ),
    "in doubt, not found, settled, but another has sent it again meanwhile": (
        Inquiries(
            attempt=attempt(Outcome.UNKNOWN, is_past=True, age_ms=IDEMPOTENT_FOR_MS, sent_ms=2 * SETTLE_MS),
            again=attempt(Outcome.UNKNOWN, age_ms=IDEMPOTENT_FOR_MS, sent_ms=-1000),
        ),
        WAIT,
        ["wait", "ask"],
    ),
    "in doubt, not found, settled, and decided meanwhile": (
        Inquiries(
            attempt=attempt(Outcome.UNKNOWN, is_past=True, age_ms=IDEMPOTENT_FOR_MS, sent_ms=SETTLE_MS),
            again=attempt(Outcome.APPROVED, is_past=True, age_ms=IDEMPOTENT_FOR_MS, sent_ms=SETTLE_MS),
        ),
        WAIT,
        ["wait", "ask"],
    ),
    "in doubt, not found, may not be sent again, and nobody is at it": (
        Inquiries(attempt=attempt(Outcome.UNKNOWN, is_past=True), may_resend=False),
        inquired(NOT_FOUND),
        ["wait", "ask", "claim again"],
    ),
    "absent, and still not found": (
        Inquiries(attempt=attempt(Outcome.ABSENT)),
        inquired(ABSENT),
        ["wait", "ask"],
    ),
    "absent, and found after all": (
        Inquiries(attempt=attempt(Outcome.ABSENT), found=APPROVED),
        inquired(APPROVED),
        ["wait", "ask"],
    ),
    "pending still, which the domain asks about again": (
        Inquiries(attempt=attempt(Outcome.PENDING), found=PENDING),
        inquired(PENDING),
        ["wait", "ask"],
    ),
    "in doubt, not found, the key is forgotten by now, and it may show yet": (
        Inquiries(attempt=attempt(Outcome.UNKNOWN, age_ms=IDEMPOTENT_FOR_MS, sent_ms=SETTLE_MS - 1)),
        inquired(NOT_FOUND),
        ["wait", "ask"],
    ),
    "in doubt, not found, the key is known for a moment more": (
        Inquiries(attempt=attempt(Outcome.UNKNOWN, age_ms=IDEMPOTENT_FOR_MS - 1)),
        inquired(APPROVED),
        ["wait", "ask", "claim again", "send"],
    ),
    "in doubt at another PSP, and nothing here": (
        Inquiries(attempt=attempt(Outcome.UNKNOWN, psp="other")),
        (None, None, Source.ANSWER),
        ["wait", "ask"],
    ),
    "at another PSP, and declined here": (
        Inquiries(attempt=attempt(None, psp="other"), found=Answer(outcome=Outcome.DECLINED)),
        (None, None, Source.ANSWER),
        ["wait", "ask"],
    ),
    **{
        f"{outcome} already, and {news}": (
            Inquiries(attempt=attempt(outcome), found=found),
            inquired(found if news == "news" else None),
            ["wait", "ask"],
        )
        for outcome in (Outcome.REVERSED, Outcome.APPROVED, Outcome.DECLINED, Outcome.EXPIRED)
        for news, found in {"news": APPROVED, "no answer": IN_DOUBT, "not found": None}.items()
    },
}


async def check(kind: CommandKind, world: Inquiries, end: End | None, said: list[str]) -> None:
    asked = command(kind)
    world.said.clear()
    world.looks = 0
    concluded = await actor(world).perform(asked)
    assert world.said == said
    if end is None:
        assert concluded is None
        return
    assert isinstance(concluded, Conclusion)
    assert (concluded.attempt_id, concluded.answer, concluded.source) == end
    assert concluded.command is asked
    assert concluded.evidence_id.startswith("id-")


async def test_money_that_moved_at_a_psp_that_has_not_got_it_any_more_is_told_under_the_id_of_its_callback() -> None:
    asked = command(CommandKind.INQUIRE)
    concluded = await actor(Inquiries(attempt=attempt(Outcome.APPROVED, psp="other"), found=APPROVED)).perform(asked)
    assert isinstance(concluded, Conclusion)
    assert (concluded.attempt_id, concluded.answer, concluded.evidence_id) == (None, APPROVED, asked.ref)
    later = await actor(Inquiries(attempt=attempt(Outcome.APPROVED, psp="other"), found=IN_DOUBT)).perform(asked)
    assert isinstance(later, Postponed)


@pytest.mark.parametrize(("world", "end", "said"), SUBMITS.values(), ids=SUBMITS.keys())
async def test_submitting(world: Inquiries, end: End | None, said: list[str]) -> None:
    await check(CommandKind.SUBMIT, world, end, said)


@pytest.mark.parametrize(("world", "end", "said"), INQUIRIES.values(), ids=INQUIRIES.keys())
async def test_inquiring(world: Inquiries, end: End | None, said: list[str]) -> None:
    await check(CommandKind.INQUIRE, world, end, said)


@pytest.mark.parametrize("world", [world for world, *_ in INQUIRIES.values()], ids=INQUIRIES.keys())
async def test_an_inquiry_never_concludes_that_nothing_was_sent(world: Inquiries) -> None:
    concluded = await actor(world).perform(command(CommandKind.INQUIRE))
    answer = concluded.answer if isinstance(concluded, Conclusion) else None
    assert answer is None or answer.outcome is not Outcome.NOT_SENT


async def test_what_is_sent_again_are_the_stored_bytes() -> None:
    world = Inquiries(attempt=attempt(Outcome.UNKNOWN))
    await actor(world).perform(command(CommandKind.INQUIRE))
    assert world.requests == [STORED]


async def test_the_time_to_send_by_is_counted_from_before_the_claim() -> None:
    """The database counts from the claim: whoever looks there must never find us sending after our time."""
    world = Inquiries()
    await actor(world).perform(command(CommandKind.SUBMIT))
    ((send_by, deadline),) = world.instants
    assert send_by <= world.claimed_at + SEND_WITHIN_S
    assert deadline == pytest.approx(send_by + CALL_DEADLINE_S)


# -- turns and deadlines ----------------------------------------------------------------------------------------------


async def test_what_is_refused_a_turn_is_not_sent_and_only_its_claimant_says_so() -> None:
    refused = Turn(refusal="breaker_open")
    await check(CommandKind.SUBMIT, Inquiries(turn=refused), ("id-1", NOT_SENT, Source.ANSWER), ["wait", "claim"])
    at_it = Inquiries(turn=refused, is_claimed=False, attempt=attempt(None))
    await check(CommandKind.SUBMIT, at_it, WAIT, ["wait", "claim"])


@pytest.mark.parametrize("kind", CommandKind)
async def test_what_is_told_to_wait_comes_again_and_nothing_is_known_of_it(kind: CommandKind) -> None:
    world = Inquiries(turn=Turn(pause_s=7.0), attempt=attempt(Outcome.UNKNOWN))
    asked = command(kind)
    assert await actor(world).perform(asked) == Postponed(command=asked, pause_s=7.0)
    assert world.said == ["wait"], "neither claimed nor asked"


async def test_a_second_try_asks_for_a_turn_as_such() -> None:
    world = Inquiries()
    await actor(world).perform(command(CommandKind.SUBMIT, tries=1))
    assert world.said == ["wait to retry", "claim", "send"]


async def test_after_the_deadline_of_the_payment_nothing_is_sent_for_the_first_time() -> None:
    world = Inquiries()
    concluded = await actor(world).perform(command(CommandKind.SUBMIT, give_up_at_ms=world.now_ms))
    assert isinstance(concluded, Conclusion)
    assert concluded.answer == Answer(outcome=Outcome.NOT_SENT, reason="payment_deadline")
    assert world.said == ["claim"]


async def test_what_is_sent_shortly_before_the_deadline_has_only_that_time_to_leave() -> None:
    world = Inquiries()
    await actor(world).perform(command(CommandKind.SUBMIT, give_up_at_ms=world.now_ms + 1500))
    ((send_by, deadline),) = world.instants
    assert send_by <= world.claimed_at + 1.5
    assert deadline > send_by + CALL_DEADLINE_S, "an answer is waited for as long as ever"


async def test_what_waits_is_heard_of_again_when_its_payment_is_given_up() -> None:
    world = Inquiries(turn=Turn(pause_s=60.0))
    postponed = await actor(world).perform(command(CommandKind.SUBMIT, give_up_at_ms=world.now_ms + 1500))
    assert isinstance(postponed, Postponed)
    assert postponed.pause_s == pytest.approx(1.5)


async def test_after_the_deadline_of_the_payment_the_bytes_are_not_sent_again_either() -> None:
    """Whoever wanted to pay has gone: that nothing is there is the better end."""
    for sent_ms, answer in ((SETTLE_MS - 1, NOT_FOUND), (SETTLE_MS, ABSENT)):
        world = Inquiries(attempt=attempt(Outcome.UNKNOWN, is_past=True, sent_ms=sent_ms))
        concluded = await actor(world).perform(command(CommandKind.INQUIRE, give_up_at_ms=world.now_ms))
        assert isinstance(concluded, Conclusion)
        assert concluded.answer == answer
        assert world.said == ["wait", "ask"]


@pytest.mark.parametrize("found", [None, IN_DOUBT], ids=["not found", "no answer"])
async def test_an_open_page_without_news_is_asked_about_again(found: Answer | None) -> None:
    """With the command would go the question, and nobody would put it again."""
    world = Inquiries(attempt=attempt(Outcome.PENDING), found=found)
    asked = command(CommandKind.INQUIRE)
    postponed = await actor(world).perform(asked)
    assert isinstance(postponed, Postponed)
    assert postponed.command is asked
    assert postponed.pause_s == pytest.approx(1.1 * PENDING_INQUIRY_S)


@pytest.mark.parametrize("outcome", [Outcome.UNKNOWN, Outcome.PENDING, Outcome.APPROVED])
async def test_a_question_that_our_own_guards_refuse_after_all_is_put_later(outcome: Outcome) -> None:
    world = Inquiries(attempt=attempt(outcome), found=Turn(pause_s=7.0))
    asked = command(CommandKind.INQUIRE)
    assert await actor(world).perform(asked) == Postponed(command=asked, pause_s=7.0)


async def test_what_is_sent_again_shortly_before_the_deadline_has_only_that_time_to_leave() -> None:
    world = Inquiries(attempt=attempt(Outcome.UNKNOWN))
    began = time.monotonic()
    await actor(world).perform(command(CommandKind.INQUIRE, give_up_at_ms=world.now_ms + 1500))
    ((send_by, deadline),) = world.instants
    assert send_by - 1.5 <= time.monotonic()
    assert deadline >= began + SEND_WITHIN_S + CALL_DEADLINE_S


async def test_a_database_that_is_away_leaves_the_command_where_it_is() -> None:
    class Away(Inquiries):
        async def submit(self, claim: Claim, /) -> bool:
            raise Unavailable("postgres")

    world = Away()
    with pytest.raises(Unavailable):
        await actor(world).perform(command(CommandKind.SUBMIT))
    assert world.requests == [], "no call without a committed attempt"


def test_a_conclusion_is_evidence_under_its_own_id_or_none_at_all() -> None:
    concluded = Conclusion(
        command=command(CommandKind.SUBMIT), attempt_id="a", answer=APPROVED, source=Source.INQUIRY, evidence_id="e"
    )
    fact = concluded.fact
    assert fact is not None
    assert (fact.event_id, fact.operation_id, fact.payment_id) == ("e", "op-1", "pay-1")
    assert (fact.outcome, fact.source, fact.reference, fact.amount) == (
        Outcome.APPROVED,
        Source.INQUIRY,
        "ch_1",
        1000,
    )
    assert Conclusion(command=command(CommandKind.SUBMIT), evidence_id="e").fact is None
