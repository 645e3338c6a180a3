"""What is asked of Stripe has the shape that Stripe's own package describes."""

from __future__ import annotations

import importlib
from dataclasses import replace

import pytest

from paynode.domain.money import Money
from paynode.domain.payment import Method, OperationKind, PspOrder
from paynode.psp.stripe_requests import API_VERSION, prepared
from tests.psp.stripe.documents import (
    AUTHORIZATION,
    CANCEL,
    CAPTURE,
    INTENT_ID,
    LATER,
    OPERATION,
    PAGE,
    REFUND,
    SALE,
    SESSION_ID,
    VOID,
    order,
)
from tests.psp.stripe.forms import misfits, missing, nested

_SHAPES = [
    (SALE, "/v1/payment_intents", "stripe.params.PaymentIntentCreateParams"),
    (AUTHORIZATION, "/v1/payment_intents", "stripe.params.PaymentIntentCreateParams"),
    (PAGE, "/v1/checkout/sessions", "stripe.params.checkout.SessionCreateParams"),
    (
        order(OperationKind.AUTHORIZE, Method.HOSTED_PAGE),
        "/v1/checkout/sessions",
        "stripe.params.checkout.SessionCreateParams",
    ),
    (CAPTURE, f"/v1/payment_intents/{INTENT_ID}/capture", "stripe.params.PaymentIntentCaptureParams"),
    (VOID, f"/v1/payment_intents/{INTENT_ID}/cancel", "stripe.params.PaymentIntentCancelParams"),
    (REFUND, "/v1/refunds", "stripe.params.RefundCreateParams"),
    (CANCEL, f"/v1/checkout/sessions/{SESSION_ID}/expire", "stripe.params.checkout.SessionExpireParams"),
]


def test_the_shapes_are_those_of_the_version_that_is_asked_for() -> None:
    assert importlib.import_module("stripe._api_version")._ApiVersion.CURRENT == API_VERSION


@pytest.mark.parametrize(("asked", "path", "shape"), _SHAPES, ids=lambda one: getattr(one, "kind", None))
def test_a_request_has_a_place_for_each_of_its_fields(asked: PspOrder, path: str, shape: str) -> None:
    request = prepared(asked)
    assert (request.path, request.idempotency_key) == (path, asked.operation_id)
    assert request.body, "by the body a sending is seen to have begun"
    module, _, name = shape.rpartition(".")
    described = getattr(importlib.import_module(module), name)
    form = nested(request.body)
    assert list(misfits(form, described)) == []
    assert missing(form, described) == set()


def test_what_has_no_place_is_noticed() -> None:
    described = importlib.import_module("stripe.params").PaymentIntentCreateParams
    form = nested(b"amount=1.5&currency=eur&capture_method=never&colour=red&metadata[a][b]=c&confirm=1")
    assert sorted(misfits(form, described)) == [
        "amount may not be '1.5'",
        "capture_method may not be 'never'",
        "colour is unknown",
        "confirm may not be '1'",
        "metadata may not be {'a': {'b': 'c'}}",
    ]
    assert missing({}, described) == {"amount", "currency"}


def test_a_sale_of_a_stored_card() -> None:
    assert nested(prepared(SALE).body) == {
        "amount": "1000",
        "currency": "eur",
        "payment_method": "pm_card_visa",
        "payment_method_types": {"0": "card"},
        "capture_method": "automatic",
        "confirm": "true",
        "off_session": "true",
        "description": "A lantern & co",
        "metadata": {"paynode_operation": OPERATION, "paynode_kind": "sale", "paynode_method": "token"},
    }
    assert "description" not in nested(prepared(replace(SALE, description="")).body)


def test_a_page_is_for_exactly_what_was_asked() -> None:
    form = nested(prepared(PAGE).body)
    [item] = form["line_items"].values()
    assert item["quantity"] == "1"
    assert item["price_data"] == {
        "currency": "eur",
        "unit_amount": "1000",
        "product_data": {"name": "A lantern & co"},
    }
    assert form["adaptive_pricing"] == {"enabled": "false"}, "else the customer's own currency might be charged"
    assert form["success_url"] == form["cancel_url"] == PAGE.return_url
    assert form["client_reference_id"] == form["payment_intent_data"]["metadata"]["paynode_operation"] == OPERATION
    assert form["payment_intent_data"]["capture_method"] == "automatic"
    unnamed = nested(prepared(replace(PAGE, description="")).body)
    assert unnamed["line_items"]["0"]["price_data"]["product_data"]["name"] == "Payment"


def test_an_authorization_is_captured_by_hand_and_its_capture_signs_it() -> None:
    assert nested(prepared(AUTHORIZATION).body)["capture_method"] == "manual"
    part = replace(CAPTURE, money=Money(amount=250, currency="EUR"))
    assert nested(prepared(part).body) == {"amount_to_capture": "250", "metadata": {"paynode_capture": LATER}}


def test_a_refund_is_of_a_charge_and_bears_our_name() -> None:
    form = nested(prepared(REFUND).body)
    assert (form["payment_intent"], form["amount"]) == (INTENT_ID, "400")
    assert form["metadata"]["paynode_operation"] == LATER


def test_no_reference_leads_out_of_its_place() -> None:
    crooked = replace(VOID, charge_reference="../refunds?x=1#")
    assert prepared(crooked).path == "/v1/payment_intents/..%2Frefunds%3Fx%3D1%23/cancel"
