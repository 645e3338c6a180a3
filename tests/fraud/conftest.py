"""Screenings as the gateway keeps them, and charges to screen."""

from __future__ import annotations

from collections.abc import AsyncIterator

import asyncpg
import pytest

from paynode.actors.screening import late_rejection
from paynode.config import Settings
from paynode.domain.money import Money
from paynode.domain.payment import Method, OperationKind
from paynode.domain.screening import Allowance, Judgement, Opinion, Question, Settled
from paynode.storage.postgres import BY_KEY, Role, Session, pool, session
from paynode.storage.screening import PgScreenings
from tests.storage import rows

PARTITIONS = 32
SALT = "salt"
DEADLINE_S = 900.0

PASS, REJECT, REVIEW = (
    Judgement(opinion=opinion, reason="velocity") for opinion in (Opinion.PASS, Opinion.REJECT, Opinion.REVIEW)
)
ALL_PASSES, NOTHING_PASSES = Allowance(payment_max=10**9, hour_max=10**9), Allowance(payment_max=0, hour_max=0)
# One that may be under way at the charge's PSP: operation, payment.
ATTEMPT = """
INSERT INTO psp_attempts (id, operation_id, payment_id, psp, path, request, gateway, send_by, deadline_at)
VALUES (gen_random_uuid(), $1, $2, 'sim', '', '', 'g', now(), now() + interval '1 second')
"""


@pytest.fixture
async def owner(settings: Settings) -> AsyncIterator[Session]:
    """A session of the schema's owner."""
    async with session(settings, Role.OWNER, application_name="test") as connection:
        yield connection


@pytest.fixture
async def screenings(settings: Settings) -> AsyncIterator[PgScreenings]:
    """One process's."""
    async with pool(settings, Role.GATEWAY, application_name="test", size=8, planner=BY_KEY) as database:
        yield PgScreenings(database, salt=SALT, partitions=PARTITIONS, payment_deadline_s=DEADLINE_S)


def question(amount: int = 1000, *, currency: str = "EUR", merchant_id: str | None = None) -> Question:
    """About a fresh charge."""
    return Question(
        operation_id=rows.new_id(),
        payment_id=rows.new_id(),
        merchant_id=merchant_id or rows.new_id(),
        kind=OperationKind.SALE,
        method=Method.TOKEN,
        money=Money(amount=amount, currency=currency),
    )


async def charge(owner: Session, amount: int = 1000, **changes: object) -> Question:
    """About a charge that stands in the books, as the ingress accepts it; `changes` to its operation."""
    asked = question(amount)
    await rows.insert(owner, "merchants", rows.merchant(id=asked.merchant_id))
    payment = rows.payment(
        id=asked.payment_id,
        merchant_id=asked.merchant_id,
        amount=amount,
        customer='{"email": "Ada@example.org", "name": "Ada"}',
    )
    await rows.insert(owner, "payments", payment)
    told = {"id": asked.operation_id, "payment_id": asked.payment_id, "merchant_id": asked.merchant_id}
    await rows.insert(owner, "operations", rows.operation(**told, amount=amount, request='{"as": "made"}', **changes))
    return asked


async def bypassed(screenings: PgScreenings, owner: Session) -> Question:
    """A charge that passed while the check was out."""
    asked = await charge(owner)
    await screenings.bypass(asked, "timeout", ALL_PASSES)
    return asked


async def held(screenings: PgScreenings, owner: Session) -> Question:
    """A charge that waits for the check."""
    asked = await charge(owner)
    await screenings.bypass(asked, "timeout", NOTHING_PASSES)
    return asked


async def settle(
    screenings: PgScreenings, asked: Question, judgement: Judgement, *, gives_back: bool = False
) -> Settled:
    """The check says it later."""
    return await screenings.settle(
        asked,
        judgement,
        command_id=rows.new_id(),
        marker=late_rejection(asked, event_id=rows.new_id()),
        giving_back_id=rows.new_id() if gives_back else None,
    )


async def outbox(owner: Session) -> list[asyncpg.Record]:
    """What is on its way."""
    return list(await owner.fetch("SELECT *, id::text AS id FROM outbox"))


async def audited(owner: Session) -> list[tuple[str, str]]:
    """Who did what."""
    return [(row["actor"], row["action"]) for row in await owner.fetch("SELECT actor, action FROM audit_log")]
