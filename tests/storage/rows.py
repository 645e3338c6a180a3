"""Rows that every CHECK accepts, to be changed in one place by a test."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta

from uuid_utils import uuid7

from paynode.storage.postgres import Connection

Row = Mapping[str, object]

INSTANT = datetime(2026, 3, 1, 12, tzinfo=UTC)


def new_id() -> str:
    return str(uuid7())


async def insert(connection: Connection, table: str, row: Row) -> None:
    columns = ", ".join(row)
    places = ", ".join(f"${number}" for number in range(1, len(row) + 1))
    await connection.execute(f"INSERT INTO {table} ({columns}) VALUES ({places})", *row.values())


def merchant(**changes: object) -> Row:
    return {"id": new_id(), "name": "Ada", "fee_fixed": 0, "fee_basis_points": 150, "psps": ["sim"], **changes}


def terms(**changes: object) -> Row:
    return {
        "id": new_id(),
        "merchant_id": new_id(),
        "effective_from": datetime.now(UTC) + timedelta(days=1),
        "fee_fixed": 0,
        "fee_basis_points": 150,
        "reserve_basis_points": 0,
        "reserve_days": 0,
        "availability": "date",
        "available_days": 2,
        **changes,
    }


def payout(**changes: object) -> Row:
    return {
        "id": new_id(),
        "merchant_id": new_id(),
        "currency": "EUR",
        "amount": 1000,
        "reference": "payout-1",
        "state": "created",
        **changes,
    }


def payment(**changes: object) -> Row:
    return {
        "id": new_id(),
        "merchant_id": new_id(),
        "idempotency_key": new_id(),
        "order_id": "order-1",
        "amount": 1000,
        "currency": "EUR",
        "capture": "automatic",
        "method": '{"type": "token", "token": "tok_approve"}',
        "metadata": "{}",
        "status": "processing",
        "psp": "sim",
        **changes,
    }


def operation(**changes: object) -> Row:
    return {
        "id": new_id(),
        "payment_id": new_id(),
        "merchant_id": new_id(),
        "kind": "sale",
        "amount": 1000,
        "currency": "EUR",
        "psp": "sim",
        "request": "{}",
        "state": "new",
        **changes,
    }


def evidence(**changes: object) -> Row:
    return {
        "id": new_id(),
        "payment_id": new_id(),
        "operation_id": new_id(),
        "outcome": "approved",
        "source": "answer",
        "psp_reference": "ch_1",
        "amount": 1000,
        "currency": "EUR",
        "reason": "",
        **changes,
    }


def event(**changes: object) -> Row:
    return {
        "id": new_id(),
        "payment_id": new_id(),
        "merchant_id": new_id(),
        "version": 1,
        "type": "payment.processing",
        "data": "{}",
        **changes,
    }


def message(**changes: object) -> Row:
    return {
        "id": new_id(),
        "stream": "paynode:{p00}:events",
        "type": "evidence",
        "merchant_id": new_id(),
        "payment_id": new_id(),
        "operation_id": new_id(),
        "body": "{}",
        **changes,
    }


def ledger_entry(**changes: object) -> Row:
    return {
        "id": new_id(),
        "line": 1,
        "merchant_id": new_id(),
        "seq": 1,
        "payment_id": new_id(),
        "operation_id": new_id(),
        "type": "capture",
        "debit_account": "psp:sim:receivable",
        "credit_account": "merchant:pending",
        "amount": 1000,
        "currency": "EUR",
        "psp_reference": "ch_1",
        "at": INSTANT,
        "epoch": 1,
        "prev_hash": bytes(32),
        "hash": bytes(32),
        **changes,
    }


def head(**changes: object) -> Row:
    return {"merchant_id": new_id(), "seq": 1, "hash": bytes(32), **changes}


def wallet(**changes: object) -> Row:
    return {
        "merchant_id": new_id(),
        "currency": "EUR",
        "pending": 1000,
        "available": 0,
        "reserve": 0,
        "held": 0,
        "version": 1,
        **changes,
    }


def adjustment(**changes: object) -> Row:
    return {
        "id": new_id(),
        "operation_id": new_id(),
        "kind": "capture",
        "part": 0,
        "payment_id": new_id(),
        "merchant_id": new_id(),
        "currency": "EUR",
        "delta": 1000,
        "d_pending": 1000,
        "d_available": 0,
        "d_reserve": 0,
        "d_held": 0,
        "created_at": INSTANT,
        **changes,
    }
