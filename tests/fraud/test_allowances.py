"""What passes while the check is out: counted once for each charge, and never above the cap, however many count."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack

import pytest

from paynode.config import Settings
from paynode.domain.screening import Allowance, Question, Screened, Verdict
from paynode.storage.postgres import BY_KEY, Role, Session, pool
from paynode.storage.screening import PgScreenings
from tests.fraud.conftest import DEADLINE_S, PARTITIONS, SALT, question
from tests.storage import rows

ALLOWANCE = Allowance(payment_max=1000, hour_max=5000)
BYPASSED = Screened(verdict=Verdict.BYPASSED, reason="timeout")
HELD = Screened(verdict=Verdict.HELD, reason="timeout")


@pytest.fixture
async def gateways(settings: Settings) -> AsyncIterator[list[PgScreenings]]:
    """Those of several processes."""
    async with AsyncExitStack() as stack:
        pools = [
            await stack.enter_async_context(
                pool(settings, Role.GATEWAY, application_name=f"test-{number}", size=4, planner=BY_KEY)
            )
            for number in range(4)
        ]
        yield [
            PgScreenings(database, salt=SALT, partitions=PARTITIONS, payment_deadline_s=DEADLINE_S)
            for database in pools
        ]


async def exposed(owner: Session) -> list[tuple[int, int]]:
    """Amount and payments of each merchant, currency and hour."""
    found = await owner.fetch("SELECT amount, payments FROM fraud_exposure ORDER BY merchant_id, currency, hour")
    return [(row["amount"], row["payments"]) for row in found]


async def test_many_gateways_together_stay_within_the_cap(gateways: list[PgScreenings], owner: Session) -> None:
    merchant = rows.new_id()
    asked = [question(700, merchant_id=merchant) for _ in range(40)]
    screened = await asyncio.gather(
        *(gateways[number % 4].bypass(one, "timeout", ALLOWANCE) for number, one in enumerate(asked))
    )
    counted = await exposed(owner)
    passed = screened.count(BYPASSED)
    assert screened.count(HELD) == 40 - passed
    # Within one hour of the clock, unless the test was run across the end of one.
    assert counted == [(7 * 700, 7)] or len(counted) > 1
    assert sum(payments for _, payments in counted) == passed
    assert all(amount <= ALLOWANCE.hour_max for amount, _ in counted)


async def test_a_charge_that_is_brought_to_many_at_once_is_counted_once(
    gateways: list[PgScreenings], owner: Session
) -> None:
    asked = question()
    screened = await asyncio.gather(*(one.bypass(asked, "timeout", ALLOWANCE) for one in gateways * 3))
    assert set(screened) == {BYPASSED}
    assert await exposed(owner) == [(1000, 1)]


async def test_the_first_verdict_counts(screenings: PgScreenings, owner: Session) -> None:
    passed, asked = Screened(verdict=Verdict.PASSED), question()
    assert await screenings.record(asked, passed) == passed
    assert await screenings.record(asked, Screened(verdict=Verdict.REJECTED, reason="velocity")) == passed
    assert await screenings.bypass(asked, "timeout", ALLOWANCE) == passed
    assert (await screenings.find(asked.operation_id, asked.payment_id)).screened == passed
    assert await exposed(owner) == [], "and what was counted for a verdict that came too late is not"


@pytest.mark.parametrize(
    ("amount", "allowance", "expected"),
    [
        (1000, ALLOWANCE, BYPASSED),
        (1001, ALLOWANCE, HELD),
        (1000, Allowance(payment_max=1000, hour_max=999), HELD),
        (1, Allowance(payment_max=0, hour_max=0), HELD),
    ],
)
async def test_what_is_above_a_limit_is_held_and_leaves_the_cap_alone(
    screenings: PgScreenings, owner: Session, amount: int, allowance: Allowance, expected: Screened
) -> None:
    assert await screenings.bypass(question(amount), "timeout", allowance) == expected
    assert await exposed(owner) == ([(amount, 1)] if expected is BYPASSED else [])


async def test_merchants_currencies_and_hours_are_counted_apart(screenings: PgScreenings, owner: Session) -> None:
    merchant = rows.new_id()
    full = Allowance(payment_max=1000, hour_max=1000)

    async def is_passed(asked: Question) -> bool:
        return (await screenings.bypass(asked, "timeout", full)).verdict is Verdict.BYPASSED

    assert await is_passed(question(merchant_id=merchant))
    assert await is_passed(question(merchant_id=merchant, currency="USD"))
    assert await is_passed(question())
    await owner.execute("UPDATE fraud_exposure SET hour = hour - interval '1 hour'")
    assert await is_passed(question(merchant_id=merchant))
    assert [payments for _, payments in await exposed(owner)] == [1] * 4


async def test_a_cap_that_was_lowered_holds_at_once(screenings: PgScreenings, owner: Session) -> None:
    merchant = rows.new_id()
    await screenings.bypass(question(merchant_id=merchant), "timeout", ALLOWANCE)
    lower = Allowance(payment_max=1000, hour_max=1500)
    assert await screenings.bypass(question(merchant_id=merchant), "timeout", lower) == HELD
    assert (await exposed(owner))[0] == (1000, 1)
