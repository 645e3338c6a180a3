"""What Stripe's documented answers mean: money that moved is seen, a definite no is final, all else is doubt."""

from __future__ import annotations

import time
from dataclasses import replace

import pytest

from paynode.domain.money import Money
from paynode.domain.payment import PspOrder
from paynode.domain.psp import Answer, Outcome
from tests.psp.account import CALL_S
from tests.psp.misbehaving import Script, answer, raw_server
from tests.psp.stripe.accounts import stripe_at
from tests.psp.stripe.documents import (
    AT,
    AUTHORIZATION,
    CANCEL,
    CAPTURE,
    INTENT_ID,
    OPERATION,
    PAGE,
    REFUND,
    REFUND_ID,
    SALE,
    SESSION_ID,
    VOID,
    Json,
    captured,
    declined_intent,
    error,
    held,
    intent,
    marks,
    ok,
    order,
    paid_session,
    refund,
    session,
)
from tests.psp.stripe.forms import nested

_CARD = {"code": "card_declined", "decline_code": "do_not_honor"}


async def said_by(script: Script, asked: PspOrder) -> tuple[Answer, list[bytes]]:
    """What the adapter makes of it, and what it asked."""
    async with raw_server(script) as server, stripe_at(server.url) as psp:
        until = time.monotonic() + CALL_S
        said = await psp.send(asked, psp.prepare(asked), send_by=until, deadline=until)
        return said, server.requests


def _in_turn(*scripts: Script) -> Script:
    """One after the other, the last again and again."""
    left = list(scripts)

    async def script(reader: object, writer: object) -> None:
        await (left.pop(0) if len(left) > 1 else left[0])(reader, writer)  # type: ignore[arg-type]

    return script


def _claim(outcome: Outcome, reference: str, amount: int = 1000, at_s: int | None = AT, **more: str) -> Answer:
    at_ms = None if at_s is None else at_s * 1000
    return Answer(outcome=outcome, reference=reference, amount=amount, currency="EUR", psp_at_ms=at_ms, **more)  # type: ignore[arg-type]


_APPROVED = _claim(Outcome.APPROVED, INTENT_ID)
_PAGE_URL = f"https://checkout.stripe.com/c/pay/{SESSION_ID}"


@pytest.mark.parametrize(
    ("asked", "item", "said"),
    [
        (SALE, intent(), _APPROVED),
        (SALE, intent(amount_received=999), replace(_APPROVED, amount=999)),
        (SALE, declined_intent(), _claim(Outcome.DECLINED, INTENT_ID, reason="insufficient_funds")),
        # Its holder is not here, and nobody will show him what his bank wants of him.
        (
            SALE,
            intent(status="requires_action", amount_received=0, next_action={"type": "use_stripe_sdk"}),
            _claim(Outcome.DECLINED, INTENT_ID, reason="authentication_required"),
        ),
        (AUTHORIZATION, held(), _APPROVED),
        # An account that may capture in parts, and somebody who did so: authorized is the whole.
        (AUTHORIZATION, held(amount_capturable=400, amount_received=600), _APPROVED),
        (CAPTURE, captured(), replace(_APPROVED, psp_at_ms=None)),
        (CAPTURE, captured(600), replace(_APPROVED, amount=600, psp_at_ms=None)),
        (
            VOID,
            held(status="canceled", amount_capturable=0, canceled_at=AT + 9),
            _claim(Outcome.APPROVED, INTENT_ID, at_s=AT + 9),
        ),
        (PAGE, session(), _claim(Outcome.PENDING, SESSION_ID, page_url=_PAGE_URL)),
        (CANCEL, session(status="expired", url=None), _claim(Outcome.APPROVED, SESSION_ID, at_s=None)),
        (REFUND, refund(), _claim(Outcome.APPROVED, REFUND_ID, 400)),
        (REFUND, refund(status="pending"), _claim(Outcome.PENDING, REFUND_ID, 400)),
        (
            REFUND,
            refund(status="failed", failure_reason="lost_or_stolen_card"),
            _claim(Outcome.DECLINED, REFUND_ID, 400, reason="lost_or_stolen_card"),
        ),
        # Stripe tells it again when it is asked again within a day: by then it may have been paid.
        (PAGE, paid_session(), _APPROVED),
    ],
)
async def test_an_object_says_what_became_of_it(asked: PspOrder, item: Json, said: Answer) -> None:
    answered, requests = await said_by(ok(item), asked)
    assert answered == said
    assert len(requests) == 1


async def test_a_request_is_a_form_with_a_key_and_a_version() -> None:
    _, [raw] = await said_by(ok(intent()), SALE)
    head, _, body = raw.partition(b"\r\n\r\n")
    lines = head.decode().lower().split("\r\n")
    assert lines[0] == "post /v1/payment_intents http/1.1"
    assert {
        "content-type: application/x-www-form-urlencoded",
        f"idempotency-key: {OPERATION}",
        "stripe-version: 2026-02-25.clover",
        "authorization: bearer sk_test_annex",
    } <= set(lines)
    assert nested(body)["metadata"]["paynode_operation"] == OPERATION


@pytest.mark.parametrize(
    ("asked", "item"),
    [
        (SALE, intent(metadata=marks(operation_id="another"))),
        (SALE, intent(metadata={})),
        (SALE, intent(amount_received="1000")),
        (SALE, intent(status="paid")),
        (SALE, {name: value for name, value in intent().items() if name != "amount_received"}),
        (SALE, session()),
        (PAGE, session(metadata=marks(operation_id="another"))),
        (PAGE, session(url="javascript:alert(1)")),
        (CAPTURE, captured(id="pi_another")),
        (CANCEL, session(id="cs_another", status="expired")),
        (REFUND, refund(metadata={})),
        (replace(SALE, money=Money(amount=10, currency="ISK")), intent(amount_received=1050, currency="isk")),
    ],
)
async def test_an_answer_about_something_else_is_no_answer(asked: PspOrder, item: Json) -> None:
    said, _ = await said_by(ok(item), asked)
    assert said == Answer(outcome=Outcome.UNKNOWN, reason="answer_invalid", is_psp_failure=True)


@pytest.mark.parametrize(
    ("asked", "item"),
    [
        (SALE, declined_intent(metadata=marks(operation_id="another"))),
        (AUTHORIZATION, declined_intent(metadata={})),
        (CAPTURE, held(id="pi_another")),
        (REFUND, intent(id="pi_another")),
    ],
)
async def test_a_declined_card_of_another_operation_is_no_answer(asked: PspOrder, item: Json) -> None:
    said, _ = await said_by(error(402, "card_error", **_CARD, payment_intent=item), asked)
    assert said == Answer(outcome=Outcome.UNKNOWN, reason="answer_invalid", is_psp_failure=True)


@pytest.mark.parametrize(
    ("asked", "item", "reason"),
    [
        (SALE, intent(status="processing"), "processing"),
        (SALE, intent(status="requires_confirmation"), "requires_confirmation"),
        (SALE, held(metadata=marks()), "requires_capture"),
        (PAGE, session(status="complete", payment_intent=INTENT_ID), "session_complete"),
        (PAGE, session(url=None), "session_complete"),
        (CAPTURE, held(), "nothing_done"),
        (CAPTURE, held(status="processing"), "processing"),
        (VOID, held(), "nothing_done"),
        (CANCEL, session(), "nothing_done"),
    ],
)
async def test_what_is_not_settled_yet_is_unknown_and_no_failure(asked: PspOrder, item: Json, reason: str) -> None:
    said, _ = await said_by(ok(item), asked)
    assert said == Answer(outcome=Outcome.UNKNOWN, reason=reason)


@pytest.mark.parametrize(
    ("script", "said"),
    [
        (
            error(402, "card_error", **_CARD, payment_intent=declined_intent("do_not_honor")),
            _claim(Outcome.DECLINED, INTENT_ID, reason="do_not_honor"),
        ),
        (error(402, "card_error", **_CARD), Answer(outcome=Outcome.DECLINED, reason="do_not_honor")),
        (
            error(402, "card_error", "authentication_required"),
            Answer(outcome=Outcome.DECLINED, reason="authentication_required"),
        ),
        (error(402, "card_error", "Not a word!"), Answer(outcome=Outcome.DECLINED, reason="payment_failed")),
        (
            error(400, "invalid_request_error", "amount_too_small"),
            Answer(outcome=Outcome.DECLINED, reason="amount_too_small"),
        ),
        (error(400, "invalid_request_error"), Answer(outcome=Outcome.DECLINED, reason="invalid_request_error")),
        (
            error(404, "invalid_request_error", "resource_missing"),
            Answer(outcome=Outcome.DECLINED, reason="resource_missing"),
        ),
        # Stripe's limiters stand before what remembers keys, and its look at the API key before all else.
        (
            error(429, "invalid_request_error", "rate_limit"),
            Answer(outcome=Outcome.NOT_SENT, reason="rate_limit", is_psp_failure=True),
        ),
        (
            error(401, "invalid_request_error"),
            Answer(outcome=Outcome.NOT_SENT, reason="key_refused", is_psp_failure=True),
        ),
        # The object is in use, or the key: it may be done at this moment.
        (error(429, "invalid_request_error", "lock_timeout"), Answer(outcome=Outcome.UNKNOWN, reason="lock_timeout")),
        (
            error(409, "invalid_request_error", "idempotency_key_in_use"),
            Answer(outcome=Outcome.UNKNOWN, reason="idempotency_key_in_use"),
        ),
        # Another request had this key: what that one did is not known here.
        (error(400, "idempotency_error"), Answer(outcome=Outcome.UNKNOWN, reason="http_400", is_psp_failure=True)),
        (
            error(400, "invalid_request_error", "idempotency_key_in_use"),
            Answer(outcome=Outcome.UNKNOWN, reason="http_400", is_psp_failure=True),
        ),
        (error(402, "api_error"), Answer(outcome=Outcome.UNKNOWN, reason="http_402", is_psp_failure=True)),
        (error(403, "invalid_request_error"), Answer(outcome=Outcome.UNKNOWN, reason="http_403", is_psp_failure=True)),
        (
            error(404, "invalid_request_error", "url_unknown"),
            Answer(outcome=Outcome.UNKNOWN, reason="http_404", is_psp_failure=True),
        ),
        (error(424, "api_error"), Answer(outcome=Outcome.UNKNOWN, reason="http_424", is_psp_failure=True)),
        (error(500, "api_error"), Answer(outcome=Outcome.UNKNOWN, reason="http_500", is_psp_failure=True)),
        # Whoever stands in between does not speak for Stripe.
        (answer(401, b"<html>"), Answer(outcome=Outcome.UNKNOWN, reason="http_401", is_psp_failure=True)),
        (answer(429, b"{}"), Answer(outcome=Outcome.UNKNOWN, reason="http_429", is_psp_failure=True)),
        (answer(400, b""), Answer(outcome=Outcome.UNKNOWN, reason="http_400", is_psp_failure=True)),
        (answer(201, b"{}"), Answer(outcome=Outcome.UNKNOWN, reason="http_201", is_psp_failure=True)),
    ],
)
async def test_an_error_is_a_no_only_where_stripe_says_that_it_is(script: Script, said: Answer) -> None:
    answered, requests = await said_by(script, SALE)
    assert answered == said
    assert len(requests) == 1, "a refusal is never answered by another try"


_STATE = error(400, "invalid_request_error", "payment_intent_unexpected_state", payment_intent=intent())


@pytest.mark.parametrize(
    ("asked", "script", "now", "said"),
    [
        (CAPTURE, _STATE, captured(600), replace(_APPROVED, amount=600, psp_at_ms=None)),
        (CAPTURE, _STATE, captured(by="018bcfe5-6800-7000-8000-00000000000f"), "already_captured"),
        (CAPTURE, _STATE, captured(by=None), "already_captured"),
        (CAPTURE, _STATE, held(status="canceled", amount_capturable=0), "authorization_canceled"),
        (CAPTURE, error(400, "invalid_request_error", "amount_too_large"), held(), "amount_too_large"),
        (CAPTURE, error(402, "card_error", "card_declined", payment_intent=held()), held(), "card_declined"),
        (VOID, _STATE, held(status="canceled", amount_capturable=0, canceled_at=AT), _APPROVED),
        (VOID, _STATE, captured(), "already_captured"),
        (CANCEL, error(400, "invalid_request_error"), paid_session(), "already_paid"),
        (
            CANCEL,
            error(400, "invalid_request_error"),
            session(status="expired", url=None),
            _claim(Outcome.APPROVED, SESSION_ID, at_s=None),
        ),
        (
            REFUND,
            error(400, "invalid_request_error", "charge_already_refunded"),
            {"object": "list", "has_more": False, "data": [refund()]},
            _claim(Outcome.APPROVED, REFUND_ID, 400),
        ),
        (
            REFUND,
            error(400, "invalid_request_error", "charge_already_refunded"),
            {"object": "list", "has_more": False, "data": [refund(metadata={}), refund(metadata=marks("refund"))]},
            "charge_already_refunded",
        ),
    ],
)
async def test_what_cannot_be_done_again_may_have_been_done_by_us(
    asked: PspOrder, script: Script, now: Json, said: Answer | str
) -> None:
    answered, _ = await said_by(_in_turn(script, ok(now)), asked)
    assert answered == (Answer(outcome=Outcome.DECLINED, reason=said) if isinstance(said, str) else said)


@pytest.mark.parametrize("asked", [CAPTURE, VOID, CANCEL, REFUND], ids=lambda one: one.kind)
async def test_while_nobody_says_what_was_done_a_refusal_is_doubt(asked: PspOrder) -> None:
    refused = error(400, "invalid_request_error", "payment_intent_unexpected_state")
    said, _ = await said_by(_in_turn(refused, error(500, "api_error")), asked)
    assert said == Answer(outcome=Outcome.UNKNOWN, reason="http_500", is_psp_failure=True)


async def test_amounts_of_currencies_that_stripe_counts_otherwise() -> None:
    asked = order(money=Money(amount=5, currency="ISK"))
    said, [raw] = await said_by(ok(intent(amount=500, amount_received=500, currency="isk")), asked)
    assert nested(raw.partition(b"\r\n\r\n")[2])["amount"] == "500"
    assert (said.amount, said.currency) == (5, "ISK")
