"""Token charges: what each token does, and that a key is charged once."""

from __future__ import annotations

import asyncio
from typing import Any

import aiohttp
import pytest

from tests.sim.running import Receiver, Simulator
from tests.support.waiting import wait_until


async def test_a_token_decides_the_answer_the_book_and_the_inquiry(sim: Simulator) -> None:
    for token, status, decline_code, amount in [
        ("tok_approve", "approved", None, 1000),
        ("tok_decline", "declined", "do_not_honor", 1000),
        ("tok_insufficient_funds", "declined", "insufficient_funds", 1000),
        ("tok_wrong_amount", "approved", None, 1001),
        ("tok_dup_callback", "approved", None, 1000),
        ("tok_slow_1", "approved", None, 1000),
        ("tok_late_callback_1", "approved", None, 1000),
    ]:
        reference = f"op-{token}"
        code, charge, is_repeated = await sim.charge(reference, token)

        assert (code, is_repeated) == (201, False)
        assert (charge["object"], charge["reference"]) == ("charge", reference)
        assert (charge["status"], charge["decline_code"], charge["amount"]) == (status, decline_code, amount)
        [line] = await sim.book(reference)
        assert line["psp_reference"] == charge["id"]
        assert (line["op"], line["kind"], line["result"], line["amount"]) == ("charge", "sale", status, amount)
        assert line["idempotency_key"] == reference
        assert await sim.operations(reference) == [charge]


async def test_a_lost_answer_is_lost_once_and_the_same_key_then_gets_the_real_one(sim: Simulator) -> None:
    for token, loss, lines_after_the_loss in [
        ("tok_error_before", 503, 0),
        ("tok_error_after", 500, 1),
        ("tok_hang_before", None, 0),
        ("tok_hang_after", None, 1),
    ]:
        reference = f"op-{token}"
        if loss is None:
            with pytest.raises((aiohttp.ServerDisconnectedError, aiohttp.ClientOSError)):
                await sim.charge(reference, token)
        else:
            assert (await sim.charge(reference, token))[0] == loss
        assert len(await sim.book(reference)) == lines_after_the_loss

        code, charge, is_repeated = await sim.charge(reference, token)

        assert (code, is_repeated) == (201, lines_after_the_loss == 1)
        assert [line["psp_reference"] for line in await sim.book(reference)] == [charge["id"]]


async def test_an_unknown_token_is_refused_and_nothing_is_charged(sim: Simulator) -> None:
    for token in ("tok_nonsense", "tok_slow_", "tok_slow_1x", ""):
        code, body, _ = await sim.charge("op-1", token)
        assert (code, body["error"]["code"]) == (400, "token_unknown")
    assert await sim.book() == []


async def test_an_inquiry_during_a_slow_charge_finds_nothing(sim: Simulator) -> None:
    charging = asyncio.create_task(sim.charge("op-1", "tok_slow_500"))
    await asyncio.sleep(0)
    assert await sim.operations("op-1") == []
    assert not charging.done()
    await charging
    assert len(await sim.operations("op-1")) == 1


async def test_a_slow_charge_happens_even_if_the_caller_has_gone(sim: Simulator) -> None:
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=0.3)) as impatient:
        sim.http, patient = impatient, sim.http
        with pytest.raises(TimeoutError):
            await sim.charge("op-1", "tok_slow_600")
        sim.http = patient

    async def is_charged() -> bool:
        return len(await sim.book()) == 1

    await wait_until(is_charged, "the charge was booked")


async def test_fifty_at_once_with_one_key_charge_once_and_get_one_answer(sim: Simulator) -> None:
    answers = await asyncio.gather(*(sim.charge("op-1", "tok_slow_50") for _ in range(50)))

    assert {code for code, _, _ in answers} == {201}
    assert len({charge["id"] for _, charge, _ in answers}) == 1
    assert sum(is_repeated for _, _, is_repeated in answers) == 49
    assert len(await sim.book()) == 1


async def test_a_key_with_another_request_is_refused(sim: Simulator) -> None:
    await sim.charge("op-1")
    body = {"reference": "op-1", "amount": 1000, "currency": "EUR"}
    for path, other in [
        ("/v1/charges", body | {"token": "tok_approve", "amount": 999}),
        ("/v1/charges", body | {"token": "tok_decline"}),
        ("/v1/sessions", body | {"return_url": "http://shop.invalid/"}),
    ]:
        code, answer, _ = await sim.post(path, "op-1", other)
        assert (code, answer["error"]["code"]) == (409, "idempotency_key_reused")
    assert len(await sim.book()) == 1


async def test_a_missing_key_and_a_wrong_api_key_are_refused(sim: Simulator) -> None:
    body = {"reference": "op-1", "amount": 1000, "currency": "EUR", "token": "tok_approve"}
    for key in (None, "", "with space", "x" * 256):
        code, answer, _ = await sim.post("/v1/charges", key, body)
        assert (code, answer["error"]["code"]) == (400, "idempotency_key_missing")
    code, answer, _ = await sim.post("/v1/charges", "op-1", body, api_key="wrong")
    assert (code, answer["error"]["code"]) == (401, "unauthorized")
    assert await sim.book() == []


async def test_a_bad_body_is_refused(sim: Simulator) -> None:
    changes: list[tuple[dict[str, Any], str]] = [
        ({"amount": 10.0}, "body_invalid"),
        ({"amount": True}, "body_invalid"),
        ({"amount": "1000"}, "body_invalid"),
        ({"amount": 0}, "body_invalid"),
        ({"amount": 10**12 + 1}, "body_invalid"),
        ({"currency": "eur"}, "body_invalid"),
        ({"currency": "QQQ"}, "currency_unknown"),
        ({"currency": "XAU"}, "currency_unknown"),
        ({"reference": ""}, "body_invalid"),
        ({"surprise": 1}, "body_invalid"),
    ]
    for change, code in changes:
        body = {"reference": "op-1", "amount": 1000, "currency": "EUR", "token": "tok_approve"} | change
        status, answer, _ = await sim.post("/v1/charges", "op-1", body)
        assert (status, answer["error"]["code"]) == (400, code), change
    assert await sim.book() == []


async def test_an_inquiry_for_a_reference_never_seen_is_empty(sim: Simulator) -> None:
    assert await sim.operations("op-never") == []


async def test_a_callback_comes_signed_for_approved_and_declined_alike(sim: Simulator, receiver: Receiver) -> None:
    _, approved, _ = await sim.charge("op-1")
    _, declined, _ = await sim.charge("op-2", "tok_decline")
    await wait_until(lambda: len(receiver.seen) == 2, "both callbacks came")

    for charge in (approved, declined):
        [callback] = receiver.of(charge["reference"])
        assert callback.is_signed
        assert callback.event["type"] == f"charge.{charge['status']}"
        assert callback.event["data"] == charge


async def test_a_duplicated_callback_comes_three_times_with_one_id(sim: Simulator, receiver: Receiver) -> None:
    await sim.charge("op-1", "tok_dup_callback")
    await wait_until(lambda: len(receiver.seen) == 3, "the callback came three times")
    assert len({callback.event["id"] for callback in receiver.seen}) == 1


async def test_a_late_callback_comes_late(sim: Simulator, receiver: Receiver) -> None:
    _, charge, _ = await sim.charge("op-1", "tok_late_callback_400")
    await wait_until(lambda: len(receiver.seen) == 1, "the callback came")
    assert receiver.seen[0].at * 1000 >= charge["created_ms"] + 400
