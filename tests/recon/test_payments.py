"""What has not ended: put back on its way where nothing would move it, left alone where somebody is at it."""

from __future__ import annotations

import time

import orjson
import pytest

from paynode.app.parts import new_id
from paynode.domain.ids import MERCHANT, public
from paynode.domain.partition import partition_of
from paynode.domain.reconciling import Window
from paynode.domain.road import commands_stream, events_stream, follow_up_lane, pos_lane
from paynode.recon.payments import PaymentReconciliation
from paynode.storage.bodies import decode_fact
from paynode.storage.postgres import Pool, Session
from paynode.storage.recon_payments import PgMending, PgOpenOperations
from tests.recon.hands import breaks, kinds, outbox, runs
from tests.storage import rows, world
from tests.storage.world import Shop

_PARTITIONS = 32
COMMANDS = commands_stream("sim")


@pytest.fixture
def payments(reading: Pool, writing: Pool) -> PaymentReconciliation:
    return PaymentReconciliation(
        PgOpenOperations(reading, page_size=2),
        PgMending(writing),
        runs(writing),
        partitions=_PARTITIONS,
        new_id=new_id,
    )


@pytest.fixture
async def shop(owner: Session) -> Shop:
    return await world.open_shop(owner)


def until_now() -> Window:
    return Window(since_ms=0, until_ms=round(time.time() * 1000) + 60_000)


async def _open(owner: Session, shop: Shop, state: str = "new", kind: str = "sale", **changes: object) -> str:
    """An operation that has not ended, and nothing that would end it; its id."""
    payment = rows.payment(merchant_id=shop.id, **changes)
    operation = rows.operation(payment_id=payment["id"], merchant_id=shop.id, state=state, kind=kind)
    await rows.insert(owner, "payments", payment)
    await rows.insert(owner, "operations", operation)
    return str(operation["id"])


async def _attempt(owner: Session, operation_id: str, outcome: str | None) -> None:
    await owner.execute(
        "INSERT INTO psp_attempts (id, operation_id, payment_id, psp, path, request, gateway, send_by, deadline_at, "
        "outcome, reason, concluded_at) SELECT gen_random_uuid(), id, payment_id, psp, '/', '', 'w', now(), "
        "now() + interval '1 second', $2::text, 'card_declined', CASE WHEN $2::text IS NOT NULL THEN now() END "
        "FROM operations WHERE id = $1",
        operation_id,
        outcome,
    )


@pytest.mark.parametrize(
    ("state", "attempts", "cure", "stream"),
    [
        ("new", [], "psp.submit", COMMANDS),
        ("new", ["not_sent"], "psp.submit", COMMANDS),
        ("new", [None], "psp.submit", COMMANDS),  # it ends in doubt: its claim stands, and nothing is sent
        ("new", ["approved"], "psp.inquire", follow_up_lane(COMMANDS)),
        ("unknown", ["unknown"], "psp.inquire", follow_up_lane(COMMANDS)),
        ("pending", ["pending"], "psp.inquire", follow_up_lane(COMMANDS)),
        ("unknown", ["not_sent", "absent"], "psp.inquire", follow_up_lane(COMMANDS)),
    ],
)
async def test_what_nothing_would_end_is_put_back_on_its_way(
    owner: Session,
    payments: PaymentReconciliation,
    shop: Shop,
    state: str,
    attempts: list[str | None],
    cure: str,
    stream: str,
) -> None:
    operation = await _open(owner, shop, state)
    for outcome in attempts:
        await _attempt(owner, operation, outcome)
    report = await payments.run_once(until_now())
    assert (report.tally.found, report.tally.repairs) == ({"stuck": 1}, 1)
    [message] = await outbox(owner)
    assert (message["type"], message["stream"], message["operation_id"]) == (cure, stream, operation)
    assert await kinds(owner) == [("stuck", 0, "repairing")]
    await payments.run_once(until_now())
    assert len(await outbox(owner)) == 1

    await owner.execute("DELETE FROM outbox")
    await owner.execute("UPDATE operations SET state = 'approved'")
    await payments.run_once(until_now())
    assert await kinds(owner) == [("stuck", 0, "repaired")]


async def test_what_the_psp_has_declined_is_told_again(
    owner: Session, payments: PaymentReconciliation, shop: Shop
) -> None:
    operation = await _open(owner, shop, reverse_at=rows.INSTANT)
    await _attempt(owner, operation, "declined")
    await payments.run_once(until_now())
    [message] = await outbox(owner)
    fact = decode_fact(orjson.dumps(message["body"]))
    assert (fact.outcome, fact.operation_id, fact.reason) == ("declined", operation, "card_declined")
    assert message["id"] == fact.event_id
    partition = partition_of(public(MERCHANT, shop.id), _PARTITIONS)
    assert message["stream"] == pos_lane(events_stream(partition))


@pytest.mark.parametrize("kind", ["capture", "refund", "void"])
async def test_what_follows_a_charge_goes_by_its_own_lane(
    owner: Session, payments: PaymentReconciliation, shop: Shop, kind: str
) -> None:
    await _open(owner, shop, kind=kind)
    await payments.run_once(until_now())
    [message] = await outbox(owner)
    assert message["stream"] == follow_up_lane(COMMANDS)


async def test_nothing_is_done_about_what_somebody_is_at(
    owner: Session, payments: PaymentReconciliation, shop: Shop
) -> None:
    await world.processing(owner, shop)
    held, parked, dead = [await _open(owner, shop) for _ in range(3)]
    await owner.execute(
        "INSERT INTO screenings (operation_id, payment_id, merchant_id, kind, method, amount, currency, verdict, "
        "reason, is_owed) SELECT id, payment_id, merchant_id, 'sale', 'token', 1000, 'EUR', 'held', '', false "
        "FROM operations WHERE id = $1",
        held,
    )
    waiting = "SELECT gen_random_uuid() AS id, 'paynode:{p00}:events' AS stream, 'psp.evidence' AS type, merchant_id"
    await owner.execute(
        f"INSERT INTO parked (id, stream, type, merchant_id, payment_id, body, created_at) {waiting}, payment_id, "
        "'{}', now() FROM operations WHERE id = $1",
        parked,
    )
    await owner.execute(
        "INSERT INTO dead_letters (id, stream, entry_id, reason, error, attempts, fields, payment_id) "
        "SELECT gen_random_uuid(), 's', '1-0', 'r', 'e', 1, '{}', payment_id FROM operations WHERE id = $1",
        dead,
    )
    before = await outbox(owner)
    assert (await payments.run_once(until_now())).tally.differing == 0
    assert await outbox(owner) == before


async def test_what_people_must_say_grows_older_until_they_have(
    owner: Session, payments: PaymentReconciliation, shop: Shop
) -> None:
    await _open(owner, shop, "review")
    await _open(owner, shop, "approved", status="review")
    await payments.run_once(until_now())
    first = await breaks(owner)
    assert [one["kind"] for one in first] == ["in_review", "in_review"]
    # It is not in the window any more, and looked at all the same.
    await payments.run_once(Window(since_ms=0, until_ms=1))
    second = await breaks(owner, "open")
    assert [one["id"] for one in second] == [one["id"] for one in first]
    assert all(one["last_seen_at"] > one["first_seen_at"] for one in second)
    await owner.execute("UPDATE operations SET state = 'declined' WHERE state = 'review'")
    await owner.execute("UPDATE payments SET status = 'captured', amount_authorized = 1, amount_captured = 1")
    await payments.run_once(Window(since_ms=0, until_ms=1))
    assert {state for _, _, state in await kinds(owner)} == {"gone"}
    assert await outbox(owner) == []


async def test_what_is_young_is_not_looked_at(owner: Session, payments: PaymentReconciliation, shop: Shop) -> None:
    await _open(owner, shop)
    window = Window(since_ms=0, until_ms=round(time.time() * 1000) - 900_000)
    assert (await payments.run_once(window)).tally.checked == 0


async def test_an_operation_is_mended_three_times_and_then_left_to_people(
    owner: Session, payments: PaymentReconciliation, shop: Shop
) -> None:
    await _open(owner, shop)
    for _ in range(5):
        await payments.run_once(until_now())
        await owner.execute("DELETE FROM outbox")
    [found] = await breaks(owner)
    assert (found["state"], found["repairs"]) == ("open", 3)


async def test_a_dry_run_leaves_it_where_it_is(owner: Session, payments: PaymentReconciliation, shop: Shop) -> None:
    operation = await _open(owner, shop)
    report = await payments.run_once(until_now(), is_dry=True)
    assert [one.subject for one in report.found] == [operation]
    assert await breaks(owner) == []
    assert await outbox(owner) == []
