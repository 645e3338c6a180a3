"""A verdict that comes later, and what follows from it in the same transaction."""

from __future__ import annotations

import asyncio
import hashlib

import asyncpg
import orjson
import pytest

from paynode.config import Settings
from paynode.domain.evidence import TOO_LATE
from paynode.domain.ids import MERCHANT, public
from paynode.domain.partition import partition_of
from paynode.domain.payment import Source
from paynode.domain.psp import Outcome
from paynode.domain.road import commands_stream, events_stream
from paynode.domain.screening import Judgement, Opinion, Question, Screened, Settled, Verdict
from paynode.storage.bodies import decode_fact
from paynode.storage.postgres import Role, Session, pool, session
from paynode.storage.screening import PgScreenings
from tests.fraud.conftest import (
    ATTEMPT,
    DEADLINE_S,
    NOTHING_PASSES,
    PARTITIONS,
    PASS,
    REJECT,
    REVIEW,
    SALT,
    audited,
    bypassed,
    charge,
    held,
    outbox,
    settle,
)
from tests.storage import rows


async def verdict(screenings: PgScreenings, asked: Question) -> Verdict:
    screened = (await screenings.find(asked.operation_id, asked.payment_id)).screened
    assert screened is not None
    return screened.verdict


@pytest.mark.parametrize(
    ("judgement", "settled", "after"),
    [(PASS, Settled.RELEASED, Verdict.PASSED), (REJECT, Settled.REFUSED, Verdict.REJECTED)],
)
async def test_a_held_charge_comes_to_its_gateway_again_with_its_verdict(
    screenings: PgScreenings, owner: Session, judgement: Judgement, settled: Settled, after: Verdict
) -> None:
    asked = await held(screenings, owner)
    assert await settle(screenings, asked, judgement) is settled
    assert await verdict(screenings, asked) is after
    [row] = await outbox(owner)
    assert (row["stream"], row["type"]) == (commands_stream("sim"), "psp.submit")
    assert orjson.loads(row["body"])["as"] == "made"
    assert (str(row["operation_id"]), str(row["payment_id"])) == (asked.operation_id, asked.payment_id)
    assert row["published_at"] is None, "the relay brings it"
    assert await screenings.owed(10) == []


@pytest.mark.parametrize("reverse_after_s", [None, DEADLINE_S / 2, DEADLINE_S * 2])
async def test_a_charge_that_was_held_for_long_has_time_again_once_it_is_let_go(
    screenings: PgScreenings, owner: Session, reverse_after_s: float | None
) -> None:
    asked = await held(screenings, owner)
    await owner.execute("UPDATE operations SET request = jsonb_set(request, '{give_up_at_ms}', '1')")
    await owner.execute("UPDATE payments SET reverse_at = now() + $1 * interval '1 second'", reverse_after_s)
    milliseconds = "SELECT floor(extract(epoch FROM {}) * 1000)::bigint"
    before = await owner.fetchval(milliseconds.format("clock_timestamp()"))
    assert await settle(screenings, asked, PASS) is Settled.RELEASED
    after = await owner.fetchval(milliseconds.format("clock_timestamp()"))
    [row] = await outbox(owner)
    [kept] = await owner.fetch("SELECT request FROM operations")
    assert kept["request"] == row["body"], "a later try is told the same"
    until = orjson.loads(row["body"])["give_up_at_ms"]
    if reverse_after_s is not None and reverse_after_s < DEADLINE_S:
        assert until == await owner.fetchval(milliseconds.format("reverse_at") + " FROM payments")
    else:
        assert before + DEADLINE_S * 1000 <= until <= after + DEADLINE_S * 1000


async def test_a_charge_that_should_not_have_been_sent_is_marked_and_people_are_told(
    screenings: PgScreenings, owner: Session
) -> None:
    asked = await bypassed(screenings, owner)
    assert await settle(screenings, asked, REJECT) is Settled.MARKED
    assert await verdict(screenings, asked) is Verdict.BYPASSED, "that is how it was sent, for ever"
    [row] = await outbox(owner)
    partition = partition_of(public(MERCHANT, asked.merchant_id), PARTITIONS)
    assert (row["stream"], row["type"]) == (events_stream(partition), "psp.evidence")
    fact = decode_fact(row["body"])
    assert (fact.event_id, fact.fraud_check, fact.amount, fact.reference) == (row["id"], "rejected", None, None)
    assert await audited(owner) == [("fraud-check", "screening.marked")]


async def test_a_charge_that_the_check_wants_looked_at_is_brought_before_people_only(
    screenings: PgScreenings, owner: Session
) -> None:
    sent, waiting = await bypassed(screenings, owner), await held(screenings, owner)
    assert await settle(screenings, sent, REVIEW) is Settled.MARKED
    assert await settle(screenings, waiting, REVIEW) is Settled.KEPT
    assert await outbox(owner) == []
    assert await verdict(screenings, waiting) is Verdict.HELD
    assert await screenings.owed(10) == [], "the check has said what it has to say"


async def test_a_charge_that_was_in_order_is_confirmed(screenings: PgScreenings, owner: Session) -> None:
    asked = await bypassed(screenings, owner)
    assert await settle(screenings, asked, PASS) is Settled.CONFIRMED
    assert (await outbox(owner), await audited(owner)) == ([], [])


async def test_of_many_that_settle_one_does(screenings: PgScreenings, owner: Session) -> None:
    asked = await held(screenings, owner)
    settled = await asyncio.gather(*(settle(screenings, asked, PASS) for _ in range(8)))
    assert sorted(settled) == sorted([Settled.RELEASED] + [Settled.KNOWN] * 7)
    assert len(await outbox(owner)) == 1


@pytest.mark.parametrize("is_by_person", [True, False])
@pytest.mark.parametrize("why", ["operation", "given up", "nobody at the till", "an attempt"])
async def test_a_charge_that_nobody_wants_any_more_is_not_let_go(
    screenings: PgScreenings, owner: Session, why: str, is_by_person: bool
) -> None:
    asked = await charge(owner, state="failed" if why == "operation" else "new")
    if why == "given up":
        await owner.execute("UPDATE payments SET given_up_at = now()")
    elif why != "operation":
        await owner.execute("UPDATE payments SET reverse_at = now(), reversed_at = now()")
    if why == "an attempt":
        await owner.execute(ATTEMPT, asked.operation_id, asked.payment_id)
    await screenings.bypass(asked, "timeout", NOTHING_PASSES)
    if is_by_person:
        settled = await screenings.decide(
            asked.payment_id, Opinion.PASS, actor="grace", note="known", command_id=rows.new_id()
        )
    else:
        settled = await settle(screenings, asked, PASS)
    assert (settled, await verdict(screenings, asked)) == (Settled.CLOSED, Verdict.HELD)
    # Its actor ends it. What may have been sent before the check was switched on, its PSP must end.
    expected = [] if why in ("operation", "an attempt") else [Source.OPERATOR if is_by_person else Source.INQUIRY]
    ended = await outbox(owner)
    assert [decode_fact(row["body"]).source for row in ended] == expected
    for row in ended:
        partition = partition_of(public(MERCHANT, asked.merchant_id), PARTITIONS)
        assert (row["stream"], row["type"]) == (events_stream(partition), "psp.evidence")
        fact = decode_fact(row["body"])
        assert (fact.event_id, fact.operation_id) == (row["id"], asked.operation_id)
        assert (fact.outcome, fact.reason) == (Outcome.NOT_SENT, TOO_LATE)


async def test_a_person_decides_what_the_check_would_not(screenings: PgScreenings, owner: Session) -> None:
    asked, other = await charge(owner), await charge(owner)
    for one in (asked, other):
        await screenings.record(one, Screened(verdict=Verdict.HELD, reason="unusual_amount"))
    assert await settle(screenings, asked, PASS) is Settled.KNOWN, "the check owes nothing: it has said `review`"

    async def decide(one: Question, judgement: Judgement) -> Settled:
        return await screenings.decide(
            one.payment_id, judgement.opinion, actor="grace", note="called the shop", command_id=rows.new_id()
        )

    assert await decide(asked, PASS) is Settled.RELEASED
    assert await decide(asked, REJECT) is Settled.KNOWN
    assert await decide(other, REJECT) is Settled.REFUSED
    assert await audited(owner) == [("grace", "screening.released"), ("grace", "screening.refused")]
    assert len(await outbox(owner)) == 2


async def test_what_the_check_cannot_answer_comes_last(screenings: PgScreenings, owner: Session) -> None:
    first, second = await held(screenings, owner), await bypassed(screenings, owner)
    assert [one.question for one in await screenings.owed(10)] == [first, second]
    await screenings.postpone(first.operation_id)
    assert [one.question for one in await screenings.owed(1)] == [second]


async def test_the_gateway_gives_verdicts_and_changes_none(settings: Settings) -> None:
    async with session(settings, Role.GATEWAY, application_name="test") as connection:
        for statement in (
            "UPDATE screenings SET verdict = 'passed'",
            "DELETE FROM screenings",
            "SELECT customer FROM payments",
        ):
            with pytest.raises(asyncpg.InsufficientPrivilegeError):
                await connection.execute(statement)


async def test_of_a_customer_a_salted_digest_is_told_and_without_a_salt_nothing(
    settings: Settings, screenings: PgScreenings, owner: Session
) -> None:
    asked = await charge(owner)
    expected = hashlib.sha256(f"{SALT}:ada@example.org".encode()).hexdigest()
    assert (await screenings.find(asked.operation_id, asked.payment_id)).customer == expected
    async with pool(settings, Role.GATEWAY, application_name="test", size=1) as database:
        unsalted = PgScreenings(database, salt="", partitions=PARTITIONS, payment_deadline_s=DEADLINE_S)
        assert (await unsalted.find(asked.operation_id, asked.payment_id)).customer is None
    await owner.execute("UPDATE payments SET customer = NULL")
    assert (await screenings.find(asked.operation_id, asked.payment_id)).customer is None
