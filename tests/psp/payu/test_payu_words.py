"""What is said to PayU, byte by byte, and what its words mean."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from paynode.domain.money import Money
from paynode.domain.payment import Method, OperationKind, PspOrder
from paynode.domain.psp import Answer, Outcome
from paynode.psp.payu_words import Charging, Order, Refund, Verdict, done, opened, parsed
from tests.psp.payu import documents
from tests.psp.payu.accounts import payu_at

SALE = PspOrder(
    operation_id=documents.OURS,
    payment_id="payment",
    merchant_id="merchant",
    psp="payu",
    money=Money(amount=2490, currency="PLN"),
    method=Method.HOSTED_PAGE,
    return_url="https://shop.example/back",
    description="A lantern",
)
REFUND = replace(
    SALE,
    operation_id=documents.OUR_REFUND,
    kind=OperationKind.REFUND,
    money=Money(amount=1000, currency="PLN"),
    charge_id=documents.OURS,
    charge_reference=documents.ORDER_ID,
    description="",
)


def test_an_order_is_asked_for_in_minor_units_and_under_our_reference() -> None:
    request = payu_at("https://payu.invalid").prepare(SALE)
    assert (request.path, request.idempotency_key) == ("/api/v2_1/orders", documents.OURS)
    assert json.loads(request.body) == {
        "extOrderId": documents.OURS,
        "merchantPosId": "300746",
        "customerIp": "127.0.0.1",
        "notifyUrl": "https://pay.example/v1/psp/payu/webhook",
        "continueUrl": "https://shop.example/back",
        "validityTime": "900",
        "description": "A lantern",
        "currencyCode": "PLN",
        "totalAmount": "2490",
        "products": [{"name": "A lantern", "unitPrice": "2490", "quantity": "1"}],
    }


def test_what_is_about_an_order_names_it_in_the_path() -> None:
    psp, order = payu_at("https://payu.invalid"), f"/api/v2_1/orders/{documents.ORDER_ID}"
    refund = psp.prepare(REFUND)
    assert refund.path == f"{order}/refunds"
    assert json.loads(refund.body) == {
        "refund": {
            "extRefundId": documents.OUR_REFUND,
            "description": "Refund",
            "amount": "1000",
            "currencyCode": "PLN",
        }
    }
    for kind, path in [
        (OperationKind.CAPTURE, f"{order}/captures"),
        (OperationKind.VOID, order),
        (OperationKind.CANCEL, order),
    ]:
        request = psp.prepare(replace(REFUND, kind=kind))
        assert (request.path, request.body) == (path, b"")


@pytest.mark.parametrize("description", ["", "  ", "x" * 1000, "żółć 💡" * 100])
def test_a_description_is_never_empty_and_never_too_long(description: str) -> None:
    body = json.loads(payu_at("https://payu.invalid").prepare(replace(SALE, description=description)).body)
    assert 1 <= len(body["description"]) <= 255
    assert body["products"][0]["name"] == body["description"]


@pytest.mark.parametrize(
    ("status", "at_once", "on_request"),
    [
        ("NEW", Outcome.PENDING, Outcome.PENDING),
        ("PENDING", Outcome.PENDING, Outcome.PENDING),
        ("WAITING_FOR_CONFIRMATION", Outcome.PENDING, Outcome.APPROVED),
        ("COMPLETED", Outcome.APPROVED, Outcome.APPROVED),
        ("CANCELED", Outcome.EXPIRED, Outcome.EXPIRED),
    ],
)
def test_what_an_order_waits_for_depends_on_how_the_pos_is_set_up(
    status: str, at_once: Outcome, on_request: Outcome
) -> None:
    order = Order.model_validate_json(json.dumps(documents.order(status)))
    assert Charging(is_auto_receive=True).answer(order).outcome is at_once
    said = Charging(is_auto_receive=False).answer(order)
    assert said == Answer(
        outcome=on_request,
        reference=documents.ORDER_ID,
        amount=2490,
        currency="PLN",
        reason="canceled" if status == "CANCELED" else "",
        psp_at_ms=1795431600000,
    )


CAPTURE, VOID, CANCEL = OperationKind.CAPTURE, OperationKind.VOID, OperationKind.CANCEL


@pytest.mark.parametrize(
    ("status", "outcomes"),
    [
        ("NEW", {CAPTURE: None, VOID: None, CANCEL: None}),
        ("PENDING", {CAPTURE: None, VOID: None, CANCEL: None}),
        ("WAITING_FOR_CONFIRMATION", {CAPTURE: None, VOID: None, CANCEL: Outcome.DECLINED}),
        ("COMPLETED", {CAPTURE: Outcome.APPROVED, VOID: Outcome.DECLINED, CANCEL: Outcome.DECLINED}),
        ("CANCELED", {CAPTURE: Outcome.DECLINED, VOID: Outcome.APPROVED, CANCEL: Outcome.APPROVED}),
    ],
)
def test_what_is_done_with_an_order_shows_in_its_status(
    status: str, outcomes: dict[OperationKind, Outcome | None]
) -> None:
    order = Order.model_validate_json(json.dumps(documents.order(status)))
    for kind, outcome in outcomes.items():
        said = done(kind, order)
        assert (said and said.outcome) is outcome, kind
        assert said is None or (said.amount, said.currency) == (2490, "PLN")


@pytest.mark.parametrize(
    ("status", "outcome"),
    [("PENDING", Outcome.PENDING), ("FINALIZED", Outcome.APPROVED), ("CANCELED", Outcome.DECLINED)],
)
def test_a_refund_is_under_way_until_the_bank_has_had_its_turn(status: str, outcome: Outcome) -> None:
    for amount in ("1000", 1000):  # both are seen
        refund = Refund.model_validate_json(json.dumps(documents.refund(status, amount=amount)))
        said = refund.answer()
        assert (said.outcome, said.reference, said.amount) == (outcome, documents.REFUND_ID, 1000)


@pytest.mark.parametrize(
    ("status", "body", "expected"),
    [
        (302, documents.CREATED, (Outcome.PENDING, "")),
        (200, documents.CREATED, (Outcome.PENDING, "")),
        (302, documents.CREATED | documents.refused("WARNING_CONTINUE_3DS"), (Outcome.PENDING, "")),
        (302, documents.CREATED | {"extOrderId": "another"}, (Outcome.UNKNOWN, "answer_invalid")),
        (302, documents.CREATED | {"redirectUri": None}, (Outcome.UNKNOWN, "answer_invalid")),
        (302, documents.CREATED | {"orderId": None}, (Outcome.UNKNOWN, "answer_invalid")),
        (200, documents.refused("ERROR_VALUE_INVALID"), (Outcome.UNKNOWN, "answer_invalid")),
        (400, documents.refused("ERROR_VALUE_INVALID"), (Outcome.DECLINED, "error_value_invalid")),
        (400, documents.refused("ERROR_VALUE_MISSING"), (Outcome.DECLINED, "error_value_missing")),
        (400, documents.refused("ERROR_SYNTAX"), (Outcome.DECLINED, "error_syntax")),
        (400, documents.refused("BUSINESS_ERROR", "ERROR_VALUE_INVALID"), (Outcome.DECLINED, "error_value_invalid")),
        (400, documents.refused("ERROR_INTERNAL"), (Outcome.UNKNOWN, "error_internal")),
        (400, documents.refused("SOMETHING_NEW"), (Outcome.UNKNOWN, "something_new")),
        (404, documents.refused("DATA_NOT_FOUND"), (Outcome.UNKNOWN, "http_404")),
        (408, documents.refused("TIMEOUT"), (Outcome.UNKNOWN, "timeout")),
        (429, documents.refused("ERROR_VALUE_INVALID"), (Outcome.UNKNOWN, "http_429")),
    ],
)
def test_only_a_documented_refusal_says_that_nothing_was_opened(
    status: int, body: dict[str, Any], expected: tuple[Outcome, str]
) -> None:
    said = opened(status, Verdict.model_validate_json(json.dumps(body)), documents.OURS)
    assert said is not None
    assert (said.outcome, said.reason) == expected
    assert said.is_psp_failure is (said.outcome is Outcome.UNKNOWN)
    if said.outcome is Outcome.PENDING:
        assert (said.reference, said.page_url) == (documents.ORDER_ID, documents.CREATED["redirectUri"])


def test_an_order_that_is_there_already_is_to_be_looked_up() -> None:
    assert opened(400, Verdict.model_validate_json(json.dumps(documents.NOT_UNIQUE)), documents.OURS) is None


@pytest.mark.parametrize(
    "changes",
    [
        {"totalAmount": 24.9},
        {"totalAmount": "24.90"},
        {"totalAmount": "-1"},
        {"totalAmount": True},
        {"totalAmount": "٢٤٩٠"},
        {"totalAmount": "2_490"},
        {"totalAmount": "9" * 19},
        {"totalAmount": None},
        {"currencyCode": "pln"},
        {"currencyCode": "PLN\n"},
        {"status": "REJECTED"},
        {"status": None},
        {"orderId": "../refunds"},
        {"orderId": "A" * 65},
        {"extOrderId": "\ud800"},
    ],
)
def test_an_order_that_is_not_as_documented_is_not_read(changes: dict[str, Any]) -> None:
    assert parsed(Order, json.dumps(documents.order("COMPLETED") | changes).encode()) is None


@pytest.mark.parametrize(
    ("text", "at_ms"),
    [
        ("2026-11-23T12:00:00.000+01:00", 1795431600000),
        ("2026-11-23T11:00:00Z", 1795431600000),
        ("2026-11-23T12:00:00", None),
        ("yesterday", None),
        (None, None),
    ],
)
def test_a_time_without_its_zone_is_no_time(text: str | None, at_ms: int | None) -> None:
    order = Order.model_validate_json(json.dumps(documents.order("NEW", orderCreateDate=text)))
    assert order.answer(Outcome.PENDING).psp_at_ms == at_ms
