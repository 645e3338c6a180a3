"""What is asked of Stripe, as the bytes of a form: the same for the same order, always."""

from __future__ import annotations

from typing import Final
from urllib.parse import quote, urlencode

from paynode.domain.payment import Method, OperationKind, PspOrder
from paynode.domain.psp import PspRequest
from paynode.psp.stripe_money import to_stripe

# The API as it was when this was written; a new one is a change of this adapter, with the tests that read its shapes.
API_VERSION: Final = "2026-02-25.clover"
CONTENT_TYPE: Final = "application/x-www-form-urlencoded"

INTENTS: Final = "/v1/payment_intents"
SESSIONS: Final = "/v1/checkout/sessions"
REFUNDS: Final = "/v1/refunds"

# By these our operations are known at Stripe. A capture has no object of its own there: it signs its PaymentIntent.
OPERATION: Final = "paynode_operation"
CAPTURE: Final = "paynode_capture"
KIND: Final = "paynode_kind"
METHOD: Final = "paynode_method"

# The page shows it where the shop gave no description; Stripe takes no empty name, nor one above 250 characters.
_UNNAMED: Final = "Payment"
_NAME_MAX: Final = 250


def prepared(order: PspOrder) -> PspRequest:
    """The request for an operation. No body is ever empty: it is by the body that a sending is seen to have begun."""
    path, form = _asked(order)
    return PspRequest(path=path, body=urlencode(form).encode("ascii"), idempotency_key=order.operation_id)


def about_intent(order: PspOrder) -> str:
    """Where the PaymentIntent stands that a later operation is about."""
    return f"{INTENTS}/{_charged(order)}"


def about_session(order: PspOrder) -> str:
    """Where the page stands that is to be closed."""
    return f"{SESSIONS}/{_charged(order)}"


def _charged(order: PspOrder) -> str:
    assert order.charge_reference is not None, "checked where the order is read"
    return quote(order.charge_reference, safe="")


def _asked(order: PspOrder) -> tuple[str, dict[str, str]]:
    match order.kind:
        case OperationKind.SALE | OperationKind.AUTHORIZE:
            return (INTENTS, _intent(order)) if order.method is Method.TOKEN else (SESSIONS, _session(order))
        case OperationKind.CAPTURE:
            amount = {"amount_to_capture": str(to_stripe(order.money))}
            return f"{about_intent(order)}/capture", amount | {f"metadata[{CAPTURE}]": order.operation_id}
        case OperationKind.VOID:
            return f"{about_intent(order)}/cancel", {"expand[0]": "latest_charge"}
        case OperationKind.REFUND:
            amount = {"amount": str(to_stripe(order.money)), "payment_intent": order.charge_reference or ""}
            return REFUNDS, amount | _marks("metadata", order)
        case OperationKind.CANCEL:
            return f"{about_session(order)}/expire", {"expand[0]": "line_items"}


def _intent(order: PspOrder) -> dict[str, str]:
    """A charge of a stored card, without its holder: a bank that wants to see him declines."""
    assert order.token is not None, "checked where the order is read"
    form = {
        "amount": str(to_stripe(order.money)),
        "currency": order.money.currency.lower(),
        "payment_method": order.token,
        "payment_method_types[0]": "card",
        "capture_method": _capture_method(order),
        "confirm": "true",
        "off_session": "true",
    }
    return form | _described(order) | _marks("metadata", order)


def _session(order: PspOrder) -> dict[str, str]:
    assert order.return_url is not None, "checked where the order is read"
    item = "line_items[0][price_data]"
    form = {
        "mode": "payment",
        "client_reference_id": order.operation_id,
        "success_url": order.return_url,
        "cancel_url": order.return_url,
        "payment_method_types[0]": "card",
        "line_items[0][quantity]": "1",
        f"{item}[currency]": order.money.currency.lower(),
        f"{item}[unit_amount]": str(to_stripe(order.money)),
        f"{item}[product_data][name]": order.description[:_NAME_MAX] or _UNNAMED,
        # Else Stripe may charge in the customer's own currency, and what was asked for is not what is paid.
        "adaptive_pricing[enabled]": "false",
        "payment_intent_data[capture_method]": _capture_method(order),
    }
    return form | _marks("metadata", order) | _marks("payment_intent_data[metadata]", order)


def _capture_method(order: PspOrder) -> str:
    return "manual" if order.kind is OperationKind.AUTHORIZE else "automatic"


def _described(order: PspOrder) -> dict[str, str]:
    return {"description": order.description} if order.description else {}


def _marks(field: str, order: PspOrder) -> dict[str, str]:
    marks = {OPERATION: order.operation_id, KIND: order.kind.value, METHOD: order.method.value}
    return {f"{field}[{name}]": value for name, value in marks.items()}
