"""Giving back what the check rejects too late: asked for until it is granted, or refused for good."""

from __future__ import annotations

from collections.abc import Sequence

import asyncpg
import pytest

from paynode.domain.requesting import Refusal, RequestKind
from paynode.domain.screening import Judgement, Question, Settled
from paynode.storage.bodies import decode_request
from paynode.storage.postgres import Session
from paynode.storage.screening import PgScreenings
from tests.fraud.conftest import ALL_PASSES, PASS, REJECT, REVIEW, audited, bypassed, outbox, question, settle
from tests.storage import rows

CAPTURE = """
INSERT INTO operations (id, payment_id, merchant_id, kind, amount, currency, psp, request, state)
SELECT gen_random_uuid(), payment_id, merchant_id, 'capture', 1000, currency, psp, '{{}}', '{}' FROM operations
"""


async def authorized(screenings: PgScreenings, owner: Session, *, captured: int = 0) -> Question:
    """A charge that passed unscreened and succeeded."""
    asked = await bypassed(screenings, owner)
    await owner.execute("UPDATE operations SET state = 'approved'")
    await owner.execute("UPDATE payments SET amount_authorized = 1000, amount_captured = $1", captured)
    return asked


async def requests(owner: Session) -> Sequence[asyncpg.Record]:
    return await owner.fetch("SELECT id::text AS id, kind, decided_at FROM requests ORDER BY created_at")


async def decide(owner: Session, refusal: Refusal | None) -> None:
    """The actor decides upon what it is asked."""
    await owner.execute("DELETE FROM outbox WHERE type = 'payment.request'")
    await owner.execute("UPDATE requests SET decided_at = now(), refusal = $1 WHERE decided_at IS NULL", refusal)


@pytest.mark.parametrize(
    ("captured", "back"), [(1000, RequestKind.REFUND), (400, RequestKind.REFUND), (0, RequestKind.VOID)]
)
async def test_where_it_is_wanted_the_money_is_asked_back_too(
    screenings: PgScreenings, owner: Session, captured: int, back: RequestKind
) -> None:
    asked = await authorized(screenings, owner, captured=captured)
    assert await settle(screenings, asked, REJECT, gives_back=True) is Settled.MARKED
    evidence, request = sorted(await outbox(owner), key=lambda row: str(row["type"]), reverse=True)
    assert (evidence["type"], request["type"]) == ("psp.evidence", "payment.request")
    assert request["stream"] == evidence["stream"]
    decoded = decode_request(request["body"])
    assert (decoded.id, decoded.payment_id) == (request["id"], asked.payment_id)
    assert (decoded.kind, decoded.amount) == (back, None)
    [kept] = await requests(owner)
    assert tuple(kept) == (request["id"], back, None)


@pytest.mark.parametrize(
    "undecided",
    [
        "UPDATE operations SET state = 'new'",
        "UPDATE operations SET state = 'pending'",
        "UPDATE operations SET state = 'unknown'",
        "UPDATE operations SET state = 'review'",
        CAPTURE.format("pending"),
        CAPTURE.format("review"),
        """INSERT INTO requests (id, payment_id, merchant_id, kind)
        SELECT gen_random_uuid(), payment_id, merchant_id, 'capture' FROM operations""",
        "UPDATE payments SET reverse_at = now()",
    ],
)
async def test_how_it_is_given_back_waits_until_that_can_be_said(
    screenings: PgScreenings, owner: Session, undecided: str
) -> None:
    asked, later = await authorized(screenings, owner, captured=1000), question()
    await screenings.bypass(later, "timeout", ALL_PASSES)
    await owner.execute(undecided)
    assert await settle(screenings, asked, REJECT, gives_back=True) is Settled.DEFERRED
    assert (await outbox(owner), await audited(owner)) == ([], [])
    assert [one.question for one in await screenings.owed(10)] == [later, asked], "it comes last, and comes again"

    assert await settle(screenings, asked, REJECT) is Settled.MARKED, "to mark it, nothing need be known"


async def test_of_what_came_to_nothing_nothing_is_asked_back(screenings: PgScreenings, owner: Session) -> None:
    asked = await bypassed(screenings, owner)
    await owner.execute("UPDATE operations SET state = 'declined'")
    assert await settle(screenings, asked, REJECT, gives_back=True) is Settled.MARKED
    assert [row["type"] for row in await outbox(owner)] == ["psp.evidence"]


@pytest.mark.parametrize("now", [REJECT, REVIEW, PASS])
@pytest.mark.parametrize("refusal", [Refusal.OPERATION_IN_FLIGHT, Refusal.OUTCOME_UNKNOWN, Refusal.PAYMENT_CHANGED])
async def test_what_was_refused_because_a_capture_came_first_is_asked_again_once_that_is_through(
    screenings: PgScreenings, owner: Session, refusal: Refusal, now: Judgement
) -> None:
    """Whatever the check says by then: people and the payment have been told that it was rejected."""
    asked = await authorized(screenings, owner)
    assert await settle(screenings, asked, REJECT, gives_back=True) is Settled.MARKED
    assert [one.question for one in await screenings.owed(10)] == [asked]
    assert await settle(screenings, asked, now, gives_back=True) is Settled.DEFERRED, "it is not decided yet"
    await owner.execute(CAPTURE.format("new"))
    await decide(owner, refusal)
    assert await settle(screenings, asked, now, gives_back=True) is Settled.DEFERRED, "the capture is under way"
    assert [one["kind"] for one in await requests(owner)] == [RequestKind.VOID]

    await owner.execute("UPDATE operations SET state = 'approved'")
    await owner.execute("UPDATE payments SET amount_captured = 1000")
    assert await settle(screenings, asked, now, gives_back=True) is Settled.DEFERRED
    assert [one["kind"] for one in await requests(owner)] == [RequestKind.VOID, RequestKind.REFUND]
    await decide(owner, None)
    assert await settle(screenings, asked, now, gives_back=True) is Settled.KNOWN
    assert await screenings.owed(10) == []
    assert [row["type"] for row in await outbox(owner)] == ["psp.evidence"], "it is marked once"
    assert await audited(owner) == [("fraud-check", "screening.marked")]


@pytest.mark.parametrize("refusal", [None, Refusal.INSUFFICIENT_FUNDS, Refusal.NOT_VOIDABLE, Refusal.UNDER_REVIEW])
async def test_what_was_granted_or_refused_for_good_is_not_asked_again(
    screenings: PgScreenings, owner: Session, refusal: Refusal | None
) -> None:
    asked = await authorized(screenings, owner)
    assert await settle(screenings, asked, REJECT, gives_back=True) is Settled.MARKED
    await decide(owner, refusal)
    assert await settle(screenings, asked, REJECT, gives_back=True) is Settled.KNOWN
    assert len(await requests(owner)) == 1
    assert await screenings.owed(10) == []


async def test_a_merchants_own_request_in_our_words_is_none_of_ours(screenings: PgScreenings, owner: Session) -> None:
    """Else a merchant would keep the money of a charge by refunding a cent of it."""
    asked = await authorized(screenings, owner, captured=1000)
    await owner.execute(
        "INSERT INTO requests (id, payment_id, merchant_id, kind, amount, reason, decided_at)"
        " VALUES ($1, $2, $3, 'refund', 1, 'fraud_rejected_late', now())",
        rows.new_id(),
        asked.payment_id,
        asked.merchant_id,
    )
    assert await settle(screenings, asked, REJECT, gives_back=True) is Settled.MARKED
    assert len(await requests(owner)) == 2


async def test_nothing_more_is_asked_back_once_that_is_not_wanted_any_more(
    screenings: PgScreenings, owner: Session
) -> None:
    """`late_reject` was changed in between."""
    asked = await authorized(screenings, owner)
    assert await settle(screenings, asked, REJECT, gives_back=True) is Settled.MARKED
    await decide(owner, Refusal.OPERATION_IN_FLIGHT)
    assert await settle(screenings, asked, REJECT) is Settled.KNOWN
    assert (await screenings.owed(10), len(await requests(owner))) == ([], 1)
    assert await audited(owner) == [("fraud-check", "screening.marked")]
