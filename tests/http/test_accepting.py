"""`POST /v1/payments`: what is answered, and what is in the database by then."""

from __future__ import annotations

import re

import anyio

from paynode.domain import ids
from paynode.domain.road import Pointer
from paynode.storage.bodies import decode_order
from tests.http.house import House, Reply, by_token, hosted, new_merchant
from tests.support.waiting import wait_until

INSTANT = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z")


async def test_a_token_payment_is_answered_at_once_and_is_processing(house: House) -> None:
    reply = await house.pay(by_token(order_id="A-1", metadata={"basket": "7"}))
    payment = reply.json
    assert reply.status == 201
    assert INSTANT.fullmatch(payment.pop("created_at"))
    assert INSTANT.fullmatch(payment.pop("updated_at"))
    assert payment == {
        "id": await house.only_payment(),
        "object": "payment",
        "merchant_id": house.merchant.public_id,
        "order_id": "A-1",
        "status": "processing",
        "amount": 1250,
        "currency": "EUR",
        "amount_authorized": 0,
        "amount_captured": 0,
        "amount_refunded": 0,
        "refund_status": "none",
        "capture": "automatic",
        "checkout_url": None,
        "next_action": None,
        "psp": "sim",
        "psp_reference": None,
        "fraud_check": "none",
        "metadata": {"basket": "7"},
        "version": 1,
    }
    assert reply.headers["Location"] == f"/v1/payments/{payment['id']}"
    assert reply.headers["ETag"] == '"1"'


async def test_the_answer_says_what_a_read_says(house: House) -> None:
    made = await house.pay()
    assert (await house.get(made.headers["Location"])).json == made.json


async def test_one_payment_is_one_row_of_each_kind_and_its_command_is_published(house: House) -> None:
    await house.pay(by_token(description="Socks", customer={"email": "ada@example.org"}))
    for table in ("payments", "operations", "outbox", "payment_events", "idempotency_keys"):
        assert await house.count(table) == 1, table
    command = await house.owner.fetchrow("SELECT *, body::text AS text FROM outbox")
    operation = await house.owner.fetchrow("SELECT *, request::text AS text FROM operations")
    assert command is not None
    assert operation is not None
    order = decode_order(command["text"])
    assert order == decode_order(operation["text"])
    assert (order.operation_id, order.token, order.description) == (str(operation["id"]), "tok_approve", "Socks")
    assert (command["type"], command["stream"]) == ("psp.submit", "paynode:{psp-sim}:commands")
    assert command["published_at"] is not None
    await wait_until(lambda: bool(house.recorder.published), "the command is published")
    assert house.recorder.published == [Pointer(stream=command["stream"], ref=str(command["id"]))]
    event = await house.owner.fetchrow("SELECT * FROM payment_events")
    assert event is not None
    assert (event["version"], event["type"], event["data"]) == (1, "payment.created", '{"status": "processing"}')


async def test_the_token_is_only_where_the_gateway_needs_it(house: House) -> None:
    await house.pay(by_token(method={"type": "token", "token": "tok_secret"}))
    row = await house.owner.fetchval("SELECT p::text || k::text FROM payments p, idempotency_keys k")
    assert "tok_secret" not in row


async def test_a_payment_is_accepted_while_redis_is_away(house: House) -> None:
    house.recorder.is_away = True
    assert (await house.pay()).status == 201
    assert (await house.pay()).status == 201
    assert await house.count("outbox") == 2


async def test_a_hosted_payment_is_answered_as_soon_as_its_page_exists(house: House) -> None:
    async def open_page() -> None:
        await wait_until(lambda: _has_payments(house, 1), "the payment is committed")
        await house.become(await house.only_payment(), "requires_action", page_url="https://psp.example/p/1")

    reply = await _while(house, open_page)
    assert reply.status == 201
    payment = reply.json
    checkout = f"https://pay.example/checkout/{payment['id']}"
    assert payment["checkout_url"] == checkout
    assert payment["next_action"] == {"type": "redirect", "url": checkout}
    assert (payment["status"], payment["version"], reply.headers["ETag"]) == ("requires_action", 2, '"2"')


async def test_a_page_is_found_without_any_notice(house: House) -> None:
    async def open_page() -> None:
        await wait_until(lambda: _has_payments(house, 1), "the payment is committed")
        await house.become(
            await house.only_payment(), "requires_action", page_url="https://psp.example/p/1", notice=False
        )

    assert (await _while(house, open_page)).status == 201


async def test_a_hosted_payment_without_a_page_in_time_is_answered_202(house: House) -> None:
    reply = await house.pay(hosted())
    assert reply.status == 202
    assert reply.json["status"] == "created"
    assert reply.json["checkout_url"] == f"https://pay.example/checkout/{reply.json['id']}"
    assert reply.headers["Location"] == f"/v1/payments/{reply.json['id']}"
    assert reply.headers["Retry-After"] == "1"


async def test_the_psp_sends_the_customer_back_to_us_and_not_to_the_shop(house: House) -> None:
    reply = await house.pay(hosted())
    order = decode_order(await house.owner.fetchval("SELECT request FROM operations"))
    assert order.return_url == f"https://pay.example/checkout/{reply.json['id']}/return"


async def test_an_order_has_one_open_payment(house: House) -> None:
    first = await house.pay(by_token(order_id="A-1"))
    second = await house.pay(by_token(order_id="A-1"))
    assert (second.status, second.code) == (409, "order_has_open_payment")
    assert second.json["payment_id"] == first.json["id"]
    assert await house.count("payments") == 1


async def test_an_order_may_be_paid_again_after_a_decline(house: House) -> None:
    first = await house.pay(by_token(order_id="A-1"))
    await house.become(first.json["id"], "declined")
    assert (await house.pay(by_token(order_id="A-1"))).status == 201


async def test_two_merchants_may_have_the_same_order_and_the_same_key(house: House) -> None:
    first = await house.pay(by_token(order_id="A-1"), key="k")
    house.merchant = await new_merchant(house.owner)
    second = await house.pay(by_token(order_id="A-1"), key="k")
    assert (first.status, second.status) == (201, 201)
    assert first.json["id"] != second.json["id"]


async def test_a_merchant_whose_psps_are_not_here_is_told_so(house: House) -> None:
    house.merchant = await new_merchant(house.owner, psps=["elsewhere"])
    reply = await house.pay()
    assert (reply.status, reply.code) == (422, "no_route")


async def test_many_payments_at_once_are_each_accepted_once(house: House) -> None:
    replies: list[Reply] = []

    async def one() -> None:
        replies.append(await house.pay())

    async with anyio.create_task_group() as tasks:
        for _ in range(100):
            tasks.start_soon(one)
    assert [reply.status for reply in replies] == [201] * 100
    assert len({reply.json["id"] for reply in replies}) == 100
    assert await house.count("outbox") == 100
    await wait_until(lambda: len(house.recorder.published) == 100, "all commands are published")


async def test_ids_are_time_ordered_typeids(house: House) -> None:
    first, second = (await house.pay()).json["id"], (await house.pay()).json["id"]
    assert ids.parse(ids.PAYMENT, first) is not None
    assert first < second


async def _while(house: House, act: object) -> Reply:
    replies: list[Reply] = []
    assert callable(act)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(act)
        replies.append(await house.pay(hosted()))
    return replies[0]


async def _has_payments(house: House, count: int) -> bool:
    return await house.count("payments") == count
