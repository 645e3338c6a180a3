"""A PSP at its worst: answers that nobody can read, answers that are wrong, a door that is shut."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import uuid_utils

from paynode.domain.payment import OperationKind, PspOrder
from paynode.domain.psp import Answer, Outcome
from paynode.psp.sim import SimPsp
from tests.psp.conftest import sim_psp
from tests.psp.words import ORDER
from tests.sim.running import Callback, Receiver, SharedProcess, Simulator, running
from tests.support.waiting import wait_until

# Seconds that anything may take: the machine may be busy with other tests.
PATIENCE_S = 60.0


@pytest.fixture
async def psp(process: SharedProcess) -> AsyncIterator[SimPsp]:
    async with sim_psp(process.url, concurrency=8) as psp:
        yield psp


@pytest.fixture
def order() -> PspOrder:
    return replace(ORDER, operation_id=str(uuid_utils.uuid7()))


async def _send(psp: SimPsp, order: PspOrder, seconds: float = PATIENCE_S) -> Answer:
    now = time.monotonic()
    return await psp.send(order, psp.prepare(order), send_by=now + seconds, deadline=now + seconds)


async def _find(psp: SimPsp, order: PspOrder) -> Answer | None:
    return await psp.find(order, deadline=time.monotonic() + PATIENCE_S)


async def _wrong_callback(receiver: Receiver, true: dict[str, Any]) -> Callback:
    """That of a charge; one of its two names may be wrong."""
    found: list[Callback] = []

    def has_come() -> bool:
        found.extend(
            one
            for one in receiver.seen
            if true["id"] == one.event["data"]["id"] or true["reference"] == one.event["data"]["reference"]
        )
        return bool(found)

    await wait_until(has_come, "the callback came", PATIENCE_S)
    return found[0]


def _another(order: PspOrder, kind: OperationKind = OperationKind.SALE, amount: int | None = None) -> PspOrder:
    """A new charge like it, or an operation about it."""
    money = order.money if amount is None else replace(order.money, amount=amount)
    new = replace(order, operation_id=str(uuid_utils.uuid7()), kind=kind, money=money)
    return new if kind is OperationKind.SALE else replace(new, charge_id=order.operation_id, token=None)


async def test_an_answer_that_nobody_can_read_is_unknown_and_others_are_unharmed(
    psp: SimPsp, sim: Simulator, order: PspOrder
) -> None:
    for fault, reason in [
        ("endless_headers", "answer_invalid"),
        ("huge_body", "answer_too_large"),
        ("gzip_bomb", "answer_encoded"),
    ]:
        unlucky = _another(order)
        await sim.faults(**{fault: 1, "only": ["sale"]})
        said = await _send(psp, unlucky)
        assert said == Answer(outcome=Outcome.UNKNOWN, reason=reason, is_psp_failure=True)
        assert (await sim.faults())["bitten"][fault] >= 1
        found = await _find(psp, unlucky)
        assert found is not None
        assert found.outcome is Outcome.APPROVED, "it was charged"


async def test_a_body_of_one_byte_a_second_keeps_nobody_else_waiting(
    psp: SimPsp, sim: Simulator, order: PspOrder
) -> None:
    slow = replace(order, token="tok_slow_body")
    crawling = [asyncio.create_task(_send(psp, _another(slow))) for _ in range(4)]

    async def all_crawl() -> bool:
        bitten: dict[str, int] = (await sim.faults())["bitten"]
        return bitten.get("slow_body") == 4

    await wait_until(all_crawl, "four answers crawl", PATIENCE_S)
    # On the same pool of connections, and the same loop: an answer that crawls holds its own place and nothing else.
    assert (await _send(psp, order)).outcome is Outcome.APPROVED
    assert not any(one.done() for one in crawling)
    for one in crawling:
        one.cancel()
    await asyncio.gather(*crawling, return_exceptions=True)


async def test_a_token_loses_an_unreadable_answer_once(psp: SimPsp, sim: Simulator, order: PspOrder) -> None:
    bomb = replace(order, token="tok_gzip_bomb")
    assert (await _send(psp, bomb)).reason == "answer_encoded"
    assert (await _send(psp, bomb)).outcome is Outcome.APPROVED
    assert len(await sim.book(bomb.operation_id)) == 1


async def test_a_wrong_answer_is_passed_on_as_it_is_and_the_inquiry_tells_the_truth(
    psp: SimPsp, sim: Simulator, order: PspOrder
) -> None:
    for fault, outcome, amount, currency in [
        ("answer_wrong_amount", Outcome.APPROVED, 1001, "EUR"),
        ("answer_wrong_currency", Outcome.APPROVED, 1000, "JPY"),
        ("answer_wrong_reference", Outcome.UNKNOWN, None, None),
        ("answer_wrong_id", Outcome.APPROVED, 1000, "EUR"),
    ]:
        one = _another(order)
        await sim.faults(**{fault: 1})
        said = await _send(psp, one)
        assert (said.outcome, said.amount, said.currency) == (outcome, amount, currency)
        [line] = await sim.book(one.operation_id)
        found = await _find(psp, one)
        assert found is not None
        assert (found.amount, found.currency, found.reference) == (1000, "EUR", line["psp_reference"])
        assert (said.reference == found.reference) is (fault in ("answer_wrong_amount", "answer_wrong_currency"))


async def test_a_wrong_callback_is_signed_like_any_other(
    psp: SimPsp, sim: Simulator, receiver: Receiver, order: PspOrder
) -> None:
    for fault, name in [
        ("callback_wrong_amount", "amount"),
        ("callback_wrong_currency", "currency"),
        ("callback_wrong_reference", "reference"),
        ("callback_wrong_id", "id"),
    ]:
        await sim.faults(**{fault: 1})
        _, true, _ = await sim.charge(_another(order).operation_id)
        one = await _wrong_callback(receiver, true)
        assert one.is_signed
        assert {key for key, value in one.event["data"].items() if value != true[key]} == {name}
        assert psp.parse_callback({"Sim-Signature": one.signatures[0]}, one.raw, now_s=time.time()) is not None


async def test_faults_keep_to_the_kinds_that_they_are_given(psp: SimPsp, sim: Simulator, order: PspOrder) -> None:
    await sim.faults(error_before=1, decline=1, only=["refund", "inquiry"])
    assert (await _send(psp, order)).outcome is Outcome.APPROVED
    refund = _another(order, OperationKind.REFUND)
    assert (await _send(psp, refund)).reason == "http_503"
    found = await _find(psp, refund)
    assert found is not None
    assert found.reason == "http_503"
    await sim.faults(decline=1, only=["refund"])
    assert (await _send(psp, refund)).outcome is Outcome.DECLINED
    await sim.faults(decline=1)
    assert (await _send(psp, _another(order, OperationKind.REFUND))).outcome is Outcome.APPROVED


async def test_what_was_done_before_by_us_is_done_though_the_key_is_forgotten(
    psp: SimPsp, sim: Simulator, order: PspOrder
) -> None:
    authorization = replace(order, kind=OperationKind.AUTHORIZE)
    await _send(psp, authorization)
    capture = replace(_another(authorization, OperationKind.CAPTURE), is_final=True)
    refund = _another(authorization, OperationKind.REFUND)
    for one in (capture, refund):
        await sim.faults()
        said = await _send(psp, one)
        assert said.outcome is Outcome.APPROVED

        async def is_forgotten(one: PspOrder = one, said: Answer = said) -> bool:
            await sim.faults(idempotency_ms=0)
            assert await _send(psp, one) == said, "ours: the same fact"
            return len(await sim.book(one.operation_id)) == 2

        await wait_until(is_forgotten, "the key was forgotten, and it was refused as done before", PATIENCE_S)
    await sim.faults(idempotency_ms=0, inquiry_lag_ms=3_600_000)
    said = await _send(psp, capture)
    assert said == Answer(outcome=Outcome.UNKNOWN, reason="already_captured"), "not found is no proof"
    await sim.faults()
    for kind, reason in [(OperationKind.CAPTURE, "already_captured"), (OperationKind.REFUND, "already_refunded")]:
        said = await _send(psp, _another(authorization, kind))
        assert (said.outcome, said.reason) == (Outcome.DECLINED, reason), "not ours"


async def test_a_shut_door_refuses_connections_and_opens_again(tmp_path: Path, receiver: Receiver) -> None:
    async with running(tmp_path, receiver.url) as sim, sim_psp(sim.url) as psp:
        assert (await _send(psp, ORDER)).outcome is Outcome.APPROVED
        refused = shut = 0

        async def is_open() -> bool:
            nonlocal refused
            said = await _send(psp, ORDER)
            refused += said == Answer(outcome=Outcome.NOT_SENT, reason="connection_refused", is_psp_failure=True)
            return said.outcome is Outcome.APPROVED

        while not refused:  # a busy machine may sleep through it
            assert (await sim.faults(refuse_ms=1000))["faults"] == {"refuse_ms": 1000}
            shut += 1
            await wait_until(is_open, "the door is open again", PATIENCE_S)
        assert (await sim.faults())["bitten"]["refuse_ms"] == shut


async def test_two_simulators_are_two_accounts(tmp_path: Path, receiver: Receiver) -> None:
    second = {
        "PAYNODE_SIM__NAME": "second",
        "PAYNODE_PSP__SECOND__ADAPTER": "sim",
        "PAYNODE_PSP__SECOND__URL": "http://127.0.0.1:1",
        "PAYNODE_PSP__SECOND__API_KEY": "sk_second",
        "PAYNODE_PSP__SECOND__WEBHOOK_SECRET": "whsec_second",
        "PAYNODE_PSP__SECOND__IDEMPOTENT_FOR_S": "60",
        "PAYNODE_PSP__SECOND__SETTLE_S": "1",
    }
    async with running(tmp_path, receiver.url) as sim, running(tmp_path, receiver.url, **second) as other:
        body = {"reference": "op-1", "amount": 1, "currency": "EUR", "token": "tok_approve"}
        assert (await other.post("/v1/charges", "op-1", body))[0] == 401
        assert (await other.post("/v1/charges", "op-1", body, api_key="sk_second"))[0] == 201
        assert await sim.book() == []
        assert len(await other.book()) == 1
        assert (tmp_path / "second" / "book.ndjson").exists()


async def test_an_authorization_lapses_and_everything_survives_a_kill(tmp_path: Path, receiver: Receiver) -> None:
    async with running(tmp_path, receiver.url, PAYNODE_SIM__AUTHORIZATION_TTL_S="0.05") as sim:
        await sim.authorize("op-lapsed")
        await receiver.heard("op-lapsed", {"authorize.approved", "authorize.expired"})
        assert [one["status"] for one in await sim.operations("op-lapsed")] == ["expired"]
        _, refused, _ = await sim.follow("captures", "op-late", "op-lapsed")
        assert refused["error"]["code"] == "authorization_expired"
        sim.kill()
    async with running(tmp_path, receiver.url) as sim:
        await sim.authorize("op-1")
        await sim.follow("captures", "op-2", "op-1", 600)
        await sim.follow("refunds", "op-3", "op-1", 500)
        await sim.reverse("op-3")
        await sim.open_page("op-4")
        await sim.follow("cancels", "op-5", "op-4")
        before = {one: await sim.operations(one) for one in ("op-lapsed", "op-late", *(f"op-{n}" for n in range(1, 6)))}
        book = await sim.book()
        sim.kill()
    async with running(tmp_path, receiver.url) as sim:
        assert await sim.book() == book
        for reference, seen in before.items():
            for one in seen:
                one.pop("url", None)
            now = await sim.operations(reference)
            for one in now:
                one.pop("url", None)  # another port
            assert now == seen
        assert (await sim.follow("captures", "op-2", "op-1", 600))[2] is True
        status, refused, is_repeated = await sim.follow("captures", "op-late", "op-lapsed")
        assert (status, refused["error"]["code"], is_repeated) == (409, "authorization_expired", True)
        assert (await sim.follow("captures", "op-6", "op-1", 401))[1]["error"]["code"] == "amount_exceeds_authorized"
        assert (await sim.follow("voids", "op-7", "op-1"))[1]["amount"] == 400


async def test_a_connection_that_stays_open_is_cut_when_the_door_is_shut(tmp_path: Path, receiver: Receiver) -> None:
    async with running(tmp_path, receiver.url) as sim:
        waiting = asyncio.create_task(sim.charge("op-1", "tok_slow_60000"))

        async def is_served() -> bool:
            return (await sim.charge("op-2"))[0] == 201

        await wait_until(is_served, "it serves others meanwhile", PATIENCE_S)
        await sim.faults(refuse_ms=3_600_000)
        with pytest.raises((aiohttp.ServerDisconnectedError, aiohttp.ClientOSError)):
            await waiting
