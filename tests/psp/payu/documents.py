"""What PayU's documentation shows: answers and notifications, with the fields that are read and those that are not."""

from __future__ import annotations

import hashlib
import json
from typing import Any

POS_ID = "300746"
CLIENT_SECRET = "2ee86a66e5d97e3fadc400c9f19b065d"
SECOND_KEY = "b6ca15b0d1020e8094d9b5f8d163db54"

ORDER_ID = "WZHF5FFDRJ140731GUEST000P01"
REFUND_ID = "5000000087"
OURS = "0198a000-0000-7000-8000-000000000001"
OUR_REFUND = "0198a000-0000-7000-8000-000000000002"

TOKEN: dict[str, Any] = {
    "access_token": "3e5cac39-7e38-4139-8fd6-30adc06a61bd",
    "token_type": "bearer",
    "expires_in": 43199,
    "grant_type": "client_credentials",
}

CREATED: dict[str, Any] = {
    "status": {"statusCode": "SUCCESS"},
    "redirectUri": f"https://merch-prod.snd.payu.com/pay/?orderId={ORDER_ID}&token=eyJhbGciOiJIUzI1NiJ9",
    "orderId": ORDER_ID,
    "extOrderId": OURS,
}

# As a merchant reported it: https://github.com/PayU-EMEA/openpayu_php/issues/28
NOT_UNIQUE: dict[str, Any] = {
    "orderId": ORDER_ID,
    "extOrderId": OURS,
    "status": {
        "statusCode": "ERROR_ORDER_NOT_UNIQUE",
        "code": "110",
        "codeLiteral": "ORDER_NOT_UNIQUE",
        "statusDesc": "Order with given extOrderId already exists",
    },
}

UPDATED: dict[str, Any] = {"status": {"statusCode": "SUCCESS", "statusDesc": "Status was updated"}}

CANCELED: dict[str, Any] = {
    "orderId": ORDER_ID,
    "extOrderId": OURS,
    "status": {"statusCode": "SUCCESS", "statusDesc": "Request processing successful"},
}

NO_BALANCE: dict[str, Any] = {
    "status": {
        "statusCode": "OPENPAYU_BUSINESS_ERROR",
        "severity": "ERROR",
        "code": "9102",
        "codeLiteral": "NO_BALANCE",
        "statusDesc": "Lack of funds in account",
    }
}


def refused(code: str, literal: str | None = None) -> dict[str, Any]:
    """A refusal."""
    status = {"statusCode": code, "statusDesc": "one or more values are wrong"}
    return {"status": status | ({"codeLiteral": literal} if literal else {})}


def order(status: str, **changes: Any) -> dict[str, Any]:
    """An order as an inquiry shows it, and a notification."""
    content: dict[str, Any] = {
        "orderId": ORDER_ID,
        "extOrderId": OURS,
        "orderCreateDate": "2026-11-23T12:00:00.000+01:00",
        "notifyUrl": "https://pay.example/v1/psp/payu/webhook",
        "customerIp": "127.0.0.1",
        "merchantPosId": POS_ID,
        "validityTime": "900",
        "description": "A lantern",
        "currencyCode": "PLN",
        "totalAmount": "2490",
        "status": status,
        "buyer": {"customerId": "guest", "email": "john.doe@example.com", "language": "pl"},
        "payMethod": {"amount": "2490", "type": "PBL"},
        "products": [{"name": "A lantern", "unitPrice": "2490", "quantity": "1"}],
    }
    return content | changes


def orders(status: str, **changes: Any) -> dict[str, Any]:
    """The answer to an inquiry."""
    return {
        "orders": [order(status, **changes)],
        "status": {"statusCode": "SUCCESS", "statusDesc": "Request processing successful"},
        "properties": [{"name": "PAYMENT_ID", "value": "1234567890"}],
    }


def refund(status: str, **changes: Any) -> dict[str, Any]:
    """A refund as an answer or a list shows it."""
    content: dict[str, Any] = {
        "refundId": REFUND_ID,
        "extRefundId": OUR_REFUND,
        "amount": "1000",
        "currencyCode": "PLN",
        "description": "Refund",
        "creationDateTime": "2026-11-23T12:10:00.000+01:00",
        "status": status,
        "statusDateTime": "2026-11-23T12:10:01.000+01:00",
    }
    return content | changes


def refunded(status: str, **changes: Any) -> dict[str, Any]:
    """The answer to a request for a refund."""
    return {
        "orderId": ORDER_ID,
        "refund": refund(status, **changes),
        "status": {"statusCode": "SUCCESS", "statusDesc": "Refund queued for processing"},
    }


def order_notice(status: str, **changes: Any) -> bytes:
    """A notification about an order."""
    return json.dumps(
        {
            "order": order(status, **changes),
            "localReceiptDateTime": "2026-11-23T12:05:00.000+01:00",
            "properties": [{"name": "PAYMENT_ID", "value": "151471228"}],
        }
    ).encode()


def refund_notice(status: str, **changes: Any) -> bytes:
    """A notification about a refund."""
    about = {
        "refundId": REFUND_ID,
        "extRefundId": OUR_REFUND,
        "amount": "1000",
        "currencyCode": "PLN",
        "status": status,
        "statusDateTime": "2026-11-23T12:20:00.000+01:00",
        "reason": "refund",
        "reasonDescription": "on the customer's wish",
        "refundDate": "2026-11-23T12:20:00.000+01:00",
    }
    return json.dumps({"orderId": ORDER_ID, "extOrderId": OURS, "refund": about | changes}).encode()


def signature(raw: bytes, *, algorithm: str = "MD5", key: str = SECOND_KEY) -> str:
    """The value of OpenPayu-Signature."""
    hashed = hashlib.md5 if algorithm == "MD5" else hashlib.sha256
    digest = hashed(raw + key.encode()).hexdigest()
    return f"sender=checkout;signature={digest};algorithm={algorithm};content=DOCUMENT"
