"""The one place where domain objects become the JSON that merchants see."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Final

import orjson
from aiohttp import web

from paynode.domain import ids
from paynode.domain.payment import Method, OperationKind, OperationState, Status
from paynode.domain.reading import LedgerLine, OperationView, PaymentView, TimelineEvent, WalletView

JsonObject = dict[str, object]

# Merchants see fewer words than we have states: a PSP that says no, and one that nobody reached in time, are a failure.
_OPERATION_STATUS: Final = {
    OperationState.NEW: "pending",
    OperationState.PENDING: "pending",
    OperationState.UNKNOWN: "unknown",
    OperationState.REVIEW: "review",
    OperationState.APPROVED: "succeeded",
    OperationState.DECLINED: "failed",
    OperationState.EXPIRED: "failed",
    OperationState.FAILED: "failed",
    OperationState.REVERSED: "reversed",
}


def instant(at: datetime) -> str:
    """RFC 3339 in UTC with milliseconds."""
    return at.astimezone(UTC).isoformat(timespec="milliseconds").removesuffix("+00:00") + "Z"


def path_of(payment_id: str) -> str:
    """Where a payment is."""
    return f"/v1/payments/{ids.public(ids.PAYMENT, payment_id)}"


def operation_path(view: OperationView) -> str:
    """Where an operation on a payment is."""
    if view.kind == OperationKind.REFUND:
        return f"{path_of(view.payment.id)}/refunds/{ids.public(ids.REFUND, view.id)}"
    return f"{path_of(view.payment.id)}/operations/{ids.public(ids.OPERATION, view.id)}"


def checkout_path(payment_id: str) -> str:
    """Where the shop sends the customer."""
    return f"/checkout/{ids.public(ids.PAYMENT, payment_id)}"


def etag(view: PaymentView) -> str:
    """Strong: the version of the row is the version of its JSON."""
    return f'"{view.version}"'


def payment(view: PaymentView, base_url: str) -> JsonObject:
    """A payment; every member is always there."""
    checkout_url = base_url + checkout_path(view.id) if view.method is Method.HOSTED_PAGE else None
    needs_customer = view.status is Status.REQUIRES_ACTION and checkout_url is not None
    return {
        "id": ids.public(ids.PAYMENT, view.id),
        "object": "payment",
        "merchant_id": ids.public(ids.MERCHANT, view.merchant_id),
        "order_id": view.order_id,
        "status": view.status,
        "amount": view.money.amount,
        "currency": view.money.currency,
        "amount_authorized": view.amount_authorized,
        "amount_captured": view.amount_captured,
        "amount_refunded": view.amount_refunded,
        "refund_status": view.refund_status,
        "capture": view.capture,
        "checkout_url": checkout_url,
        "next_action": {"type": "redirect", "url": checkout_url} if needs_customer else None,
        "psp": view.psp,
        "psp_reference": view.psp_reference,
        "fraud_check": view.fraud_check,
        "metadata": dict(view.metadata),
        "version": view.version,
        "created_at": instant(view.created_at),
        "updated_at": instant(view.updated_at),
    }


def refund(view: OperationView) -> JsonObject:
    """A refund; `amount` is null while nobody has decided how much "the rest" is."""
    return {
        "id": ids.public(ids.REFUND, view.id),
        "object": "refund",
        "payment_id": ids.public(ids.PAYMENT, view.payment.id),
        "status": _operation_status(view),
        "amount": view.amount,
        "currency": view.payment.money.currency,
        "reason": view.reason or None,
        "failure_reason": _failure_reason(view),
        "psp_reference": view.psp_reference,
        "created_at": instant(view.created_at),
        "updated_at": instant(view.updated_at),
    }


def operation(view: OperationView) -> JsonObject:
    """A capture, void or cancel."""
    return {
        "id": ids.public(ids.OPERATION, view.id),
        "object": "operation",
        "kind": view.kind,
        "payment_id": ids.public(ids.PAYMENT, view.payment.id),
        "status": _operation_status(view),
        "amount": view.amount,
        "currency": view.payment.money.currency,
        "final": view.is_final_capture,
        "failure_reason": _failure_reason(view),
        "psp_reference": view.psp_reference,
        "created_at": instant(view.created_at),
        "updated_at": instant(view.updated_at),
    }


def payment_after(view: OperationView, base_url: str) -> JsonObject:
    """The payment as it is, with what was asked about it: a capture that the PSP declined does not show otherwise."""
    return payment(view.payment, base_url) | {"operation": operation(view)}


def _operation_status(view: OperationView) -> str:
    if view.refusal is not None:
        return "failed"
    return "pending" if view.state is None else _OPERATION_STATUS[view.state]


def _failure_reason(view: OperationView) -> str | None:
    if view.refusal is not None:
        return view.refusal
    if _operation_status(view) not in ("failed", "reversed"):
        return None  # an earlier answer said no, and a later one knew better
    return view.failure_reason or None


def event(entry: TimelineEvent) -> JsonObject:
    """One step of a payment's timeline."""
    return {
        "id": ids.public(ids.EVENT, entry.id),
        "object": "event",
        "type": entry.type,
        "payment_id": ids.public(ids.PAYMENT, entry.payment_id),
        "version": entry.version,
        "data": orjson.Fragment(entry.data),
        "created_at": instant(entry.at),
    }


def wallet(entry: WalletView) -> JsonObject:
    """A wallet in one currency."""
    return {
        "object": "wallet",
        "currency": entry.currency,
        "balance": entry.balance,
        "pending": entry.pending,
        "available": entry.available,
        "reserve": entry.reserve,
        "held": entry.held,
    }


def ledger_line(entry: LedgerLine) -> JsonObject:
    """One posting; its id is that of the business fact, whose postings are numbered by `line`."""
    return {
        "id": ids.public("led", entry.id),
        "object": "ledger_entry",
        "line": entry.line,
        "seq": entry.seq,
        "payment_id": None if entry.payment_id is None else ids.public(ids.PAYMENT, entry.payment_id),
        "type": entry.type,
        "debit_account": entry.debit_account,
        "credit_account": entry.credit_account,
        "amount": entry.money.amount,
        "currency": entry.money.currency,
        "psp_reference": entry.psp_reference,
        "at": instant(entry.at),
        "prev_hash": entry.prev_hash.hex(),
        "hash": entry.hash.hex(),
    }


def page(data: Sequence[JsonObject], next_cursor: str | None) -> JsonObject:
    """One page of a list."""
    return {"data": data, "has_more": next_cursor is not None, "next_cursor": next_cursor}


def encode(content: JsonObject) -> bytes:
    """The bytes of it."""
    return orjson.dumps(content)


def shown(content: JsonObject, headers: Mapping[str, str] | None = None) -> web.Response:
    """A 200 that shows it."""
    return web.Response(body=encode(content), headers={"Content-Type": "application/json", **(headers or {})})
