"""The marks of points of sale: what counts as overdue, who may decide, and by which lane it all goes."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from functools import partial

import anyio
import asyncpg
import pytest

from paynode.config import Settings
from paynode.domain.accepting import KeyUse, StoredAnswer
from paynode.domain.attempts import Conclusion, GatewayCommand
from paynode.domain.deciding import CommandKind
from paynode.domain.evidence import TOO_LATE
from paynode.domain.money import Money
from paynode.domain.partition import partition_of
from paynode.domain.payment import Method, OperationKind, PspOrder
from paynode.domain.point_of_sale import Mark, Marked, Marking
from paynode.domain.psp import Answer, Outcome
from paynode.domain.road import Pointer, commands_stream, events_stream, pos_lane
from paynode.storage.attempts import PgAttempts
from paynode.storage.bodies import decode_fact, encode_order
from paynode.storage.point_of_sale import PgPointOfSale
from paynode.storage.postgres import Pool, Role, Session, pool, session
from tests.storage import rows
from tests.support.waiting import wait_until

FINAL = ("declined", "voided", "canceled", "expired", "failed")
APPROVED = Answer(outcome=Outcome.APPROVED, reference="ch_1", amount=1000, currency="EUR")


@pytest.fixture
async def merchant(owner: Session) -> str:
    row = rows.merchant()
    await rows.insert(owner, "merchants", row)
    return str(row["id"])


@pytest.fixture
async def gateways(settings: Settings) -> AsyncIterator[Pool]:
    async with pool(settings, Role.GATEWAY, application_name="test") as connections:
        yield connections


async def payment(owner: Session, merchant: str, *, ago_s: float | None = 60, **changes: object) -> str:
    """A payment whose time was over so long ago; None: it is not at a point of sale."""
    reverse_at = None if ago_s is None else datetime.now(UTC) - timedelta(seconds=ago_s)
    row = rows.payment(merchant_id=merchant, reverse_at=reverse_at, **changes)
    await rows.insert(owner, "payments", row)
    return str(row["id"])


def marking(payment_id: str, merchant: str) -> Marking:
    return Marking(
        payment_id=payment_id,
        merchant_id=merchant,
        event_id=rows.new_id(),
        request_id=rows.new_id(),
        stream="paynode:{p00}:events:pos",
        at=datetime.now(UTC),
    )


async def test_overdue_is_what_nobody_has_decided_and_what_has_not_come_to_nothing(
    owner: Session, gateways: Pool, merchant: str
) -> None:
    now = datetime.now(UTC)
    for status in FINAL:
        await payment(owner, merchant, status=status)
    await payment(owner, merchant, ago_s=None)
    await payment(owner, merchant, ago_s=-60)
    await payment(owner, merchant, kept_at=now, status="authorized")
    await payment(owner, merchant, reversed_at=now, status="authorized")
    found = [await payment(owner, merchant, ago_s=60 - number) for number in range(3)]
    late = await payment(owner, merchant, ago_s=1, status="authorized")
    desk = PgPointOfSale(gateways)
    assert [one.payment_id for one in await desk.overdue(grace_s=10, count=10)] == found
    assert [one.payment_id for one in await desk.overdue(grace_s=0, count=10)] == [*found, late]
    assert [one.payment_id for one in await desk.overdue(grace_s=0, count=2)] == found[:2]

    first = await desk.reverse(marking(found[0], merchant))
    assert (first.mark, first.is_new) == (Mark.REVERSED, True)
    again = await desk.reverse(marking(found[0], merchant))
    assert (again.mark, again.is_new) == (Mark.REVERSED, False)
    assert found[0] not in [one.payment_id for one in await desk.overdue(grace_s=0, count=10)]


@pytest.mark.parametrize(("verdict", "is_told"), [("held", True), ("passed", False)])
async def test_a_charge_that_the_fraud_check_holds_ends_with_the_reversal(
    owner: Session, gateways: Pool, merchant: str, verdict: str, is_told: bool
) -> None:
    """Nothing more would ever be heard of it; what was let go has its answer to come."""
    one = await payment(owner, merchant, status="review")
    charge = rows.operation(payment_id=one, merchant_id=merchant, kind="authorize")
    await rows.insert(owner, "operations", charge)
    about = {"operation_id": charge["id"], "payment_id": one, "merchant_id": merchant, "kind": "authorize"}
    screening = {**about, "method": "token", "amount": 1000, "currency": "EUR", "reason": "", "is_owed": False}
    await rows.insert(owner, "screenings", {**screening, "verdict": verdict})
    marked = marking(one, merchant)
    for _ in range(2):
        assert (await PgPointOfSale(gateways).reverse(marked)).mark is Mark.REVERSED
    told = await owner.fetch("SELECT *, id::text AS id FROM outbox WHERE type = 'psp.evidence'")
    facts = [decode_fact(row["body"]) for row in told]
    assert [(fact.operation_id, fact.outcome, fact.reason) for fact in facts] == [
        (charge["id"], Outcome.NOT_SENT, TOO_LATE)
    ] * is_told
    assert [(fact.event_id, marked.stream) for fact in facts] == [(row["id"], row["stream"]) for row in told]


@pytest.mark.parametrize("status", FINAL)
async def test_what_has_come_to_nothing_is_found_again_when_evidence_says_it_has_not(
    owner: Session, gateways: Pool, merchant: str, status: str
) -> None:
    one, desk = await payment(owner, merchant, status=status), PgPointOfSale(gateways)
    assert (await desk.reverse(marking(one, merchant))).mark is None
    await owner.execute("UPDATE payments SET status = 'authorized' WHERE id = $1", one)
    assert [found.payment_id for found in await desk.overdue(grace_s=0, count=10)] == [one]
    assert (await desk.reverse(marking(one, merchant))).mark is Mark.REVERSED


async def test_before_its_time_nothing_is_reversed_and_it_is_told_how_long_that_is(
    owner: Session, gateways: Pool, merchant: str
) -> None:
    one = await payment(owner, merchant, ago_s=-60)
    found = await PgPointOfSale(gateways).reverse(marking(one, merchant))
    assert (found.mark, found.is_new) == (None, False)
    assert 30 < found.left_s <= 60


@pytest.fixture
async def ingress(settings: Settings) -> AsyncIterator[Pool]:
    async with pool(settings, Role.INGRESS, application_name="test") as connections:
        yield connections


async def test_what_was_given_up_is_not_kept(owner: Session, ingress: Pool, merchant: str) -> None:
    """It is authorized, by a late success, and already being voided: nobody is to hand over goods for it."""
    one = await payment(owner, merchant, ago_s=-60, status="authorized", given_up_at=datetime.now(UTC))
    assert (await keep(PgPointOfSale(ingress), one, merchant)).mark is None
    kept = await payment(owner, merchant, ago_s=-60, status="authorized", order_id="order-2")
    assert (await keep(PgPointOfSale(ingress), kept, merchant)).mark is Mark.KEPT


async def test_nothing_is_kept_after_its_time_however_the_wait_for_its_row_ends(
    owner: Session, ingress: Pool, merchant: str, settings: Settings
) -> None:
    """After a rollback an update that has waited compares nothing again: not with the clock either."""
    one, desk = await payment(owner, merchant, ago_s=-1, status="authorized"), PgPointOfSale(ingress)
    found: list[Marked] = []

    async def decide() -> None:
        found.append(await keep(desk, one, merchant))

    async with session(settings, Role.OWNER, application_name="holder") as holder, anyio.create_task_group() as group:
        held = holder.transaction()
        await held.start()
        await holder.execute("UPDATE payments SET updated_at = updated_at WHERE id = $1", one)
        group.start_soon(decide)
        await wait_until(partial(is_over, owner, one), "somebody waits for the row, and its time has passed")
        await held.rollback()
    [marked] = found
    assert marked.mark is Mark.REVERSED


async def is_over(owner: Session, payment_id: str) -> bool:
    waits = "SELECT FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND query LIKE '%decide_pos%'"
    is_late = "SELECT reverse_at < clock_timestamp() FROM payments WHERE id = $1"
    return bool(await owner.fetch(waits) and await owner.fetchval(is_late, payment_id))


async def keep(desk: PgPointOfSale, payment_id: str, merchant: str) -> Marked:
    use = KeyUse(merchant_id=merchant, path="/v1/payments", key=payment_id, fingerprint=b"")
    answer = StoredAnswer(status=201, headers={}, body=b"{}")
    return await desk.keep(marking(payment_id, merchant), 1, use, answer)


async def test_the_mark_is_one_or_the_other_by_law_of_the_database(owner: Session, merchant: str) -> None:
    now = datetime.now(UTC)
    with pytest.raises(asyncpg.CheckViolationError):
        await payment(owner, merchant, kept_at=now, reversed_at=now)


@pytest.mark.parametrize("role", [Role.COMMITTER, Role.READER])
async def test_nobody_else_may_decide(settings: Settings, role: Role, merchant: str) -> None:
    async with session(settings, role, application_name="test") as connection:
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await connection.execute("SELECT decide_pos($1, false, 0, now(), $1, $1, '')", merchant)


async def test_the_sweep_finds_its_few_among_many_by_their_index(owner: Session, merchant: str) -> None:
    await owner.execute(
        """INSERT INTO payments (id, merchant_id, idempotency_key, order_id, amount, currency, capture, method,
            metadata, status, psp, reverse_at, kept_at)
        SELECT gen_random_uuid(), $1, n::text, n::text, 1, 'EUR', 'manual', '{"type": "token"}', '{}', 'authorized',
            'sim', now(), now() FROM generate_series(1, 5000) AS n""",
        merchant,
    )
    body = await owner.fetchval("SELECT prosrc FROM pg_proc WHERE proname = 'find_overdue_pos'")
    plan = await owner.fetch("EXPLAIN " + body.replace("grace_s", "1").replace("LIMIT count", "LIMIT 100"))
    assert "payments_to_reverse" in str(plan), plan


@pytest.mark.parametrize("is_pos", [True, False])
async def test_evidence_goes_by_the_lane_by_which_its_command_came(
    owner: Session, gateways: Pool, merchant: str, is_pos: bool
) -> None:
    order = PspOrder(
        operation_id=rows.new_id(),
        payment_id=rows.new_id(),
        merchant_id=merchant,
        psp="sim",
        kind=OperationKind.AUTHORIZE,
        money=Money(amount=1000, currency="EUR"),
        method=Method.TOKEN,
        token="tok_approve",
    )
    lane = pos_lane if is_pos else str
    row = rows.message(stream=lane(commands_stream("sim")), type=CommandKind.SUBMIT, body=encode_order(order))
    await rows.insert(owner, "outbox", row)
    command = GatewayCommand(ref=str(row["id"]), kind=CommandKind.SUBMIT, order=order)
    attempts = PgAttempts(gateways, gateway="g", send_within_s=5, call_deadline_s=10, partitions=32)
    ended = Conclusion(command=command, attempt_id=None, answer=APPROVED, evidence_id=rows.new_id())
    [pointer] = await attempts.conclude([ended])
    assert isinstance(pointer, Pointer)
    assert pointer.stream == lane(events_stream(partition_of(pointer.merchant, 32)))
