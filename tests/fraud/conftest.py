"""Screenings as the gateway keeps them, and charges to screen."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from paynode.config import Settings
from paynode.domain.money import Money
from paynode.domain.payment import Method, OperationKind
from paynode.domain.screening import Question
from paynode.storage.postgres import Role, Session, pool, session
from paynode.storage.screening import PgScreenings
from tests.storage import rows

PARTITIONS = 32
SALT = "salt"
DEADLINE_S = 900.0


@pytest.fixture
async def owner(settings: Settings) -> AsyncIterator[Session]:
    """A session of the schema's owner."""
    async with session(settings, Role.OWNER, application_name="test") as connection:
        yield connection


@pytest.fixture
async def screenings(settings: Settings) -> AsyncIterator[PgScreenings]:
    """One process's."""
    async with pool(settings, Role.GATEWAY, application_name="test", size=8, is_by_key=True) as database:
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
