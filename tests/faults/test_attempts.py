"""Deliveries that come twice, late or together: at most one sending, at most one evidence, and no attempt left open."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from datetime import datetime

import anyio
import pytest
from uuid_utils import uuid7

from paynode.config import Settings
from paynode.domain.attempts import Claim, Conclusion, GatewayCommand
from paynode.domain.deciding import CommandKind
from paynode.domain.errors import Poison
from paynode.domain.money import Money
from paynode.domain.payment import Method, PspOrder, Source
from paynode.domain.psp import Answer, Callback, Capabilities, Outcome, PspRequest, SettlementLine
from paynode.observability.observers import Observer
from paynode.psp.guard import GuardedPsp
from paynode.storage.attempts import PgAttempts
from paynode.storage.bodies import encode_order
from paynode.storage.commands import PgCommands
from paynode.storage.postgres import Pool, Role, Session, pool
from tests.faults.gateways import CAPABILITIES
from tests.guards.rules import RULES
from tests.storage import rows

APPROVED = Answer(outcome=Outcome.APPROVED, reference="ch_1", amount=1000, currency="EUR")
PENDING = Answer(outcome=Outcome.PENDING, reference="ses_1", page_url="https://psp.example/1")
IN_DOUBT = Answer(outcome=Outcome.UNKNOWN, reason="timeout")
ABSENT = Answer(outcome=Outcome.ABSENT, reason="not_found")
NOT_SENT = Answer(outcome=Outcome.NOT_SENT, reason="connection_refused")

ORDER = PspOrder(
    operation_id=str(uuid7()),
    payment_id=str(uuid7()),
    merchant_id=str(uuid7()),
    psp="sim",
    money=Money(amount=1000, currency="EUR"),
    method=Method.TOKEN,
    token="tok_approve",
)
REQUEST = PspRequest(path="/v1/charges", body=b'{"amount":1000}', idempotency_key=ORDER.operation_id)


@pytest.fixture
async def gateways(settings: Settings) -> AsyncIterator[Pool]:
    """The connections of the gateway's role; whoever borrows one at a time is another process to the database."""
    async with pool(settings, Role.GATEWAY, application_name="test") as connections:
        yield connections


def attempts_of(connections: Pool, gateway: str = "test") -> PgAttempts:
    return PgAttempts(connections, gateway=gateway, send_within_s=5, call_deadline_s=10, partitions=32)


async def issue(owner: Session, kind: CommandKind) -> GatewayCommand:
    """A command as the committer inserts it."""
    row = rows.message(
        stream="paynode:{psp-sim}:commands",
        type=kind,
        merchant_id=ORDER.merchant_id,
        payment_id=ORDER.payment_id,
        operation_id=ORDER.operation_id,
        body=encode_order(ORDER),
    )
    await rows.insert(owner, "outbox", row)
    return GatewayCommand(ref=str(row["id"]), kind=kind, order=ORDER)


async def booked(owner: Session, **changes: object) -> None:
    """The operation as it stands in the books."""
    about = {"payment_id": ORDER.payment_id, "merchant_id": ORDER.merchant_id}
    await rows.insert(owner, "merchants", rows.merchant(id=ORDER.merchant_id))
    await rows.insert(owner, "payments", rows.payment(id=ORDER.payment_id, merchant_id=ORDER.merchant_id))
    await rows.insert(owner, "operations", rows.operation(id=ORDER.operation_id, **about, **changes))


def claim_of(command: GatewayCommand) -> Claim:
    return Claim(attempt_id=rows.new_id(), command=command, request=REQUEST)


def ended(command: GatewayCommand, attempt_id: str, answer: Answer | None, source: Source) -> Conclusion:
    return Conclusion(command=command, attempt_id=attempt_id, answer=answer, source=source, evidence_id=rows.new_id())


async def concluded(owner: Session, attempts: PgAttempts, answer: Answer) -> str:
    """An attempt that ended so; its id."""
    command = await issue(owner, CommandKind.SUBMIT)
    claim = claim_of(command)
    assert await attempts.claim([claim]) == [True]
    assert len(await attempts.conclude([ended(command, claim.attempt_id, answer, Source.ANSWER)])) == 1
    return claim.attempt_id


async def test_an_inquiry_without_news_does_not_open_an_attempt_again(owner: Session, gateways: Pool) -> None:
    """An attempt that is open for ever makes every later inquiry about it wait for ever."""
    attempts = attempts_of(gateways)
    attempt_id = await concluded(owner, attempts, PENDING)
    inquiry = await issue(owner, CommandKind.INQUIRE)
    assert await attempts.conclude([ended(inquiry, attempt_id, None, Source.INQUIRY)]) == []
    attempt = await attempts.find(ORDER.operation_id)
    assert attempt is not None
    assert attempt.outcome is Outcome.PENDING


async def test_one_command_that_is_concluded_twice_at_once_is_one_evidence(owner: Session, gateways: Pool) -> None:
    """Two would be two rungs of the ladder, and each rung brings the next: the inquiries would double."""
    attempts = attempts_of(gateways)
    attempt_id = await concluded(owner, attempts, IN_DOUBT)
    await owner.execute("DELETE FROM outbox")  # the evidence of the doubt is on its way to the merchant's actor
    inquiry = await issue(owner, CommandKind.INQUIRE)
    pointers = await attempts.conclude(
        [ended(inquiry, attempt_id, IN_DOUBT, Source.INQUIRY), ended(inquiry, attempt_id, APPROVED, Source.INQUIRY)]
    )
    assert len(pointers) == 1
    [evidence] = await owner.fetch("SELECT id::text, body ->> 'outcome' AS outcome FROM outbox")
    assert evidence["id"] == pointers[0].ref
    attempt = await attempts.find(ORDER.operation_id)
    assert attempt is not None
    assert attempt.outcome == evidence["outcome"], "the attempt and the evidence tell the same"


async def test_the_settle_window_counts_from_the_last_sending(owner: Session, gateways: Pool) -> None:
    """The bytes may have left a second ago, however old the claim is."""
    attempts = attempts_of(gateways)
    attempt_id = await concluded(owner, attempts, IN_DOUBT)
    await owner.execute(
        "UPDATE psp_attempts SET claimed_at = claimed_at - interval '1 h', send_by = send_by - interval '1 h'"
    )
    attempt = await attempts.find(ORDER.operation_id)
    assert attempt is not None
    assert attempt.psp == "sim"
    assert attempt.age_ms >= 3_600_000
    assert attempt.sent_ms >= 3_595_000 - 5_000, "it could be sent for 5 s after the claim"
    assert attempt.sent_ms < attempt.age_ms
    assert await attempts.claim_resend(attempt_id, idempotent_for_s=7200)
    attempt = await attempts.find(ORDER.operation_id)
    assert attempt is not None
    assert attempt.sent_ms < 0, "at this moment it may still be on its way"
    assert attempt.age_ms >= 3_600_000, "the PSP has known the key since the first sending"


@pytest.mark.parametrize("nothing", [IN_DOUBT, ABSENT], ids=["in doubt", "absent"])
async def test_an_inquiry_without_success_ends_nothing_while_another_sends_the_bytes_again(
    owner: Session, gateways: Pool, nothing: Answer
) -> None:
    """Its "not found" is from before: the other's answer would be thrown away, and a third could begin to send."""
    ours, theirs = attempts_of(gateways), attempts_of(gateways, "other")
    attempt_id = await concluded(owner, ours, IN_DOUBT)
    inquiry, resend = await issue(owner, CommandKind.INQUIRE), await issue(owner, CommandKind.INQUIRE)
    assert await theirs.claim_resend(attempt_id, idempotent_for_s=60)
    assert await ours.conclude([ended(inquiry, attempt_id, nothing, Source.INQUIRY)]) == []
    left = await PgCommands(gateways).read("paynode:{psp-sim}:commands", [inquiry.ref])
    assert list(left) == [inquiry.ref], "it is brought again"
    assert not await ours.claim_resend(attempt_id, idempotent_for_s=60), "the other still is at it"
    assert len(await theirs.conclude([ended(resend, attempt_id, IN_DOUBT, Source.INQUIRY)])) == 1, "its own end counts"
    assert len(await ours.conclude([ended(inquiry, attempt_id, nothing, Source.INQUIRY)])) == 1, "and then any"
    attempt = await ours.find(ORDER.operation_id)
    assert attempt is not None
    assert attempt.outcome is nothing.outcome


async def test_what_is_found_counts_also_while_another_sends_the_bytes_again(owner: Session, gateways: Pool) -> None:
    ours, theirs = attempts_of(gateways), attempts_of(gateways, "other")
    attempt_id = await concluded(owner, ours, IN_DOUBT)
    inquiry, resend = await issue(owner, CommandKind.INQUIRE), await issue(owner, CommandKind.INQUIRE)
    assert await theirs.claim_resend(attempt_id, idempotent_for_s=60)
    assert len(await ours.conclude([ended(inquiry, attempt_id, APPROVED, Source.INQUIRY)])) == 1
    assert len(await theirs.conclude([ended(resend, attempt_id, IN_DOUBT, Source.INQUIRY)])) == 1
    attempt = await ours.find(ORDER.operation_id)
    assert attempt is not None
    assert attempt.outcome is Outcome.APPROVED


async def test_a_sending_that_begins_while_it_is_concluded_absent_waits_and_does_not_begin(
    owner: Session, gateways: Pool
) -> None:
    attempts = attempts_of(gateways)
    attempt_id = await concluded(owner, attempts, IN_DOUBT)
    claims: list[bool] = []

    async def claim_again() -> None:
        claims.append(await attempts.claim_resend(attempt_id, idempotent_for_s=60))

    async with anyio.create_task_group() as group, owner.transaction():
        await owner.execute("UPDATE psp_attempts SET outcome = 'absent' WHERE id = $1", attempt_id)
        group.start_soon(claim_again)
        await anyio.sleep(0.3)
        assert claims == [], "it waits for the other's end"
    assert claims == [False]


@pytest.mark.parametrize("told", [PENDING, ABSENT], ids=["pending", "absent"])
async def test_a_doubt_takes_nothing_back(owner: Session, gateways: Pool, told: Answer) -> None:
    attempts = attempts_of(gateways)
    attempt_id = await concluded(owner, attempts, IN_DOUBT)
    for answer in (told, IN_DOUBT):
        inquiry = await issue(owner, CommandKind.INQUIRE)
        assert len(await attempts.conclude([ended(inquiry, attempt_id, answer, Source.INQUIRY)])) == 1
    attempt = await attempts.find(ORDER.operation_id)
    assert attempt is not None
    assert attempt.outcome is told.outcome
    assert not await attempts.claim_resend(attempt_id, idempotent_for_s=60)


@pytest.mark.parametrize(
    ("state", "may"),
    [("unknown", True), ("review", True), ("new", True), ("pending", True), ("approved", False), ("failed", False)],
)
async def test_nothing_is_sent_again_for_an_operation_that_is_decided(
    owner: Session, gateways: Pool, state: str, may: bool
) -> None:
    """A callback has come between the question and this."""
    attempts = attempts_of(gateways)
    await booked(owner, state=state)
    attempt_id = await concluded(owner, attempts, IN_DOUBT)
    assert await attempts.claim_resend(attempt_id, idempotent_for_s=60) is may


async def test_a_key_that_the_psp_may_have_forgotten_is_not_sent_again(owner: Session, gateways: Pool) -> None:
    attempts = attempts_of(gateways)
    attempt_id = await concluded(owner, attempts, IN_DOUBT)
    await owner.execute("UPDATE psp_attempts SET claimed_at = claimed_at - interval '1 h'")
    assert not await attempts.claim_resend(attempt_id, idempotent_for_s=3600)
    assert await attempts.claim_resend(attempt_id, idempotent_for_s=7200)


async def test_what_was_absent_and_shows_after_all_is_found(owner: Session, gateways: Pool) -> None:
    attempts = attempts_of(gateways)
    attempt_id = await concluded(owner, attempts, IN_DOUBT)
    for answer in (Answer(outcome=Outcome.ABSENT, reason="not_found"), APPROVED):
        inquiry = await issue(owner, CommandKind.INQUIRE)
        assert len(await attempts.conclude([ended(inquiry, attempt_id, answer, Source.INQUIRY)])) == 1
        attempt = await attempts.find(ORDER.operation_id)
        assert attempt is not None
        assert attempt.outcome is answer.outcome
    assert await attempts.claim([claim_of(await issue(owner, CommandKind.SUBMIT))]) == [False], "nor anywhere else"


async def test_a_late_delivery_cannot_claim_while_its_command_is_being_concluded_as_not_sent(
    owner: Session, gateways: Pool
) -> None:
    """It would send what the merchant's actor may give up at the same moment."""
    attempts = attempts_of(gateways)
    command = await issue(owner, CommandKind.SUBMIT)
    first, late = claim_of(command), claim_of(command)
    assert await attempts.claim([first]) == [True]
    claims: list[bool] = []

    async def claim_late() -> None:
        claims.extend(await attempts.claim([late]))

    async with anyio.create_task_group() as group, owner.transaction():
        # What concluding does, held open between its row locks and its end.
        await owner.execute("DELETE FROM outbox WHERE id = $1", command.ref)
        await owner.execute("UPDATE psp_attempts SET outcome = 'not_sent' WHERE id = $1", first.attempt_id)
        group.start_soon(claim_late)
        await anyio.sleep(0.3)
        assert claims == [], "it waits for the other's end"
    assert claims == [False]


@pytest.mark.parametrize(("psp", "may"), [("sim", True), ("backup", False)])
async def test_nothing_is_sent_to_a_psp_from_which_the_charge_has_gone_on(
    owner: Session, gateways: Pool, psp: str, may: bool
) -> None:
    """Whatever command is left of it: it would be charged at one PSP, and booked and given back at another."""
    attempts = attempts_of(gateways)
    await booked(owner, psp=psp)
    assert await attempts.claim([claim_of(await issue(owner, CommandKind.SUBMIT))]) == [may]


UNSTORABLE = {
    "nul": Answer(outcome=Outcome.DECLINED, reason="nul \0 in it"),
    "surrogate": Answer(outcome=Outcome.DECLINED, reason="half of a pair \ud83d"),
    "huge": Answer(outcome=Outcome.APPROVED, reference="ch_1", amount=2**70, currency="EUR"),
}


@pytest.mark.parametrize("bad", UNSTORABLE.values(), ids=UNSTORABLE.keys())
async def test_an_answer_that_cannot_be_stored_is_poison_and_not_a_crash(
    owner: Session, gateways: Pool, bad: Answer
) -> None:
    attempts = attempts_of(gateways)
    command = await issue(owner, CommandKind.SUBMIT)
    claim = claim_of(command)
    assert await attempts.claim([claim]) == [True]
    with pytest.raises(Poison):
        await attempts.conclude([ended(command, claim.attempt_id, bad, Source.ANSWER)])
    left = await PgCommands(gateways).read("paynode:{psp-sim}:commands", [command.ref])
    assert list(left) == [command.ref], "the command waits where it was"


@dataclass
class Careless:
    """An adapter that hands on whatever the PSP said."""

    answer: Answer
    capabilities: Capabilities = CAPABILITIES

    def prepare(self, order: PspOrder) -> PspRequest:
        return REQUEST

    async def send(self, order: PspOrder, request: PspRequest, *, send_by: float, deadline: float) -> Answer:
        return self.answer

    async def find(self, order: PspOrder, *, deadline: float) -> Answer | None:
        return self.answer

    def parse_callback(self, headers: Mapping[str, str], raw: bytes, *, now_s: float) -> Callback | None:
        raise NotImplementedError

    def settlement(self, since: datetime, until: datetime) -> AsyncIterator[SettlementLine]:
        raise NotImplementedError


@pytest.mark.parametrize("bad", UNSTORABLE.values(), ids=UNSTORABLE.keys())
async def test_an_answer_that_cannot_be_stored_is_a_doubt_and_a_failure_of_the_psp(bad: Answer) -> None:
    psp = GuardedPsp("careless", Careless(bad), Observer(), RULES, clock=time.monotonic)
    for answer in (await psp.send(ORDER, REQUEST, send_by=0, deadline=0), await psp.find(ORDER, deadline=0)):
        assert isinstance(answer, Answer)
        assert (answer.outcome, answer.is_psp_failure) == (Outcome.UNKNOWN, True)
