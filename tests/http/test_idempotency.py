"""One key, one payment, one answer."""

from __future__ import annotations

import anyio
import orjson
import pytest

from paynode.http.idempotency import fingerprint, key_of
from paynode.http.problem import Problem
from tests.http.house import House, Reply, by_token, hosted, running
from tests.support.waiting import wait_until


@pytest.mark.parametrize(
    ("header", "key"),
    [
        ("abc", "abc"),
        ('"abc"', "abc"),
        ("a.b:c_d-E9", "a.b:c_d-E9"),
        ('"with blanks, commas and \\"quotes\\""', 'with blanks, commas and "quotes"'),
        ('"abc";purpose=test', "abc"),
        ("  abc\t", "abc"),
        ("x" * 255, "x" * 255),
    ],
)
def test_a_key_is_bare_or_quoted(header: str, key: str) -> None:
    assert key_of([header]) == key


@pytest.mark.parametrize(
    "header",
    [
        "",
        '""',
        '"abc',
        'abc"',
        "a b",
        "a/b",
        "a, b",
        '"a", "b"',
        "x" * 256,
        f'"{"x" * 256}"',
        "clé",
        '"clé"',
        ":YQ==:",
        "?1",
    ],
)
def test_anything_else_is_no_key(header: str) -> None:
    with pytest.raises(Problem) as caught:
        key_of([header])
    assert caught.value.code == "idempotency_key_invalid"


def test_the_fingerprint_is_of_the_content_and_not_of_its_spelling() -> None:
    assert fingerprint(orjson.loads('{"a":1,"b":"\\u0041"}')) == fingerprint(orjson.loads('{ "b": "A", "a": 1 }'))
    assert fingerprint({"a": 1}) != fingerprint({"a": 2})


async def test_a_request_without_a_key_is_refused(house: House) -> None:
    reply = await house.request(
        "POST", "/v1/payments", headers={"Content-Type": "application/json"}, data=orjson.dumps(by_token())
    )
    assert (reply.status, reply.code) == (400, "idempotency_key_missing")
    assert await house.count("payments") == 0


async def test_a_retry_gets_the_same_bytes(house: House) -> None:
    body = by_token()
    first = await house.pay(body, key="k")
    await house.become(first.json["id"], "captured")
    again = await house.pay(body, key='"k"')
    assert (again.status, again.raw) == (201, first.raw)
    assert again.headers["Idempotent-Replayed"] == "true"
    assert "Idempotent-Replayed" not in first.headers
    for name in ("Location", "ETag", "Content-Type"):
        assert again.headers[name] == first.headers[name]
    assert await house.count("payments") == 1


async def test_a_retry_in_another_spelling_and_with_another_preference_is_a_retry(house: House) -> None:
    body = by_token()
    first = await house.pay(body, key="k")
    spelled = b"  " + orjson.dumps(dict(reversed(body.items())), option=orjson.OPT_INDENT_2)
    assert (await house.pay(spelled, key="k", prefer="wait=1")).raw == first.raw


async def test_another_body_under_the_same_key_is_refused(house: House) -> None:
    body = by_token()
    await house.pay(body, key="k")
    reply = await house.pay(body | {"amount": 1251}, key="k")
    assert (reply.status, reply.code) == (422, "idempotency_key_reused")
    assert await house.count("payments") == 1


async def test_the_key_counts_before_the_order(house: House) -> None:
    await house.pay(by_token(order_id="A-1"), key="k")
    reply = await house.pay(by_token(order_id="A-1", amount=1), key="k")
    assert reply.code == "idempotency_key_reused"


async def test_a_refusal_is_not_remembered(house: House) -> None:
    body = by_token(order_id="A-1")
    assert (await house.pay(body | {"amount": 0}, key="k")).status == 400
    rival = await house.pay(by_token(order_id="A-1"))
    assert (await house.pay(body, key="k")).status == 409
    await house.become(rival.json["id"], "declined")
    assert (await house.pay(body, key="k")).status == 201


async def test_fifty_identical_requests_at_once_make_one_payment_and_one_answer(house: House) -> None:
    replies = await _at_once(house, by_token(), 50)
    assert {reply.status for reply in replies} == {201}
    assert len({reply.raw for reply in replies}) == 1
    assert sum("Idempotent-Replayed" in reply.headers for reply in replies) == 49
    assert (await house.count("payments"), await house.count("outbox")) == (1, 1)


async def test_fifty_identical_requests_over_two_ingresses_make_one_payment(house: House) -> None:
    body = by_token()
    async with running(house.settings) as other:
        other.merchant = house.merchant
        replies: list[Reply] = []

        async def one(at: House) -> None:
            replies.append(await at.pay(body, key="k"))

        async with anyio.create_task_group() as tasks:
            for number in range(50):
                tasks.start_soon(one, (house, other)[number % 2])
    assert {reply.status for reply in replies} == {201}
    assert len({reply.raw for reply in replies}) == 1
    assert await house.count("payments") == 1


async def test_while_the_first_request_waits_its_retries_are_told_to_come_later(house: House) -> None:
    replies = await _at_once(house, hosted(), 10)
    assert sorted(reply.status for reply in replies) == [202] + [409] * 9
    refused = [reply for reply in replies if reply.status == 409]
    assert {reply.code for reply in refused} == {"idempotency_key_in_flight"}
    assert all(1 <= int(reply.headers["Retry-After"]) <= 3 for reply in refused)


async def test_an_answer_that_ran_out_of_its_wait_is_not_stored(house: House) -> None:
    body = hosted()
    first = await house.pay(body, key="k")
    await house.become(first.json["id"], "requires_action", page_url="https://psp.example/p/1")
    second = await house.pay(body, key="k")
    third = await house.pay(body, key="k")
    assert (first.status, second.status, third.status) == (202, 201, 201)
    assert second.json["id"] == first.json["id"]
    assert "Idempotent-Replayed" not in second.headers
    # ... and the first 201 is.
    assert (third.raw, third.headers["Idempotent-Replayed"]) == (second.raw, "true")


async def test_a_retry_adopts_what_a_killed_ingress_left(house: House) -> None:
    body = hosted()
    payment = (await house.pay(body, key="k")).json["id"]
    # As the row of an ingress that was killed while it waited: first within its time, then past it.
    await house.owner.execute("UPDATE idempotency_keys SET in_flight_until = clock_timestamp() + interval '9 s'")
    assert (await house.pay(body, key="k")).code == "idempotency_key_in_flight"
    await house.owner.execute("UPDATE idempotency_keys SET in_flight_until = clock_timestamp()")
    await house.become(payment, "requires_action", page_url="https://psp.example/p/1")
    reply = await house.pay(body, key="k")
    assert (reply.status, reply.json["id"]) == (201, payment)
    assert await house.count("payments") == 1


async def test_what_was_accepted_is_answered_though_its_route_has_gone(house: House) -> None:
    body, page = by_token(), hosted()
    stored = await house.pay(body, key="stored")
    left = await house.pay(page, key="left")
    await house.become(left.json["id"], "requires_action", page_url="https://psp.example/p/1")
    async with running(house.settings, accounts={}) as other:
        other.merchant = house.merchant
        replayed = await other.pay(body, key="stored")
        assert (replayed.raw, replayed.headers["Idempotent-Replayed"]) == (stored.raw, "true")
        adopted = await other.pay(page, key="left")
        assert (adopted.status, adopted.json["id"]) == (201, left.json["id"])
        assert (await other.pay(body | {"amount": 1}, key="stored")).code == "idempotency_key_reused"
        rival = body | {"amount": 1}
        for unknown in (by_token(), rival):
            assert (await other.pay(unknown, key="new")).code == "no_route"


async def test_a_client_that_goes_away_loses_nothing(house: House) -> None:
    body = hosted()
    with anyio.move_on_after(0.1):
        await house.pay(body, key="k")
    await wait_until(lambda: _is_released(house), "the request is over, without anybody to hear its answer")
    await house.become(await house.only_payment(), "requires_action", page_url="https://psp.example/p/1")
    assert (await house.pay(body, key="k")).status == 201
    assert await house.count("payments") == 1


async def _at_once(house: House, body: object, count: int) -> list[Reply]:
    replies: list[Reply] = []

    async def one() -> None:
        replies.append(await house.pay(body, key="k"))

    async with anyio.create_task_group() as tasks:
        for _ in range(count):
            tasks.start_soon(one)
    return replies


async def _is_released(house: House) -> bool:
    return bool(await house.owner.fetchval("SELECT in_flight_until <= clock_timestamp() FROM idempotency_keys"))
