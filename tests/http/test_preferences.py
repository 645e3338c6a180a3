"""`Prefer`: how long to wait, and for what."""

from __future__ import annotations

import anyio
import pytest

from paynode.http.prefer import Preference, parse
from tests.http.house import House, Reply, by_token, hosted
from tests.support.waiting import wait_until


@pytest.mark.parametrize(
    ("headers", "preference"),
    [
        ([], Preference()),
        (["wait=10"], Preference(wait_s=10)),
        (['Wait="10"'], Preference(wait_s=10)),
        (["wait = 10 ; foo=bar"], Preference(wait_s=10)),
        (["respond-async"], Preference(is_async=True)),
        (["RESPOND-ASYNC, wait=5"], Preference(wait_s=5, is_async=True)),
        (["respond-async", "wait=5"], Preference(wait_s=5, is_async=True)),
        (['note="wait=7, respond-async", wait=5'], Preference(wait_s=5)),
        (["wait=5, wait=6"], Preference(wait_s=5)),
        (["wait=0"], Preference()),
        (["wait=31"], Preference()),
        (["wait=-1"], Preference()),
        (["wait=1.5"], Preference()),
        (["wait=५"], Preference()),
        (["wait"], Preference()),
        (["return=minimal"], Preference()),
        (['"' + '\\"' * 4000], Preference()),
    ],
)
def test_what_is_understood_of_the_header(headers: list[str], preference: Preference) -> None:
    assert parse(headers) == preference


async def test_respond_async_is_answered_202_at_once_and_always_so(house: House) -> None:
    body = hosted()
    first = await house.pay(body, key="k", prefer="respond-async")
    assert first.status == 202
    assert first.headers["Preference-Applied"] == "respond-async"
    assert first.headers["Location"] == f"/v1/payments/{first.json['id']}"
    assert first.headers["Retry-After"] == "1"
    await house.become(first.json["id"], "captured")
    again = await house.pay(body, key="k")
    assert (again.status, again.raw, again.headers["Idempotent-Replayed"]) == (202, first.raw, "true")


@pytest.mark.parametrize("status", ["captured", "declined"])
async def test_wait_is_answered_with_the_final_status(house: House, status: str) -> None:
    body = by_token()
    reply = await _settled(house, body, "wait=5", status)
    assert (reply.status, reply.json["status"]) == (201, status)
    assert reply.headers["Preference-Applied"] == "wait=5"
    again = await house.pay(body, key="k", prefer="wait=5")
    assert (again.status, again.raw, again.headers["Idempotent-Replayed"]) == (201, reply.raw, "true")


async def test_a_wait_that_runs_out_is_answered_202_and_a_retry_waits_again(house: House) -> None:
    body = by_token()
    first = await house.pay(body, key="k", prefer="wait=1")
    assert (first.status, first.json["status"]) == (202, "processing")
    assert first.headers["Preference-Applied"] == "wait=1"
    second = await _settled(house, body, "wait=5", "captured")
    assert (second.status, second.json["id"]) == (201, first.json["id"])


async def test_a_retry_without_a_wait_gets_the_payment_as_it_is_and_keeps_only_the_last_answer(house: House) -> None:
    """What is under way is neither the answer that was given at once, for there was none, nor the last."""
    body = by_token()
    first = await house.pay(body, key="k", prefer="wait=1")
    second = await house.pay(body, key="k")
    assert (second.status, second.json["status"]) == (202, "processing")
    await house.become(first.json["id"], "captured")
    third, fourth = await house.pay(body, key="k"), await house.pay(body, key="k", prefer="wait=1")
    assert (third.status, third.json["status"]) == (201, "captured")
    assert (fourth.raw, fourth.headers["Idempotent-Replayed"]) == (third.raw, "true")


async def test_respond_async_with_a_wait_waits_first(house: House) -> None:
    reply = await house.pay(by_token(), prefer="respond-async, wait=1")
    assert (reply.status, reply.headers["Preference-Applied"]) == (202, "respond-async, wait=1")


async def test_a_preference_that_is_not_understood_is_not_applied(house: House) -> None:
    reply = await house.pay(by_token(), prefer="wait=3600")
    assert reply.status == 201
    assert "Preference-Applied" not in reply.headers


async def _settled(house: House, body: object, prefer: str, status: str) -> Reply:
    replies: list[Reply] = []

    async def ask() -> None:
        replies.append(await house.pay(body, key="k", prefer=prefer))

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(ask)
        await wait_until(lambda: _waits(house), "the payment is committed and somebody waits for it")
        await house.become(await house.only_payment(), status)
    return replies[0]


async def _waits(house: House) -> bool:
    in_flight = "SELECT count(*) FROM idempotency_keys WHERE in_flight_until > clock_timestamp() + interval '3 s'"
    return bool(await house.owner.fetchval(in_flight))
