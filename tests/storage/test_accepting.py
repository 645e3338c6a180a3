"""Accepted payments in the database: who wins, who loses, and what the loser is told."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime

import anyio
import pytest
from uuid_utils import uuid7

from paynode.config import Settings
from paynode.domain.accepting import Abandoned, Accepted, KeyUse, NewPayment, StoredAnswer
from paynode.domain.errors import (
    IdempotencyKeyInFlight,
    IdempotencyKeyReused,
    OrderHasOpenPayment,
    Poison,
    Unavailable,
)
from paynode.domain.money import Money
from paynode.domain.payment import Method, PspOrder, Status
from paynode.domain.reading import PaymentView
from paynode.storage.accepting import PgAccepting
from paynode.storage.postgres import Role, Session, pool
from paynode.storage.reading import PgReading
from tests.storage import rows
from tests.support.waiting import wait_until

ANSWER = StoredAnswer(status=201, headers={"Location": "/v1/payments/pay_1", "ETag": '"1"'}, body='{"a":"€"}'.encode())


@pytest.fixture
async def accepting(settings: Settings) -> AsyncIterator[PgAccepting]:
    async with pool(settings, Role.INGRESS, application_name="test") as opened:
        yield PgAccepting(opened)


@pytest.fixture
async def merchant_id(owner: Session) -> str:
    merchant = rows.merchant()
    await rows.insert(owner, "merchants", merchant)
    return str(merchant["id"])


def payment(
    merchant_id: str, *, key: str = "", order_id: str = "", answer: StoredAnswer | None = None, in_flight_s: float = 9
) -> NewPayment:
    """A payment of a key and an order of its own, unless they are given."""
    now = datetime(2026, 3, 1, tzinfo=UTC)
    money = Money(amount=1250, currency="EUR")
    ids = [str(uuid7()) for _ in range(4)]
    view = PaymentView(
        id=ids[0],
        merchant_id=merchant_id,
        order_id=order_id or ids[0],
        status=Status.CREATED,
        money=money,
        method=Method.HOSTED_PAGE,
        return_url="https://shop.example/",
        psp="sim",
        metadata={"a": "b"},
        created_at=now,
        updated_at=now,
    )
    order = PspOrder(
        operation_id=ids[1],
        payment_id=view.id,
        merchant_id=merchant_id,
        psp="sim",
        money=money,
        method=Method.HOSTED_PAGE,
        return_url="https://pay.example/",
    )
    return NewPayment(
        view=view,
        order=order,
        use=KeyUse(merchant_id=merchant_id, path="/v1/payments", key=key or ids[0], fingerprint=bytes(32)),
        command_id=ids[2],
        event_id=ids[3],
        customer={"email": "ada@example.org"},
        description="Socks",
        in_flight_s=in_flight_s,
        answer=answer,
    )


async def test_what_was_accepted_is_read_back_as_it_was_shown(
    accepting: PgAccepting, settings: Settings, merchant_id: str
) -> None:
    made = payment(merchant_id)
    assert await accepting.accept([made]) == {made.view.id}
    async with pool(settings, Role.READER, application_name="test") as reading:
        assert await PgReading(reading).payment(merchant_id, made.view.id) == made.view


async def test_of_a_group_those_are_accepted_whose_key_and_order_are_free(
    accepting: PgAccepting, owner: Session, merchant_id: str
) -> None:
    known = payment(merchant_id, key="k", order_id="o", answer=ANSWER)
    await accepting.accept([known])
    group = [
        payment(merchant_id),
        payment(merchant_id, key="k"),
        replace(payment(merchant_id, key="k"), use=replace(known.use, fingerprint=bytes([1] * 32))),
        payment(merchant_id, order_id="o"),
        payment(merchant_id),
    ]
    won = await accepting.accept(group)
    assert won == {group[0].view.id, group[4].view.id}
    told = await accepting.find(group)
    assert told[0] == Accepted(payment_id=group[0].view.id)
    assert told[1] == ANSWER
    assert isinstance(told[2], IdempotencyKeyReused)
    assert isinstance(told[3], OrderHasOpenPayment)
    assert told[3].payment_id == known.view.id
    for table in ("payments", "operations", "payment_events", "outbox", "idempotency_keys"):
        assert await owner.fetchval(f"SELECT count(*) FROM {table}") == 3, table


async def test_a_key_that_stands_twice_in_a_group_is_accepted_once(accepting: PgAccepting, merchant_id: str) -> None:
    group = [payment(merchant_id, key="k") for _ in range(5)]
    won = await accepting.accept(group)
    assert len(won) == 1
    told = await accepting.find(group)
    assert sum(isinstance(verdict, IdempotencyKeyInFlight) for verdict in told) == 4


async def test_nothing_is_known_of_what_was_never_accepted(accepting: PgAccepting, merchant_id: str) -> None:
    assert await accepting.find([payment(merchant_id)]) == [None]


async def test_many_groups_with_the_same_keys_and_orders_at_once_accept_each_once(
    accepting: PgAccepting, owner: Session, merchant_id: str
) -> None:
    won: list[str] = []

    async def one(shift: int) -> None:
        group = [payment(merchant_id, key=f"k{(n + shift) % 20}", order_id=f"o{(n + shift) % 20}") for n in range(20)]
        won.extend(await accepting.accept(group))

    async with anyio.create_task_group() as tasks:
        for shift in range(8):
            tasks.start_soon(one, shift)
    assert len(won) == len(set(won)) == 20
    assert await owner.fetchval("SELECT count(*) FROM outbox") == 20


async def test_an_abandoned_request_is_adopted_by_one_of_its_retries(accepting: PgAccepting, merchant_id: str) -> None:
    made = payment(merchant_id, key="k", in_flight_s=0)
    await accepting.accept([made])
    (told,) = await accepting.find([payment(merchant_id, key="k")])
    assert told == Abandoned(payment_id=made.view.id)
    adopted: list[bool] = []

    async def adopt() -> None:
        adopted.append(await accepting.adopt(made.use, in_flight_s=9))

    async with anyio.create_task_group() as tasks:
        for _ in range(8):
            tasks.start_soon(adopt)
    assert sorted(adopted) == [False] * 7 + [True]
    (told,) = await accepting.find([payment(merchant_id, key="k")])
    assert isinstance(told, IdempotencyKeyInFlight)
    assert 8 < told.retry_after_s <= 9


async def test_the_first_stored_answer_wins(accepting: PgAccepting, merchant_id: str) -> None:
    made = payment(merchant_id, key="k")
    await accepting.accept([made])
    assert await accepting.store(made.use, ANSWER) is None
    later = replace(ANSWER, body=b"{}")
    assert await accepting.store(made.use, later) == ANSWER
    assert await accepting.find([payment(merchant_id, key="k")]) == [ANSWER]


async def test_a_released_key_may_be_adopted_at_once_and_an_answered_one_never(
    accepting: PgAccepting, merchant_id: str
) -> None:
    made = payment(merchant_id, key="k")
    await accepting.accept([made])
    assert await accepting.adopt(made.use, in_flight_s=9) is False
    await accepting.release(made.use)
    assert await accepting.adopt(made.use, in_flight_s=0) is True
    await accepting.store(made.use, ANSWER)
    await accepting.release(made.use)
    assert await accepting.adopt(made.use, in_flight_s=9) is False


async def test_what_the_database_refuses_is_poison_that_quotes_nothing(
    accepting: PgAccepting, owner: Session, merchant_id: str
) -> None:
    good, bad = payment(merchant_id), payment(str(uuid7()))
    with pytest.raises(Poison) as caught:
        await accepting.accept([good, bad])
    assert caught.value.reason == "refused_by_database"
    assert bad.view.id not in str(caught.value)
    assert await owner.fetchval("SELECT count(*) FROM payments") == 0


async def test_a_lost_connection_is_unavailable(accepting: PgAccepting, owner: Session, merchant_id: str) -> None:
    async def cut() -> None:
        async def is_ended() -> bool:
            return bool(
                await owner.fetchval(
                    """SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity
                    WHERE datname = current_database() AND wait_event_type = 'Lock'"""
                )
            )

        await wait_until(is_ended, "the statement waits for our lock, and its session is ended")

    async with owner.transaction(), anyio.create_task_group() as tasks:
        await owner.execute("LOCK TABLE payments IN ACCESS EXCLUSIVE MODE")
        tasks.start_soon(cut)
        with pytest.raises(Unavailable):
            await accepting.accept([payment(merchant_id)])
    assert await accepting.find([payment(merchant_id)]) == [None]
