"""Stripe's objects and errors, written after the examples of its API reference, and orders that they answer."""

from __future__ import annotations

import json
from typing import Any, Final

from paynode.domain.money import Money
from paynode.domain.payment import Method, OperationKind, PspOrder
from tests.psp.misbehaving import Script, answer

Json = dict[str, Any]

AT: Final = 1_700_000_000
OPERATION: Final = "018bcfe5-6800-7000-8000-000000000001"
LATER: Final = "018bcfe5-6800-7000-8000-000000000002"
INTENT_ID: Final = "pi_3MtwBwLkdIwHu7ix28a3tqPa"
SESSION_ID: Final = "cs_test_a1Ae6ClgOkjygKwrf9B3L6ITtUuZW4Xx9FivL6DZYoYFdfAefQxsYpJJd3"
REFUND_ID: Final = "re_1Nispe2eZvKYlo2Cd31jOCgZ"


def marks(kind: str = "sale", method: str = "token", operation_id: str = OPERATION) -> dict[str, str]:
    return {"paynode_operation": operation_id, "paynode_kind": kind, "paynode_method": method}


def intent(**changes: Any) -> Json:
    """A sale of 10.00 EUR that succeeded."""
    return {
        "id": INTENT_ID,
        "object": "payment_intent",
        "amount": 1000,
        "amount_capturable": 0,
        "amount_details": {"tip": {}},
        "amount_received": 1000,
        "application": None,
        "canceled_at": None,
        "cancellation_reason": None,
        "capture_method": "automatic",
        "client_secret": f"{INTENT_ID}_secret_YrKJUKribcBjcG8HVhfZluoGH",
        "created": AT,
        "currency": "eur",
        "customer": None,
        "last_payment_error": None,
        "latest_charge": "ch_3MtwBwLkdIwHu7ix2aXd1Fh6",
        "livemode": False,
        "metadata": marks(),
        "next_action": None,
        "payment_method": "pm_1MtwBwLkdIwHu7ix28a3tqPa",
        "payment_method_types": ["card"],
        "status": "succeeded",
    } | changes


def held(**changes: Any) -> Json:
    """An authorization of 10.00 EUR."""
    own = {
        "status": "requires_capture",
        "amount_capturable": 1000,
        "amount_received": 0,
        "metadata": marks("authorize"),
    }
    return intent(capture_method="manual", **own | changes)


def captured(amount: int = 1000, by: str | None = LATER, **changes: Any) -> Json:
    """The same after a capture."""
    signed = {} if by is None else {"paynode_capture": by}
    own = {"status": "succeeded", "amount_capturable": 0, "amount_received": amount}
    return held(metadata=marks("authorize") | signed, **own | changes)


def declined_intent(decline_code: str = "insufficient_funds", **changes: Any) -> Json:
    error = {
        "code": "card_declined",
        "decline_code": decline_code,
        "message": "Your card was declined.",
        "type": "card_error",
    }
    own = {"status": "requires_payment_method", "amount_received": 0, "last_payment_error": error}
    return intent(**own | changes)


def session(**changes: Any) -> Json:
    """An open page for 10.00 EUR."""
    return {
        "id": SESSION_ID,
        "object": "checkout.session",
        "adaptive_pricing": {"enabled": False},
        "amount_subtotal": 1000,
        "amount_total": 1000,
        "cancel_url": "https://shop.example/back",
        "client_reference_id": OPERATION,
        "created": AT,
        "currency": "eur",
        "expires_at": AT + 86400,
        "livemode": False,
        "metadata": marks(method="hosted_page"),
        "mode": "payment",
        "payment_intent": None,
        "payment_status": "unpaid",
        "status": "open",
        "success_url": "https://shop.example/back",
        "url": f"https://checkout.stripe.com/c/pay/{SESSION_ID}",
    } | changes


def paid_session(**changes: Any) -> Json:
    return session(status="complete", payment_status="paid", payment_intent=INTENT_ID, url=None, **changes)


def refund(**changes: Any) -> Json:
    """A refund of 4.00 EUR."""
    return {
        "id": REFUND_ID,
        "object": "refund",
        "amount": 400,
        "balance_transaction": "txn_1Nispe2eZvKYlo2CYezqFhEx",
        "charge": "ch_1NirD82eZvKYlo2CIvbtLWuY",
        "created": AT,
        "currency": "eur",
        "metadata": marks("refund", operation_id=LATER),
        "payment_intent": INTENT_ID,
        "reason": None,
        "status": "succeeded",
    } | changes


def error(status: int, type_: str, code: str | None = None, **more: Any) -> Script:
    """An error's answer."""
    said = {"message": "no", "type": type_} | ({} if code is None else {"code": code}) | more
    return answer(status, json.dumps({"error": said}).encode())


def ok(item: Json) -> Script:
    return answer(200, json.dumps(item).encode())


def order(kind: OperationKind = OperationKind.SALE, method: Method = Method.TOKEN, **changes: Any) -> PspOrder:
    """An order of 10.00 EUR; one about a charge is about the one above."""
    is_charge = kind in (OperationKind.SALE, OperationKind.AUTHORIZE)
    known = SESSION_ID if kind is OperationKind.CANCEL else INTENT_ID
    content: dict[str, Any] = {
        "operation_id": OPERATION if is_charge else LATER,
        "payment_id": "018bcfe5-6800-7000-8000-000000000003",
        "merchant_id": "018bcfe5-6800-7000-8000-000000000004",
        "psp": "stripe",
        "kind": kind,
        "money": Money(amount=1000, currency="EUR"),
        "method": method,
        "token": "pm_card_visa" if is_charge and method is Method.TOKEN else None,
        "return_url": "https://shop.example/back?o=1&p=ä" if is_charge and method is Method.HOSTED_PAGE else None,
        "description": "A lantern & co",
        "charge_id": None if is_charge else OPERATION,
        "charge_reference": None if is_charge else known,
    }
    return PspOrder(**content | changes)


SALE: Final = order()
PAGE: Final = order(method=Method.HOSTED_PAGE)
AUTHORIZATION: Final = order(OperationKind.AUTHORIZE)
CAPTURE: Final = order(OperationKind.CAPTURE)
VOID: Final = order(OperationKind.VOID)
CANCEL: Final = order(OperationKind.CANCEL, Method.HOSTED_PAGE)
REFUND: Final = order(OperationKind.REFUND, money=Money(amount=400, currency="EUR"))
