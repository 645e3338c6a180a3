"""Stripe's webhooks: believed as Stripe's own library would, then read strictly, and foreign ones passed over."""

from __future__ import annotations

import importlib
import json
import time
from typing import Any

import pytest

from paynode.domain.payment import OperationKind
from paynode.domain.psp import Answer, Callback, Outcome
from paynode.psp.errors import CallbackRefused
from tests.psp.stripe.accounts import stripe_at
from tests.psp.stripe.annex import WEBHOOK_SECRET, signed
from tests.psp.stripe.documents import (
    AT,
    INTENT_ID,
    LATER,
    OPERATION,
    REFUND_ID,
    SESSION_ID,
    Json,
    captured,
    declined_intent,
    held,
    intent,
    marks,
    paid_session,
    refund,
    session,
)

PSP = stripe_at("http://stripe.invalid")
_PAGED = marks(method="hosted_page")
_CHARGES = frozenset({OperationKind.SALE, OperationKind.AUTHORIZE})


def was(status: str, item: Json) -> Json:
    """An object that had another status before its event."""
    return item | {"_was": {"status": status}}


def event(type_: str, item: Json, key: str | None = None, **changes: Any) -> bytes:
    before = {"previous_attributes": item["_was"]} if "_was" in item else {}
    content = {
        "id": "evt_1NG8Du2eZvKYlo2CUI79vXWy",
        "object": "event",
        "api_version": "2026-02-25.clover",
        "created": AT + 5,
        "data": {"object": item} | before,
        "livemode": False,
        "pending_webhooks": 1,
        "request": {"id": "req_1", "idempotency_key": key},
        "type": type_,
    }
    return json.dumps(content | changes).encode()


def believed(raw: bytes) -> Callback | None:
    return PSP.parse_callback(signed(raw, at=AT).headers, raw, now_s=AT)


def _claim(outcome: Outcome, reference: str, amount: int = 1000, at_s: int | None = AT, **more: Any) -> Answer:
    at_ms = None if at_s is None else at_s * 1000
    return Answer(outcome=outcome, reference=reference, amount=amount, currency="EUR", psp_at_ms=at_ms, **more)


APPROVED = _claim(Outcome.APPROVED, INTENT_ID)


@pytest.mark.parametrize(
    ("type_", "item", "key", "operation_id", "said"),
    [
        ("payment_intent.succeeded", intent(), None, OPERATION, APPROVED),
        ("payment_intent.succeeded", intent(metadata=_PAGED), None, OPERATION, APPROVED),
        ("checkout.session.completed", paid_session(), None, OPERATION, APPROVED),
        ("checkout.session.async_payment_succeeded", paid_session(), None, OPERATION, APPROVED),
        ("payment_intent.amount_capturable_updated", held(), None, OPERATION, APPROVED),
        ("payment_intent.succeeded", captured(by=None), None, OPERATION, APPROVED),
        ("payment_intent.succeeded", captured(700), None, LATER, _claim(Outcome.APPROVED, INTENT_ID, 700, AT + 5)),
        (
            "payment_intent.payment_failed",
            declined_intent("lost_card"),
            None,
            OPERATION,
            _claim(Outcome.DECLINED, INTENT_ID, reason="lost_card"),
        ),
        (
            "payment_intent.canceled",
            held(status="canceled", amount_capturable=0, canceled_at=AT + 9, cancellation_reason="automatic"),
            None,
            OPERATION,
            _claim(Outcome.EXPIRED, INTENT_ID, at_s=AT + 9, reason="canceled_automatic"),
        ),
        (
            "payment_intent.canceled",
            held(status="canceled", amount_capturable=0, canceled_at=AT + 9),
            OPERATION,
            OPERATION,
            _claim(Outcome.EXPIRED, INTENT_ID, at_s=AT + 9, reason="canceled_by_somebody"),
        ),
        (
            "payment_intent.canceled",
            held(status="canceled", amount_capturable=0, canceled_at=AT + 9),
            "6f9619ff-8b86-4d01-b42d-00c04fc964ff",  # of his own: canceled in the dashboard
            OPERATION,
            _claim(Outcome.EXPIRED, INTENT_ID, at_s=AT + 9, reason="canceled_by_somebody"),
        ),
        (
            "payment_intent.canceled",
            held(status="canceled", amount_capturable=0, canceled_at=AT + 9),
            LATER,
            LATER,
            _claim(Outcome.APPROVED, INTENT_ID, at_s=AT + 9),
        ),
        (
            "checkout.session.expired",
            session(status="expired", url=None),
            LATER,
            OPERATION,
            _claim(Outcome.EXPIRED, SESSION_ID, at_s=AT + 86400, reason="session_expired"),
        ),
        (
            "checkout.session.async_payment_failed",
            session(status="complete", payment_intent=INTENT_ID),
            None,
            OPERATION,
            Answer(outcome=Outcome.DECLINED, reason="payment_failed"),
        ),
        ("refund.created", refund(), None, LATER, _claim(Outcome.APPROVED, REFUND_ID, 400)),
        ("charge.refund.updated", refund(), None, LATER, _claim(Outcome.APPROVED, REFUND_ID, 400)),
        ("refund.updated", refund(status="pending"), None, LATER, _claim(Outcome.PENDING, REFUND_ID, 400)),
        (
            "charge.refund.updated",
            was("succeeded", refund(status="failed", failure_reason="expired_or_canceled_card")),
            None,
            LATER,
            _claim(Outcome.REVERSED, REFUND_ID, 400, reason="expired_or_canceled_card"),
        ),
        (
            "refund.updated",
            was("pending", refund(status="failed")),
            None,
            LATER,
            _claim(Outcome.DECLINED, REFUND_ID, 400, reason="refund_failed"),
        ),
    ],
)
def test_an_event_is_the_claim_about_one_operation(
    type_: str, item: Json, key: str | None, operation_id: str, said: Answer
) -> None:
    told = believed(event(type_, item, key))
    assert told is not None
    assert (told.event_id, told.our_reference, told.answer) == ("evt_1NG8Du2eZvKYlo2CUI79vXWy", operation_id, said)


@pytest.mark.parametrize(
    ("raw", "kinds"),
    [
        (event("payment_intent.succeeded", intent()), _CHARGES),
        (event("payment_intent.succeeded", captured(by=None)), _CHARGES),
        (event("checkout.session.completed", paid_session()), _CHARGES),
        (event("payment_intent.succeeded", captured()), frozenset({OperationKind.CAPTURE})),
        # Whoever closes a page ends the PaymentIntent of it, too.
        (
            event("payment_intent.canceled", held(status="canceled", canceled_at=AT), LATER),
            frozenset({OperationKind.VOID, OperationKind.CANCEL}),
        ),
        (event("refund.created", refund()), frozenset({OperationKind.REFUND})),
    ],
)
def test_an_event_says_what_it_can_be_about(raw: bytes, kinds: frozenset[OperationKind]) -> None:
    told = believed(raw)
    assert told is not None
    assert told.kinds == kinds


@pytest.mark.parametrize(
    ("key", "is_live"), [("sk_test_1", False), ("rk_test_1", False), ("sk_live_1", True), ("rk_live_1", True)]
)
def test_what_is_of_another_account_or_not_of_our_own_money_is_passed_over(key: str, is_live: bool) -> None:
    psp = stripe_at("http://stripe.invalid", api_key=key)

    def is_believed(**changes: Any) -> bool:
        raw = event("payment_intent.succeeded", intent(), **changes)
        return psp.parse_callback(signed(raw, at=AT).headers, raw, now_s=AT) is not None

    assert is_believed(livemode=is_live)
    assert not is_believed(livemode=not is_live)
    assert not is_believed(livemode=is_live, account="acct_1")


@pytest.mark.parametrize(
    ("type_", "item"),
    [
        ("payment_intent.created", intent()),
        ("charge.refunded", intent()),
        ("some.event.of.tomorrow", intent()),
        # Of whoever else uses the account: they need not even be what we would understand.
        ("payment_intent.succeeded", intent(metadata={})),
        ("payment_intent.succeeded", {"id": "pi_1", "metadata": {"order": "7"}}),
        ("charge.dispute.created", {"id": "dp_1", "object": "dispute", "metadata": {}}),
        ("checkout.session.completed", session(status="complete", metadata={}, mode="subscription", currency=None)),
        ("account.updated", {"id": "acct_1", "object": "account", "metadata": None}),
        # Whether it had been paid out, only the event of its change says.
        ("refund.failed", refund(status="failed")),
        # On a page a declined card is not the end: its customer tries another one.
        ("payment_intent.payment_failed", declined_intent(metadata=_PAGED)),
        ("payment_intent.payment_failed", declined_intent(status="requires_action", metadata=_PAGED)),
        # Complete, and the money is held or on its way: the PaymentIntent tells of it.
        ("checkout.session.completed", paid_session(metadata=marks("authorize", "hosted_page"))),
        ("checkout.session.completed", session(status="complete", payment_intent=INTENT_ID, url=None)),
        (
            "checkout.session.completed",
            session(status="complete", payment_intent=INTENT_ID, metadata=marks("authorize", "hosted_page")),
        ),
    ],
)
def test_what_says_nothing_of_an_operation_is_passed_over(type_: str, item: Json) -> None:
    assert believed(event(type_, item)) is None


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"not json",
        b"\xff",
        b"[]",
        b"[" * 100_000,
        event("payment_intent.succeeded", intent(amount_received=10.0)),
        event("payment_intent.succeeded", intent(amount_received=True)),
        event("payment_intent.succeeded", intent(amount_received=-1)),
        event("payment_intent.succeeded", intent(amount_received=2**63)),
        event("payment_intent.succeeded", intent(currency="EUR")),
        event("payment_intent.succeeded", intent(status="paid")),
        event("payment_intent.succeeded", intent(id="cs_1")),
        event("payment_intent.succeeded", intent(amount_received=150, currency="isk")),
        event("checkout.session.completed", intent()),
        event("refund.created", refund(amount="400")),
        event("payment_intent.succeeded", intent(), id="1"),
        event("payment_intent.succeeded", intent(), created=None),
        event("payment_intent.succeeded", intent(), livemode=None),
    ],
)
def test_an_authentic_event_of_ours_that_cannot_be_read_is_malformed(raw: bytes) -> None:
    with pytest.raises(CallbackRefused) as refused:
        believed(raw)
    assert refused.value.code == "malformed"


# -- signatures -------------------------------------------------------------------------------------------------------

_RAW = event("payment_intent.succeeded", intent())
_GOOD = signed(_RAW, at=AT).headers["Stripe-Signature"]
_T, _V1 = _GOOD.split(",")


@pytest.mark.parametrize(
    ("headers", "raw", "code"),
    [
        ({}, _RAW, "signature_missing"),
        ({"Sim-Signature": _GOOD}, _RAW, "signature_missing"),
        ({"Stripe-Signature": ""}, _RAW, "signature_invalid"),
        ({"Stripe-Signature": _T}, _RAW, "signature_invalid"),
        ({"Stripe-Signature": _V1}, _RAW, "signature_invalid"),
        ({"Stripe-Signature": f"{_T},{_T},{_V1}"}, _RAW, "signature_invalid"),
        ({"Stripe-Signature": f"{_T},v0={_V1[3:]}"}, _RAW, "signature_invalid"),
        ({"Stripe-Signature": _GOOD.upper()}, _RAW, "signature_invalid"),
        ({"Stripe-Signature": f"{_GOOD}\n"}, _RAW, "signature_invalid"),
        ({"Stripe-Signature": ",".join([_T, *["v1=" + "0" * 64] * 8, _V1])}, _RAW, "signature_invalid"),
        ({"Stripe-Signature": _GOOD.replace("t=17", "t=18")}, _RAW, "signature_invalid"),
        ({"Stripe-Signature": _GOOD.replace("t=17", "t=\u0661\u0667")}, _RAW, "signature_invalid"),
        ({"Stripe-Signature": _GOOD, "stripe-signature": _GOOD}, _RAW, "signature_invalid"),
        ({"Stripe-Signature": _GOOD}, _RAW + b" ", "signature_invalid"),
        (signed(_RAW, at=AT, secret="whsec_other").headers, _RAW, "signature_invalid"),
        (signed(_RAW, at=AT - 301).headers, _RAW, "stale"),
        (signed(_RAW, at=AT + 301).headers, _RAW, "stale"),
    ],
)
def test_an_event_that_is_not_signed_right_is_refused(headers: dict[str, str], raw: bytes, code: str) -> None:
    with pytest.raises(CallbackRefused) as refused:
        PSP.parse_callback(headers, raw, now_s=AT)
    assert refused.value.code == code


@pytest.mark.parametrize(
    "header",
    [
        _GOOD,
        f"{_T},v1={'0' * 64},{_V1}",  # while the secret is being changed there are two
        f"{_T},v0={'0' * 64},{_V1},v2=new",
    ],
)
def test_any_one_signature_of_the_scheme_is_enough(header: str) -> None:
    assert PSP.parse_callback({"stripe-signature": header}, _RAW, now_s=AT + 300) is not None


def test_stripes_own_library_agrees() -> None:
    """It has no word for signing: ours of `signed`, which our adapter believes, it must believe too."""
    theirs = importlib.import_module("stripe").WebhookSignature
    for raw in (_RAW, json.dumps(json.loads(_RAW) | {"note": "Grüße ☃"}, ensure_ascii=False).encode()):
        made = signed(raw)
        header = made.headers["Stripe-Signature"]
        assert PSP.parse_callback(made.headers, raw, now_s=time.time()) is not None
        assert theirs.verify_header(raw.decode(), header, WEBHOOK_SECRET, tolerance=300)


def test_a_touched_event_is_believed_by_neither() -> None:
    stripe = importlib.import_module("stripe")
    made, raw = signed(_RAW), _RAW.replace(b"1000", b"9000")
    assert raw != _RAW
    with pytest.raises(stripe.SignatureVerificationError):
        stripe.WebhookSignature.verify_header(raw.decode(), made.headers["Stripe-Signature"], WEBHOOK_SECRET)
    with pytest.raises(CallbackRefused):
        PSP.parse_callback(made.headers, raw, now_s=time.time())
