"""PspActor: every way through a command, and the conclusion at its end."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import count

import pytest

from paynode.actors.gateway import PspActor
from paynode.domain.attempts import Attempt, Claim, Conclusion, GatewayCommand
from paynode.domain.deciding import CommandKind
from paynode.domain.errors import Unavailable
from paynode.domain.money import Money
from paynode.domain.payment import ChargeOrder, Method, Source
from paynode.domain.psp import Answer, Outcome, PspRequest
from paynode.domain.road import Pointer

ORDER = ChargeOrder(
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
SEND_WITHIN_S, CALL_DEADLINE_S = 5.0, 10.0


@dataclass
class World:
    """A PSP, attempts and claims as the script says; `said` is what the actor asked of them, in order."""

    is_claimed: bool = True
    attempt: Attempt | None = None
    sent: Answer = APPROVED
    found: Answer | None = None
    may_resend: bool = True
    said: list[str] = field(default_factory=list)
    requests: list[PspRequest] = field(default_factory=list)
    claimed_at: float = 0.0
    instants: list[tuple[float, float]] = field(default_factory=list)

    # -- Psp --
    @property
    def idempotent_for_ms(self) -> int:
        return IDEMPOTENT_FOR_MS

    def prepare(self, order: ChargeOrder) -> PspRequest:
        assert order is ORDER
        return PREPARED

    async def send(self, request: PspRequest, *, send_by: float, deadline: float) -> Answer:
        self.said.append("send")
        self.requests.append(request)
        self.instants.append((send_by, deadline))
        return self.sent

    # -- Claims --
    async def submit(self, claim: Claim, /) -> bool:
        self.said.append("claim")
        self.claimed_at = time.monotonic()
        assert (claim.request, claim.command.order) == (PREPARED, ORDER)
        return self.is_claimed


class Inquiries(World):
    """The PSP's side that is asked; `find` is a name of two Protocols."""

    async def find(self, our_reference: str, *, deadline: float) -> Answer | None:
        self.said.append("ask")
        assert our_reference == ORDER.operation_id
        return self.found


class Rows:
    """The attempts' side."""

    def __init__(self, world: World) -> None:
        self._world = world

    async def find(self, operation_id: str) -> Attempt | None:
        assert operation_id == ORDER.operation_id
        return self._world.attempt

    async def claim_resend(self, attempt_id: str) -> bool:
        self._world.said.append("claim again")
        assert attempt_id == "attempt-0"
        return self._world.may_resend

    async def claim(self, claims: Sequence[Claim]) -> Sequence[bool]:
        raise NotImplementedError

    async def conclude(self, conclusions: Sequence[Conclusion]) -> Sequence[Pointer]:
        raise NotImplementedError


def attempt(outcome: Outcome | None, *, is_past: bool = False, age_ms: int = 60_000) -> Attempt:
    return Attempt(id="attempt-0", request=STORED, outcome=outcome, is_past_deadline=is_past, age_ms=age_ms)


def actor(world: Inquiries) -> PspActor:
    numbers = count(1)
    return PspActor(
        world,
        Rows(world),
        world,
        new_id=lambda: f"id-{next(numbers)}",
        send_within_s=SEND_WITHIN_S,
        call_deadline_s=CALL_DEADLINE_S,
    )


def command(kind: CommandKind) -> GatewayCommand:
    return GatewayCommand(ref="command-1", kind=kind, order=ORDER)


WAIT = None  # no conclusion: the command stays where it is
# (attempt id, answer, source) of a conclusion
End = tuple[str | None, Answer | None, Source]
GONE: End = (None, None, Source.ANSWER)
LOST = Answer(outcome=Outcome.UNKNOWN, reason="gateway_lost")
NOT_FOUND = Answer(outcome=Outcome.UNKNOWN, reason="not_found")


def inquired(answer: Answer | None) -> End:
    return ("attempt-0", answer, Source.INQUIRY)


SUBMITS: Mapping[str, tuple[Inquiries, End | None, list[str]]] = {
    **{
        f"claimed, and the PSP says {answer.outcome}": (
            Inquiries(sent=answer),
            ("id-1", answer, Source.ANSWER),
            ["claim", "send"],
        )
        for answer in (APPROVED, DECLINED, PENDING, IN_DOUBT, NOT_SENT)
    },
    "claim lost, and the attempt was not sent after all": (Inquiries(is_claimed=False), GONE, ["claim"]),
    "claim lost to one that is at it": (Inquiries(is_claimed=False, attempt=attempt(None)), WAIT, ["claim"]),
    "claim lost to one that is gone": (
        Inquiries(is_claimed=False, attempt=attempt(None, is_past=True)),
        ("attempt-0", LOST, Source.ANSWER),
        ["claim"],
    ),
    **{
        f"claim lost to one that has concluded {outcome}": (
            Inquiries(is_claimed=False, attempt=attempt(outcome, is_past=is_past)),
            GONE,
            ["claim"],
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
        ["ask"],
    ),
    "in doubt, and nobody can be asked": (
        Inquiries(attempt=attempt(Outcome.UNKNOWN), found=IN_DOUBT),
        inquired(IN_DOUBT),
        ["ask"],
    ),
    "in doubt, not found, sent again": (
        Inquiries(attempt=attempt(Outcome.UNKNOWN), sent=APPROVED),
        inquired(APPROVED),
        ["ask", "claim again", "send"],
    ),
    "in doubt, not found, sent again in doubt": (
        Inquiries(attempt=attempt(Outcome.UNKNOWN), sent=IN_DOUBT),
        inquired(IN_DOUBT),
        ["ask", "claim again", "send"],
    ),
    "in doubt, not found, and not sent again": (
        Inquiries(attempt=attempt(Outcome.UNKNOWN), sent=NOT_SENT),
        inquired(Answer(outcome=Outcome.UNKNOWN, reason="not_sent_again: breaker_open")),
        ["ask", "claim again", "send"],
    ),
    "in doubt, not found, another sends it again": (
        Inquiries(attempt=attempt(Outcome.UNKNOWN), may_resend=False),
        WAIT,
        ["ask", "claim again"],
    ),
    "in doubt, not found, the key is forgotten by now": (
        Inquiries(attempt=attempt(Outcome.UNKNOWN, age_ms=IDEMPOTENT_FOR_MS)),
        inquired(NOT_FOUND),
        ["ask"],
    ),
    "in doubt, not found, the key is known for a moment more": (
        Inquiries(attempt=attempt(Outcome.UNKNOWN, age_ms=IDEMPOTENT_FOR_MS - 1)),
        inquired(APPROVED),
        ["ask", "claim again", "send"],
    ),
    **{
        f"{outcome} already, and {news}": (
            Inquiries(attempt=attempt(outcome), found=found),
            inquired(found if news == "news" else None),
            ["ask"],
        )
        for outcome in (Outcome.PENDING, Outcome.APPROVED, Outcome.DECLINED, Outcome.EXPIRED)
        for news, found in {"news": APPROVED, "no answer": IN_DOUBT, "not found": None}.items()
    },
}


async def check(kind: CommandKind, world: Inquiries, end: End | None, said: list[str]) -> None:
    asked = command(kind)
    world.said.clear()
    concluded = await actor(world).perform(asked)
    assert world.said == said
    if end is None:
        assert concluded is None
        return
    assert concluded is not None
    assert (concluded.attempt_id, concluded.answer, concluded.source) == end
    assert concluded.command is asked
    assert concluded.evidence_id.startswith("id-")


@pytest.mark.parametrize(("world", "end", "said"), SUBMITS.values(), ids=SUBMITS.keys())
async def test_submitting(world: Inquiries, end: End | None, said: list[str]) -> None:
    await check(CommandKind.SUBMIT, world, end, said)


@pytest.mark.parametrize(("world", "end", "said"), INQUIRIES.values(), ids=INQUIRIES.keys())
async def test_inquiring(world: Inquiries, end: End | None, said: list[str]) -> None:
    await check(CommandKind.INQUIRE, world, end, said)


@pytest.mark.parametrize("world", [world for world, *_ in INQUIRIES.values()], ids=INQUIRIES.keys())
async def test_an_inquiry_never_concludes_that_nothing_was_sent(world: Inquiries) -> None:
    concluded = await actor(world).perform(command(CommandKind.INQUIRE))
    answer = concluded.answer if concluded else None
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
