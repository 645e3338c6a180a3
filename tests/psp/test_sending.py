"""What becomes of a call when the PSP misbehaves: nothing is `not_sent` unless the PSP cannot act on it."""

from __future__ import annotations

import asyncio
import gzip
import json
import time
from dataclasses import replace
from typing import Any

import pytest

from paynode.domain.payment import OperationKind
from paynode.domain.psp import Answer, Outcome
from tests.psp.conftest import adapter
from tests.psp.misbehaving import (
    Script,
    answer,
    byte_by_byte,
    for_ever,
    raw,
    raw_server,
    raw_then_close,
    reset,
    silence,
    told_twice,
)
from tests.psp.words import CHARGE, ORDER, PAGE_ORDER, SESSION, charge, error, has_unasked, send
from tests.support.waiting import wait_until

_OK = b"HTTP/1.1 201 Created\r\nContent-Length: %d\r\n\r\n" % len(json.dumps(CHARGE))
_CHUNKED = b"HTTP/1.1 201 Created\r\nTransfer-Encoding: chunked\r\n\r\n"
_BOMB = gzip.compress(b"x" * 10_000_000)


@pytest.mark.parametrize(
    ("script", "reason"),
    [
        pytest.param(raw_then_close(b""), "disconnected", id="accepts and closes"),
        pytest.param(reset, "connection_lost", id="resets"),
        pytest.param(silence, "timeout", id="never answers"),
        pytest.param(raw_then_close(_OK + b'{"id":'), "answer_cut", id="closes in mid-answer"),
        pytest.param(raw_then_close(b"HTTP/1.1 20"), "disconnected", id="closes in the status line"),
        pytest.param(raw(b"220 smtp ready\r\n\r\n"), "answer_invalid", id="speaks another protocol"),
        pytest.param(byte_by_byte(_OK + b"{}"), "timeout", id="answers byte by byte"),
        pytest.param(for_ever(b"HTTP/1.1 201 OK\r\n", b"X-A: b\r\n" * 100), "answer_invalid", id="endless headers"),
        pytest.param(for_ever(_CHUNKED, b"1000\r\n" + b"x" * 4096 + b"\r\n"), "answer_too_large", id="endless body"),
        pytest.param(for_ever(_CHUNKED, b"1\r\n \r\n" * 1000), "answer_too_large", id="endless tiny chunks"),
        pytest.param(for_ever(b"", b"HTTP/1.1 100 Continue\r\n\r\n" * 100), "timeout", id="endless promises"),
        pytest.param(answer(201, b" " * 5_000_000), "answer_too_large", id="5 MB body"),
        pytest.param(answer(201, _BOMB, b"Content-Encoding: gzip"), "answer_encoded", id="gzip bomb"),
        pytest.param(answer(500, b"oops"), "http_500", id="500"),
        pytest.param(answer(502, b""), "http_502", id="502"),
        pytest.param(answer(503, b"", b"Retry-After: 1"), "http_503", id="503"),
        pytest.param(answer(302, b"", b"Location: /v1/elsewhere"), "http_302", id="redirects"),
        pytest.param(answer(307, b"", b"Location: /v1/elsewhere"), "http_307", id="redirects the body too"),
        pytest.param(error(401, "unauthorized"), "http_401", id="401"),
        pytest.param(error(409, "idempotency_key_reused"), "http_409", id="409 about the key"),
        pytest.param(error(422, "idempotency_key_reused"), "http_422", id="422 about the key"),
        pytest.param(error(429, "slow_down"), "http_429", id="429"),
        pytest.param(error(400, "idempotency_key_missing"), "idempotency_key_missing", id="400 about the key"),
        pytest.param(answer(400, b"<html>"), "answer_invalid", id="400 that is not the PSP's own"),
        pytest.param(answer(404, b"<html>"), "http_404", id="404 that is not the PSP's own"),
        pytest.param(error(404, "no_such_route"), "http_404", id="404 with another code"),
        pytest.param(error(409, "already_voided"), "http_409", id="done before, said of a charge"),
        pytest.param(error(409, "already_captured"), "http_409", id="captured before, said of a charge"),
        pytest.param(answer(402, b"{}"), "answer_invalid", id="402 without a code"),
        pytest.param(answer(204, b""), "http_204", id="204"),
        pytest.param(answer(201, b""), "answer_invalid", id="empty body"),
        pytest.param(answer(201, b"[" * 60_000), "answer_invalid", id="deep JSON"),
        pytest.param(answer(201, b"\xff\xfe"), "answer_invalid", id="not UTF-8"),
        pytest.param(answer(201, json.dumps(SESSION).encode()), "answer_invalid", id="session for a charge"),
        pytest.param(charge(reference="op-2"), "answer_invalid", id="wrong reference"),
        pytest.param(charge(amount=1000.0), "answer_invalid", id="float amount"),
        pytest.param(charge(amount=True), "answer_invalid", id="bool amount"),
        pytest.param(charge(amount="1000"), "answer_invalid", id="text amount"),
        pytest.param(charge(amount=-1), "answer_invalid", id="negative amount"),
        pytest.param(charge(amount=2**63), "answer_invalid", id="amount beyond 64 bits"),
        pytest.param(charge(currency="eur"), "answer_invalid", id="no currency code"),
        pytest.param(charge(currency="EUR\n"), "answer_invalid", id="currency with a newline"),
        pytest.param(charge(status="perhaps"), "answer_invalid", id="unknown status"),
        pytest.param(charge(id="ch_\x00"), "answer_invalid", id="NUL in the id"),
        pytest.param(charge(created_ms=None), "answer_invalid", id="no time"),
    ],
)
async def test_what_may_have_left_is_unknown_and_counts_as_a_failure_of_the_psp(script: Script, reason: str) -> None:
    async with raw_server(script) as server, adapter(server.url) as psp:
        began = time.monotonic()
        said = await send(psp, deadline_s=0.5 if reason == "timeout" else 60.0)
        assert said == Answer(outcome=Outcome.UNKNOWN, reason=reason, is_psp_failure=True)
        assert len(server.requests) == 1, "sent once, and no redirect followed"
        assert time.monotonic() - began < 15.0  # half a second is the deadline; the rest is for a busy machine


async def test_a_definite_answer_is_taken_with_all_it_claims() -> None:
    approved = Answer(
        outcome=Outcome.APPROVED, reference="ch_1", amount=1000, currency="EUR", psp_at_ms=1_700_000_000_000
    )
    cases: list[tuple[Script, Outcome, int | None, str]] = [
        (charge(), Outcome.APPROVED, 1000, ""),
        (charge(amount=1001), Outcome.APPROVED, 1001, ""),
        (charge(new_field={"a": [1.5]}), Outcome.APPROVED, 1000, ""),
        (charge(status="declined", decline_code="insufficient_funds"), Outcome.DECLINED, 1000, "insufficient_funds"),
        (error(400, "token_unknown"), Outcome.DECLINED, None, "token_unknown"),
        (error(402, "card_expired"), Outcome.DECLINED, None, "card_expired"),
        (error(404, "charge_unknown"), Outcome.DECLINED, None, "charge_unknown"),
        (error(409, "already_paid"), Outcome.DECLINED, None, "already_paid"),
    ]
    for script, outcome, amount, reason in cases:
        async with raw_server(script) as server, adapter(server.url) as psp:
            said = await send(psp)
            assert (said.outcome, said.amount, said.reason, said.is_psp_failure) == (outcome, amount, reason, False)
    async with raw_server(charge()) as server, adapter(server.url) as psp:
        assert await send(psp) == approved


async def test_what_is_so_already_is_a_success_of_what_asked_for_it() -> None:
    for kind, code, found, outcome in [
        (OperationKind.VOID, "already_voided", [], Outcome.APPROVED),
        (OperationKind.CANCEL, "already_canceled", [], Outcome.APPROVED),
        (OperationKind.VOID, "already_captured", [], Outcome.DECLINED),
        (OperationKind.CAPTURE, "already_captured", [CHARGE | {"object": "capture"}], Outcome.APPROVED),
        (OperationKind.CAPTURE, "already_captured", [], Outcome.UNKNOWN),
        (OperationKind.REFUND, "already_refunded", [CHARGE | {"object": "refund"}], Outcome.APPROVED),
        (
            OperationKind.REFUND,
            "already_refunded",
            [CHARGE | {"object": "refund", "status": "declined", "decline_code": "already_refunded"}],
            Outcome.DECLINED,
        ),
    ]:
        order = replace(ORDER, kind=kind, charge_id="op-0", token=None)
        answers = [error(409, code), answer(200, json.dumps({"data": found}).encode())]

        async def in_turn(
            reader: asyncio.StreamReader, writer: asyncio.StreamWriter, answers: list[Script] = answers
        ) -> None:
            await answers.pop(0)(reader, writer)

        async with raw_server(in_turn) as server, adapter(server.url) as psp:
            now = time.monotonic()
            said = await psp.send(order, psp.prepare(order), send_by=now + 60, deadline=now + 60)
            assert (said.outcome, said.is_psp_failure) == (outcome, False), (kind, code)
            assert said.reference == (found[0]["id"] if found else None)


async def test_the_request_carries_the_stored_bytes_the_key_and_asks_for_no_compression() -> None:
    async with raw_server(charge()) as server, adapter(server.url) as psp:
        stored = psp.prepare(ORDER)
        await send(psp)
        await send(psp)
        assert server.connections == 1, "the connection is kept"
        head, _, body = server.requests[0].partition(b"\r\n\r\n")
    assert body == stored.body == json.dumps(json.loads(stored.body), sort_keys=True, separators=(",", ":")).encode()
    assert head.startswith(b"POST /v1/charges HTTP/1.1\r\n")
    assert b"\r\nIdempotency-Key: op-1\r\n" in head
    assert b"\r\nAccept-Encoding: identity\r\n" in head
    assert b"\r\nContent-Type: application/json" in head


async def test_a_page_that_opened_is_pending_and_one_without_an_address_is_not_believed() -> None:
    cases: list[tuple[dict[str, Any], Outcome, str | None]] = [
        ({}, Outcome.PENDING, "http://psp.invalid/pay/cs_1"),
        ({"url": None}, Outcome.UNKNOWN, None),
        ({"url": "javascript:alert(1)"}, Outcome.UNKNOWN, None),
        ({"url": "http://psp.invalid/\r\nSet-Cookie: a=b"}, Outcome.UNKNOWN, None),
        ({"status": "approved"}, Outcome.UNKNOWN, None),
    ]
    for changes, outcome, url in cases:
        script = answer(201, json.dumps(SESSION | changes).encode())
        async with raw_server(script) as server, adapter(server.url) as psp:
            now = time.monotonic()
            said = await psp.send(PAGE_ORDER, psp.prepare(PAGE_ORDER), send_by=now + 5, deadline=now + 5)
            assert (said.outcome, said.page_url) == (outcome, url)


async def test_a_cancelled_call_raises_and_gives_its_connection_back() -> None:
    async with raw_server(silence) as server, adapter(server.url, concurrency=1) as psp:
        call = asyncio.create_task(send(psp))
        await wait_until(lambda: len(server.requests) == 1, "the call is under way")
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        assert (await send(psp, deadline_s=0.2)).reason == "timeout"
        assert len(server.requests) == 2


async def test_the_wait_for_the_answer_runs_to_the_deadline_and_not_to_send_by() -> None:
    async def late(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await asyncio.sleep(0.4)
        await charge()(reader, writer)

    async with raw_server(late) as server, adapter(server.url) as psp:
        assert (await send(psp, send_by_s=0.2, deadline_s=5)).outcome is Outcome.APPROVED


async def test_a_refusal_that_comes_twice_is_none_of_what_is_sent_next() -> None:
    again = asyncio.Event()
    script = told_twice(error(402, "insufficient_funds"), again, charge())
    async with raw_server(script) as server, adapter(server.url) as psp:
        assert (await send(psp)).outcome is Outcome.DECLINED
        again.set()
        await has_unasked(psp)
        assert (await send(psp)).outcome is Outcome.APPROVED
        assert (len(server.requests), server.connections) == (2, 2)
