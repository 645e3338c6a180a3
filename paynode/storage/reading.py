"""What is shown to merchants and customers, read from PostgreSQL."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import asyncpg
import orjson

from paynode.domain.money import Money
from paynode.domain.payment import Method, OperationState, Status
from paynode.domain.reading import (
    LedgerLine,
    LedgerPage,
    OperationView,
    PaymentPage,
    PaymentView,
    RefundPage,
    TimelineEvent,
    WalletView,
)
from paynode.storage.postgres import Pool, borrowed
from paynode.storage.queries import load

_SQL: Final = load("reading")


class PgReading:
    """Reads as the reader's role, which sees no secret and no stored answer. All of it raises Unavailable."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def payment(self, merchant_id: str, payment_id: str) -> PaymentView | None:
        """A payment of this merchant."""
        rows = await self._fetch("read_payment", payment_id, merchant_id)
        return _payment(rows[0]) if rows else None

    async def payments_by_id(self, ids: Sequence[str]) -> Sequence[PaymentView]:
        """Those of the payments that exist, whoever's they are, in no order."""
        return [_payment(row) for row in await self._fetch("read_payments_by_id", list(ids))]

    async def payments(self, page: PaymentPage) -> Sequence[PaymentView]:
        """One page, newest first."""
        arguments: list[object] = [page.merchant_id, page.before, page.limit]
        if page.order_id is not None:
            rows = await self._fetch("list_order_payments", *arguments, page.order_id, page.status)
        elif page.status is not None:
            rows = await self._fetch("list_status_payments", *arguments, page.status)
        else:
            rows = await self._fetch("list_payments", *arguments)
        return [_payment(row) for row in rows]

    async def events(self, payment_id: str, *, after_version: int, limit: int) -> Sequence[TimelineEvent]:
        """A part of a payment's timeline, oldest first."""
        return [_event(row) for row in await self._fetch("list_events", payment_id, after_version, limit)]

    async def operations_by_id(self, ids: Sequence[str]) -> Sequence[OperationView]:
        """What was asked about payments, or done by a rule of ours: those that exist, whoever's, in no order."""
        return [_operation(row) for row in await self._fetch("read_operations_by_id", list(ids))]

    async def refunds(self, page: RefundPage) -> Sequence[OperationView]:
        """One page of a payment's refunds, newest first."""
        rows = await self._fetch("list_refunds", page.payment_id, page.merchant_id, page.before, page.limit)
        return [_operation(row) for row in rows]

    async def wallets(self, merchant_id: str) -> Sequence[WalletView]:
        """All wallets of a merchant, by currency."""
        return [WalletView(**dict(row)) for row in await self._fetch("list_wallets", merchant_id)]

    async def ledger(self, page: LedgerPage) -> Sequence[LedgerLine]:
        """One page of a merchant's postings, newest first."""
        arguments: list[object] = [page.merchant_id, page.before_seq, page.since, page.until, page.limit]
        if page.payment_id is None:
            return [_line(row) for row in await self._fetch("list_ledger", *arguments)]
        return [_line(row) for row in await self._fetch("list_payment_ledger", *arguments, page.payment_id)]

    async def _fetch(self, statement: str, *arguments: object) -> list[asyncpg.Record]:
        async with borrowed(self._pool) as connection:
            return await connection.fetch(_SQL[statement], *arguments)


def _payment(row: asyncpg.Record) -> PaymentView:
    method = orjson.loads(row["method"])
    return PaymentView(
        id=row["id"],
        merchant_id=row["merchant_id"],
        order_id=row["order_id"],
        status=Status(row["status"]),
        money=Money(amount=row["amount"], currency=row["currency"]),
        amount_authorized=row["amount_authorized"],
        amount_captured=row["amount_captured"],
        amount_refunded=row["amount_refunded"],
        refund_status=row["refund_status"],
        capture=row["capture"],
        method=Method(method["type"]),
        return_url=method.get("return_url"),
        page_url=row["page_url"],
        psp=row["psp"],
        psp_reference=row["psp_reference"],
        fraud_check=row["fraud_check"],
        metadata=orjson.loads(row["metadata"]),
        version=row["version"],
        created_at=row["created_at"],
        updated_at=row["updated_at"],
    )


def _operation(row: asyncpg.Record) -> OperationView:
    return OperationView(
        id=row["operation_id"],
        kind=row["kind"],
        payment=_payment(row),
        amount=row["operation_amount"],
        is_final_capture=row["is_final"],
        reason=row["reason"],
        is_decided=row["is_decided"],
        state=None if row["state"] is None else OperationState(row["state"]),
        refusal=row["refusal"],
        psp_reference=row["operation_reference"],
        failure_reason=row["failure_reason"],
        created_at=row["asked_at"],
        updated_at=row["concluded_at"],
    )


def _event(row: asyncpg.Record) -> TimelineEvent:
    return TimelineEvent(
        id=row["id"],
        payment_id=row["payment_id"],
        version=row["version"],
        type=row["type"],
        data=row["data"],
        at=row["at"],
    )


def _line(row: asyncpg.Record) -> LedgerLine:
    return LedgerLine(
        id=row["id"],
        line=row["line"],
        seq=row["seq"],
        payment_id=row["payment_id"],
        type=row["type"],
        debit_account=row["debit_account"],
        credit_account=row["credit_account"],
        money=Money(amount=row["amount"], currency=row["currency"]),
        psp_reference=row["psp_reference"],
        at=row["at"],
        prev_hash=row["prev_hash"],
        hash=row["hash"],
    )
