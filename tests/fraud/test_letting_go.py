"""Letting go of a held charge whose first command is still there: of commands to send it there is one at a time."""

from __future__ import annotations

import asyncio

import pytest

from paynode.config import Settings
from paynode.domain.attempts import Claim, GatewayCommand
from paynode.domain.deciding import CommandKind
from paynode.domain.payment import PspOrder
from paynode.domain.psp import PspRequest
from paynode.domain.road import commands_stream
from paynode.domain.screening import Judgement, Question, Settled
from paynode.storage.attempts import PgAttempts
from paynode.storage.postgres import Role, Session, pool, session
from paynode.storage.screening import PgScreenings
from tests.fraud.conftest import ATTEMPT, NOTHING_PASSES, PARTITIONS, PASS, REJECT, charge, held, outbox, settle
from tests.storage import rows
from tests.support.waiting import wait_until


async def issued(owner: Session, asked: Question) -> str:
    """The command by which a charge came to its gateway, whose end was cut off; its row."""
    about = {"payment_id": asked.payment_id, "merchant_id": asked.merchant_id, "operation_id": asked.operation_id}
    row = rows.message(stream=commands_stream("sim"), type=CommandKind.SUBMIT, **about)
    await rows.insert(owner, "outbox", row)
    return str(row["id"])


async def claim(settings: Settings, asked: Question, ref: str) -> bool:
    """Whether a gateway that has this command in hand may send."""
    order = PspOrder(
        operation_id=asked.operation_id,
        payment_id=asked.payment_id,
        merchant_id=asked.merchant_id,
        psp="sim",
        money=asked.money,
        method=asked.method,
    )
    command = GatewayCommand(ref=ref, kind=CommandKind.SUBMIT, order=order)
    request = PspRequest(path="", body=b"{}", idempotency_key=asked.operation_id)
    async with pool(settings, Role.GATEWAY, application_name="test", size=1) as database:
        attempts = PgAttempts(database, gateway="g", send_within_s=5, call_deadline_s=10, partitions=PARTITIONS)
        [is_ours] = await attempts.claim([Claim(attempt_id=rows.new_id(), command=command, request=request)])
    return is_ours


@pytest.mark.parametrize(("judgement", "settled"), [(PASS, Settled.RELEASED), (REJECT, Settled.REFUSED)])
async def test_the_command_by_which_a_charge_was_held_goes_when_the_next_one_comes(
    settings: Settings, screenings: PgScreenings, owner: Session, judgement: Judgement, settled: Settled
) -> None:
    """Each that ends unsent brings one more, at the next PSP: two would be at two PSPs, and books know of one."""
    asked = await held(screenings, owner)
    first = await issued(owner, asked)
    assert await settle(screenings, asked, judgement) is settled
    [row] = await outbox(owner)
    assert row["id"] != first
    assert not await claim(settings, asked, first), "whoever has it in hand may not send"
    assert await claim(settings, asked, row["id"])


async def test_a_command_by_which_something_may_have_been_sent_stays_and_stays_alone(
    settings: Settings, screenings: PgScreenings, owner: Session
) -> None:
    """From before the check was switched on: what came of it is told by its end."""
    asked = await charge(owner)
    first = await issued(owner, asked)
    assert await claim(settings, asked, first)
    await screenings.bypass(asked, "timeout", NOTHING_PASSES)
    assert await settle(screenings, asked, PASS) is Settled.RELEASED
    assert [row["id"] for row in await outbox(owner)] == [first]


async def test_a_charge_that_is_being_claimed_while_it_is_let_go_is_seen_to_be(
    settings: Settings, screenings: PgScreenings, owner: Session
) -> None:
    """By a gateway from before the check was switched on."""
    asked = await held(screenings, owner)
    first = await issued(owner, asked)

    async def is_waiting() -> bool:
        waits = "SELECT FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND query LIKE '%settle_screening%'"
        return bool(await owner.fetch(waits))

    async with (
        session(settings, Role.OWNER, application_name="test") as claiming,
        asyncio.TaskGroup() as group,
        claiming.transaction(),
    ):
        # What claiming does, held open between its row lock and its end.
        await claiming.execute("SELECT FROM outbox WHERE id = $1 FOR KEY SHARE", first)
        await claiming.execute(ATTEMPT, asked.operation_id, asked.payment_id)
        settling = group.create_task(settle(screenings, asked, PASS))
        await wait_until(is_waiting, "whoever lets it go waits for the claim")
    assert settling.result() is Settled.RELEASED
    assert [row["id"] for row in await outbox(owner)] == [first]
