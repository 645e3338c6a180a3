"""What leaves for PayU, when, how often, and what its answers come to."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any, Final, TypeAlias

import pytest
from aiohttp.abc import AbstractStreamWriter

from paynode.domain.payment import Method, OperationKind, PspOrder
from paynode.domain.psp import Answer, Outcome
from paynode.psp.errors import Unavailable
from paynode.psp.payu import PayuPsp
from paynode.psp.transport import GatedBody
from tests.psp.misbehaving import answer, raw_server, silence
from tests.psp.payu import documents
from tests.psp.payu.accounts import payu_at, payu_with_a_token
from tests.psp.payu.test_payu_words import CANCEL, CAPTURE, REFUND, SALE, VOID
from tests.psp.payu.twin import Twin, twin

# Generous: the machine may be busy.
_CALL_S: Final = 20.0

_TOKEN: Final = "POST /pl/standard/user/oauth/authorize"
_CREATE: Final = "POST /api/v2_1/orders"
_ORDER: Final = f"/api/v2_1/orders/{documents.ORDER_ID}"
_KNOWN: Final = replace(SALE, charge_reference=documents.ORDER_ID)

_Replies: TypeAlias = dict[str, tuple[int, Any]]


@asynccontextmanager
async def scripted(replies: _Replies, *, has_token: bool = True) -> AsyncIterator[tuple[PayuPsp, list[str]]]:
    """The adapter before a PayU that answers by method and path, and what came there."""
    seen: list[str] = []

    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        line = b" ".join(server.requests[-1].split(b" ", 2)[:2]).decode()
        seen.append(line)
        status, body = replies[line]
        await answer(status, json.dumps(body).encode())(reader, writer)

    async with (
        raw_server(script) as server,
        payu_with_a_token(server.url) if has_token else payu_at(server.url) as psp,
    ):
        yield psp, seen


async def _send(psp: PayuPsp, order: PspOrder, call_s: float = _CALL_S) -> Answer:
    now = time.monotonic()
    return await psp.send(order, psp.prepare(order), send_by=now + call_s, deadline=now + call_s)


async def _find(psp: PayuPsp, order: PspOrder) -> Answer | None:
    return await psp.find(order, deadline=time.monotonic() + _CALL_S)


def _about(kind: OperationKind) -> PspOrder:
    return replace(REFUND, kind=kind, money=SALE.money)


# -- the token --------------------------------------------------------------------------------------------------------


async def test_one_token_is_fetched_for_all_who_wait_for_it() -> None:
    async with twin() as payu, payu_at(payu.url) as psp:
        orders = [replace(SALE, operation_id=f"operation-{number}") for number in range(8)]
        said = await asyncio.gather(*(_send(psp, order) for order in orders))
        assert {one.outcome for one in said} == {Outcome.PENDING}
        assert payu.tokens == 1


async def test_a_token_is_renewed_before_it_ends() -> None:
    replies = {_TOKEN: (200, documents.TOKEN | {"expires_in": 1}), _CREATE: (302, documents.CREATED)}
    async with scripted(replies, has_token=False) as (psp, seen):
        await _send(psp, SALE)
        assert seen == [_TOKEN, _CREATE]
        await asyncio.sleep(0.6)  # half of its life is over, which is all that is used of a short one
        await _send(psp, SALE)
        assert seen == [_TOKEN, _CREATE] * 2


@pytest.mark.parametrize(
    ("status", "body", "reason"),
    [
        (401, {"error": "invalid_client"}, "token_http_401"),
        (503, {}, "token_http_503"),
        (302, documents.TOKEN, "token_http_302"),
        (200, {}, "token_invalid"),
        (200, documents.TOKEN | {"access_token": "a\nb"}, "token_invalid"),
        (200, documents.TOKEN | {"expires_in": 0}, "token_invalid"),
    ],
)
async def test_without_a_token_nothing_is_sent(status: int, body: dict[str, Any], reason: str) -> None:
    async with scripted({_TOKEN: (status, body)}, has_token=False) as (psp, seen):
        assert await _send(psp, SALE) == Answer(outcome=Outcome.NOT_SENT, reason=reason, is_psp_failure=True)
        assert seen == [_TOKEN]
        assert await _find(psp, _KNOWN) == Answer(outcome=Outcome.UNKNOWN, reason=reason, is_psp_failure=True)


async def test_whoever_waits_for_a_token_gives_up_in_time_and_has_sent_nothing() -> None:
    async with raw_server(silence) as server, payu_at(server.url) as psp:
        said = await asyncio.gather(_send(psp, SALE, 0.3), _send(psp, SALE, 0.3))
        assert {one.outcome for one in said} == {Outcome.NOT_SENT}
        assert all(one.reason.startswith("token_") for one in said)
        assert all(request.startswith(_TOKEN.encode()) for request in server.requests)


async def test_a_token_that_is_refused_is_dropped_and_nothing_was_asked_for() -> None:
    replies: _Replies = {_TOKEN: (200, documents.TOKEN), _CREATE: (401, documents.refused("UNAUTHORIZED"))}
    async with scripted(replies) as (psp, seen):
        said = await _send(psp, SALE)
        assert said == Answer(outcome=Outcome.NOT_SENT, reason="http_401", is_psp_failure=True)
        replies[_CREATE] = (302, documents.CREATED)
        assert (await _send(psp, SALE)).outcome is Outcome.PENDING
        assert seen == [_CREATE, _TOKEN, _CREATE]


@pytest.mark.parametrize("status", [401, 403])
async def test_that_nobody_was_let_in_is_proof_on_a_connection_of_its_own_alone(status: int) -> None:
    replies: _Replies = {_CREATE: (302, documents.CREATED), _TOKEN: (200, documents.TOKEN)}
    async with scripted(replies) as (psp, _):
        assert (await _send(psp, SALE)).outcome is Outcome.PENDING
        replies[_CREATE] = (status, documents.refused("UNAUTHORIZED"))
        again = await _send(psp, SALE)
        assert again == Answer(outcome=Outcome.UNKNOWN, reason=f"http_{status}", is_psp_failure=True)
        psp._tokens._token = documents.TOKEN["access_token"]
        assert (await _send(psp, SALE)).outcome is Outcome.NOT_SENT, "that connection is not used again"


async def test_a_token_is_fetched_on_a_connection_of_its_own() -> None:
    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if server.requests[-1].startswith(_TOKEN.encode()):
            assert b"\r\nConnection: close\r\n" in server.requests[-1]
            await answer(200, json.dumps(documents.TOKEN).encode(), b"Connection: close")(reader, writer)
        else:
            await answer(403, b"{}")(reader, writer)

    async with raw_server(script) as server, payu_at(server.url) as psp:
        assert (await _send(psp, SALE)).outcome is Outcome.NOT_SENT


# -- what an account cannot do ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("order", "reason"),
    [
        (replace(SALE, method=Method.TOKEN, token="tok"), "method_not_supported"),
        (replace(SALE, kind=OperationKind.AUTHORIZE), "capture_method_not_supported"),
        (replace(REFUND, charge_reference=None), "reference_missing"),
        (replace(REFUND, charge_reference="../../x"), "reference_missing"),
        (replace(_about(VOID), charge_reference=""), "reference_missing"),
    ],
)
async def test_what_cannot_be_asked_for_is_not_sent(order: PspOrder, reason: str) -> None:
    async with scripted({}) as (psp, seen):
        assert await _send(psp, order) == Answer(outcome=Outcome.NOT_SENT, reason=reason)
        assert seen == []


async def test_a_sale_is_not_sent_to_a_pos_that_would_leave_it_uncaptured() -> None:
    psp = payu_at("http://127.0.0.1:1", is_auto_receive=False)
    assert await _send(psp, SALE) == Answer(outcome=Outcome.NOT_SENT, reason="capture_method_not_supported")


async def test_there_is_no_report_to_ask_for() -> None:
    now = datetime.now(UTC)
    lines = payu_at("https://payu.invalid").settlement(now, now)
    with pytest.raises(Unavailable):
        await anext(lines)


# -- proof and doubt --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [CAPTURE, VOID, CANCEL])
async def test_a_request_without_a_body_does_not_leave_after_its_time_either(
    kind: OperationKind, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its headers are all that it is: they must wait at the gate, where otherwise only the body does."""
    write = GatedBody.write_with_length

    async def too_late(self: GatedBody, writer: AbstractStreamWriter, content_length: int | None) -> None:
        self.shut()
        await write(self, writer, content_length)

    monkeypatch.setattr(GatedBody, "write_with_length", too_late)
    received = bytearray()
    has_ended = asyncio.Event()

    async def listen(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        received.extend(await reader.read())
        writer.close()
        has_ended.set()

    server = await asyncio.start_server(listen, "127.0.0.1", 0)
    async with server:
        port = server.sockets[0].getsockname()[1]
        async with payu_with_a_token(f"http://127.0.0.1:{port}") as psp:
            said = await _send(psp, _about(kind))
        assert said == Answer(outcome=Outcome.NOT_SENT, reason="send_by_passed")
        await asyncio.wait_for(has_ended.wait(), _CALL_S)
    assert received == b""


async def _paid(payu: Twin, psp: PayuPsp) -> PspOrder:
    """An order that is paid, with all that is known of it."""
    kind = OperationKind.SALE if payu.is_auto_receive else OperationKind.AUTHORIZE
    order = replace(SALE, kind=kind)
    opened = await _send(psp, order)
    assert opened.reference is not None
    payu.pay(opened.reference)
    return replace(order, charge_reference=opened.reference)


def _of(order: PspOrder, kind: OperationKind, amount: int = 2490) -> PspOrder:
    money = replace(order.money, amount=amount)
    return replace(order, operation_id=documents.OUR_REFUND, kind=kind, charge_id=order.operation_id, money=money)


@pytest.mark.parametrize("kind", [CAPTURE, VOID])
async def test_a_lost_answer_is_found_and_asking_again_does_it_once(kind: OperationKind) -> None:
    async with twin(is_auto_receive=False) as payu, payu_at(payu.url, is_auto_receive=False) as psp:
        order = _of(await _paid(payu, psp), kind)
        assert await _find(psp, order) is None, "not done yet"
        payu.loses_answers = True
        said = await _send(psp, order)
        assert (said.outcome, said.is_psp_failure) == (Outcome.UNKNOWN, True)
        payu.loses_answers = False
        found, again = await _find(psp, order), await _send(psp, order)
        assert found is not None
        assert (found.outcome, found.amount, found.currency) == (Outcome.APPROVED, 2490, "PLN")
        assert again == found, "what PayU refuses because it is done already is done"


async def test_a_refund_whose_answer_was_lost_is_found_among_those_of_the_order() -> None:
    async with twin() as payu, payu_at(payu.url) as psp:
        refund = _of(await _paid(payu, psp), OperationKind.REFUND, 1000)
        assert await _find(psp, refund) is None
        payu.loses_answers = True
        assert (await _send(psp, refund)).outcome is Outcome.UNKNOWN
        payu.loses_answers = False
        found = await _find(psp, refund)
        assert found is not None
        assert (found.outcome, found.amount) == (Outcome.APPROVED, 1000)
        other = await _find(psp, replace(refund, operation_id="another"))
        assert other is None


async def test_an_order_whose_answer_was_lost_stays_in_doubt_until_it_is_named() -> None:
    async with twin() as payu, payu_at(payu.url) as psp:
        payu.loses_answers = True
        assert (await _send(psp, SALE)).outcome is Outcome.UNKNOWN
        payu.loses_answers = False
        assert await _find(psp, SALE) == Answer(outcome=Outcome.UNKNOWN, reason="reference_unknown")
        [order_id] = payu.orders
        payu.lapse(order_id)
        [raw] = payu.notices
        told = psp.parse_callback({"OpenPayu-Signature": documents.signature(raw)}, raw, now_s=time.time())
        assert told is not None
        assert (told.our_reference, told.answer.outcome) == (SALE.operation_id, Outcome.EXPIRED)
        assert told.answer.reference == order_id


async def test_an_order_that_is_there_already_is_not_made_twice_but_found() -> None:
    async with twin() as payu, payu_at(payu.url) as psp:
        first = await _send(psp, SALE)
        again = await _send(psp, SALE)
        assert len(payu.orders) == 1
        assert (again.outcome, again.reference, again.amount) == (Outcome.PENDING, first.reference, 2490)


async def test_an_order_that_is_there_already_and_not_named_stays_in_doubt() -> None:
    unnamed = {"status": documents.NOT_UNIQUE["status"]}
    for body in (unnamed, documents.NOT_UNIQUE | {"extOrderId": "another"}):
        async with scripted({_CREATE: (400, body)}) as (psp, _):
            said = await _send(psp, SALE)
            assert said == Answer(outcome=Outcome.UNKNOWN, reason="order_not_unique", is_psp_failure=True)


# -- what PayU says ---------------------------------------------------------------------------------------------------

_REFUSED: Final = (400, documents.refused("ERROR_VALUE_INVALID", "ORDER_STATUS"))
_DONE: Final = (200, documents.UPDATED)
_TROUBLE: Final = documents.refused("ERROR_INTERNAL")


@pytest.mark.parametrize(
    ("kind", "said", "stands", "expected"),
    [
        (CAPTURE, _DONE, "COMPLETED", (Outcome.APPROVED, "")),
        (CAPTURE, _DONE, "WAITING_FOR_CONFIRMATION", (Outcome.PENDING, "accepted")),
        (CAPTURE, _REFUSED, "COMPLETED", (Outcome.APPROVED, "")),
        (CAPTURE, _REFUSED, "CANCELED", (Outcome.DECLINED, "order_canceled")),
        (CAPTURE, _REFUSED, "WAITING_FOR_CONFIRMATION", (Outcome.DECLINED, "order_status")),
        (
            CAPTURE,
            (400, documents.refused("ERROR_INTERNAL")),
            "WAITING_FOR_CONFIRMATION",
            (Outcome.UNKNOWN, "error_internal"),
        ),
        (CAPTURE, (500, _TROUBLE), "COMPLETED", (Outcome.UNKNOWN, "http_500")),
        (CAPTURE, (200, {}), "COMPLETED", (Outcome.UNKNOWN, "answer_invalid")),
        (VOID, _DONE, "CANCELED", (Outcome.APPROVED, "")),
        (VOID, _REFUSED, "COMPLETED", (Outcome.DECLINED, "already_captured")),
        (CANCEL, _DONE, "CANCELED", (Outcome.APPROVED, "")),
        (CANCEL, _DONE, "PENDING", (Outcome.PENDING, "accepted")),
        (CANCEL, _REFUSED, "COMPLETED", (Outcome.DECLINED, "already_paid")),
        # A simulator says no with status 200, which PayU does not document: no proof that nothing comes of it.
        (CANCEL, (200, _REFUSED[1]), "CANCELED", (Outcome.APPROVED, "")),
        (CANCEL, (200, _REFUSED[1]), "NEW", (Outcome.UNKNOWN, "order_status")),
        (VOID, (409, _REFUSED[1]), "WAITING_FOR_CONFIRMATION", (Outcome.UNKNOWN, "order_status")),
        (VOID, (429, documents.refused("TOO_MANY_REQUESTS")), "PENDING", (Outcome.UNKNOWN, "too_many_requests")),
        (CAPTURE, (400, documents.refused("ERROR_NEW")), "WAITING_FOR_CONFIRMATION", (Outcome.UNKNOWN, "error_new")),
        (CAPTURE, (400, _DONE[1]), "WAITING_FOR_CONFIRMATION", (Outcome.UNKNOWN, "success")),
    ],
)
async def test_what_came_of_a_request_is_how_the_order_stands(
    kind: OperationKind, said: tuple[int, Any], stands: str, expected: tuple[Outcome, str]
) -> None:
    asked = {CAPTURE: f"POST {_ORDER}/captures", VOID: f"DELETE {_ORDER}", CANCEL: f"DELETE {_ORDER}"}[kind]
    async with scripted({asked: said, f"GET {_ORDER}": (200, documents.orders(stands))}) as (psp, seen):
        answered = await _send(psp, _about(kind))
        assert (answered.outcome, answered.reason) == expected
        assert seen[0] == asked
        assert seen.count(asked) == 1


@pytest.mark.parametrize(
    ("said", "listed", "expected"),
    [
        ((200, documents.refunded("PENDING")), None, (Outcome.PENDING, "")),
        ((200, documents.refunded("FINALIZED")), None, (Outcome.APPROVED, "")),
        ((200, documents.refunded("FINALIZED", extRefundId="another")), None, (Outcome.UNKNOWN, "answer_invalid")),
        ((200, documents.UPDATED), None, (Outcome.UNKNOWN, "answer_invalid")),
        ((400, documents.NO_BALANCE), [], (Outcome.DECLINED, "no_balance")),
        ((403, documents.NO_BALANCE), [], (Outcome.NOT_SENT, "http_403")),
        ((409, documents.NO_BALANCE), [], (Outcome.UNKNOWN, "no_balance")),
        ((400, documents.NO_BALANCE), [documents.refund("PENDING")], (Outcome.PENDING, "")),
        ((400, documents.NO_BALANCE), [documents.refund("PENDING")] * 2, (Outcome.UNKNOWN, "refunded_twice")),
        ((400, documents.refused("OPENPAYU_ERROR_INTERNAL")), [], (Outcome.UNKNOWN, "openpayu_error_internal")),
        ((400, documents.NO_BALANCE), "nonsense", (Outcome.UNKNOWN, "answer_invalid")),
    ],
)
async def test_a_refund_that_is_refused_is_refused_only_if_there_is_none_of_ours(
    said: tuple[int, Any], listed: Any, expected: tuple[Outcome, str]
) -> None:
    refunds = f"{_ORDER}/refunds"
    for shape in ({"refunds": listed}, listed):
        async with scripted({f"POST {refunds}": said, f"GET {refunds}": (200, shape)}) as (psp, _):
            answered = await _send(psp, REFUND)
            assert (answered.outcome, answered.reason) == expected


@pytest.mark.parametrize(
    ("status", "body", "reason"),
    [
        (404, documents.refused("DATA_NOT_FOUND"), "http_404"),
        (500, {}, "http_500"),
        (302, documents.orders("COMPLETED"), "http_302"),
        (200, {"orders": []}, "answer_invalid"),
        (200, {"orders": [documents.order("COMPLETED")] * 2}, "answer_invalid"),
        (200, documents.orders("COMPLETED", orderId="ANOTHER"), "answer_invalid"),
        (200, documents.orders("COMPLETED", extOrderId="another"), "answer_invalid"),
        (200, documents.orders("COMPLETED", extOrderId=None), "answer_invalid"),
        (200, documents.orders("COMPLETED", totalAmount=2490.0), "answer_invalid"),
    ],
)
async def test_an_inquiry_without_a_straight_answer_leaves_the_doubt(
    status: int, body: dict[str, Any], reason: str
) -> None:
    async with scripted({f"GET {_ORDER}": (status, body)}) as (psp, _):
        said = await _find(psp, _KNOWN)
        assert said == Answer(outcome=Outcome.UNKNOWN, reason=reason, is_psp_failure=True)
