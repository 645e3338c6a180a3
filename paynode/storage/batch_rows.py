"""A batch as rows: JSON for the statements that change, tuples for COPY."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Final

import orjson

from paynode.domain.batch import Batch, HeadChange, WalletChange
from paynode.domain.booking import Adjustment
from paynode.domain.ledger import Entry
from paynode.domain.message import DeadLetter
from paynode.domain.payment import Fact, Payment
from paynode.domain.requesting import Request
from paynode.storage.bodies import encode_order

ENTRY_COLUMNS: Final = (
    "id", "line", "merchant_id", "seq", "payment_id", "operation_id", "type", "debit_account", "credit_account",
    "amount", "currency", "psp_reference", "at", "epoch", "prev_hash", "hash",
)  # fmt: skip
ADJUSTMENT_COLUMNS: Final = (
    "id", "operation_id", "kind", "part", "payment_id", "merchant_id", "currency", "delta", "d_pending",
    "d_available", "d_reserve", "d_held", "created_at",
)  # fmt: skip

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


def _json(rows: Iterable[dict[str, object]]) -> str:
    return orjson.dumps(list(rows)).decode()


def _instant(at_ms: int) -> datetime:
    # Integers all the way: `fromtimestamp(ms / 1000)` would go through a float.
    return _EPOCH + timedelta(milliseconds=at_ms)


def evidence(batch: Batch) -> str:
    """Rows of `insert_evidence`."""
    return _json(
        {
            "id": fact.event_id,
            "payment_id": fact.payment_id,
            "operation_id": fact.operation_id,
            "outcome": fact.outcome,
            "source": fact.source,
            "psp_reference": fact.reference,
            "amount": fact.amount,
            "currency": fact.currency,
            "page_url": fact.page_url,
            "reason": fact.reason,
            "psp_at_ms": fact.psp_at_ms,
            "fraud_check": fact.fraud_check,
            "psp": fact.psp,
        }
        for fact in batch.facts
    )


def payments(batch: Batch) -> str:
    """Rows of `update_payments`."""
    return _json(
        {
            "id": change.payment.id,
            "base_version": change.base_version,
            "version": change.payment.version,
            "status": change.payment.status,
            "psp": change.payment.charge.psp,
            "authorized": change.payment.amounts.authorized,
            "capturing": change.payment.amounts.capturing,
            "captured": change.payment.amounts.captured,
            "voiding": change.payment.amounts.voiding,
            "voided": change.payment.amounts.voided,
            "refunding": change.payment.amounts.refunding,
            "refunded": change.payment.amounts.refunded,
            "refund_status": change.payment.amounts.refund_status,
            "fraud_check": change.payment.fraud_check,
            "psp_reference": change.payment.psp_reference,
            "page_url": change.payment.page_url,
            "review_reason": change.payment.review_reason,
            "keeps_order_slot": change.payment.keeps_order_slot,
        }
        for change in batch.payments
    )


def made(batch: Batch) -> str:
    """Rows of `insert_operations`; what became of them in the same batch is told by `update_operations`."""
    return _json(
        {
            "id": one.operation.id,
            "payment_id": one.order.payment_id,
            "merchant_id": one.order.merchant_id,
            "kind": one.operation.kind,
            "amount": one.operation.money.amount,
            "currency": one.operation.money.currency,
            "psp": one.operation.psp,
            "request": encode_order(one.order),
            "is_final": one.operation.is_final,
            "origin": one.operation.origin,
            "hold_available": one.operation.hold_available,
            "hold_pending": one.operation.hold_pending,
            "reason": one.operation.reason,
            "target": one.operation.target,
        }
        for one in batch.made
    )


def operations(batch: Batch) -> str:
    """Rows of `update_operations`."""
    return _json(
        {
            "operation_id": operation.id,
            "state": operation.state,
            "psp": operation.psp,
            "psp_reference": operation.reference,
        }
        for change in batch.payments
        for operation in change.payment.operations
    )


def decided(batch: Batch) -> str:
    """Rows of `decide_requests`."""
    return _json({"id": one.request_id, "refusal": one.refusal} for one in batch.decided)


def entries(batch: Batch) -> list[tuple[object, ...]]:
    """Rows of COPY ledger_entries."""
    return [_entry(entry) for entry in batch.entries]


def _entry(entry: Entry) -> tuple[object, ...]:
    posting = entry.posting
    return (
        entry.id, entry.line, entry.merchant_id, entry.seq, entry.payment_id, entry.operation_id, posting.type,
        posting.debit, posting.credit, posting.money.amount, posting.money.currency, entry.reference,
        _instant(entry.at_ms), entry.epoch, entry.prev_hash, entry.hash,
    )  # fmt: skip


def adjustments(batch: Batch) -> list[tuple[object, ...]]:
    """Rows of COPY wallet_adjustments."""
    return [_adjustment(one) for one in batch.adjustments]


def _adjustment(one: Adjustment) -> tuple[object, ...]:
    fact, delta = one.fact, one.delta
    return (
        one.id, fact.operation_id, fact.kind, fact.part, fact.payment_id, one.merchant_id, one.currency, delta.total,
        delta.pending, delta.available, delta.reserve, delta.held, _instant(one.at_ms),
    )  # fmt: skip


def wallets(changes: Sequence[WalletChange]) -> str:
    """Rows of `update_wallets` and `insert_wallets`."""
    return _json(
        {
            "merchant_id": change.merchant_id,
            "currency": change.wallet.currency,
            "pending": change.wallet.pending,
            "available": change.wallet.available,
            "reserve": change.wallet.reserve,
            "held": change.wallet.held,
            "version": change.wallet.version,
            "base_version": change.base_version,
        }
        for change in changes
    )


def heads(changes: Sequence[HeadChange]) -> str:
    """Rows of `update_heads` and `insert_heads`."""
    return _json(
        {
            "merchant_id": change.merchant_id,
            "seq": change.head.seq,
            "hash": change.head.hash.hex(),
            "base_seq": change.base_seq,
        }
        for change in changes
    )


def commands(batch: Batch) -> str:
    """Rows of `insert_commands`."""
    return _json(
        {
            "id": command.id,
            "stream": command.stream,
            "type": command.kind,
            "operation_id": command.operation_id,
            "psp": command.psp,
            "delay_ms": command.delay_ms,
        }
        for command in batch.commands
    )


def events(batch: Batch) -> str:
    """Rows of `insert_events`: what a reader of the timeline wants to know without asking again."""
    return _json(
        {
            "id": event.id,
            "payment_id": event.payment.id,
            "merchant_id": event.payment.merchant_id,
            "version": event.payment.version,
            "type": event.type,
            "data": {
                "status": event.payment.status,
                "amount_authorized": event.payment.amounts.authorized,
                "amount_captured": event.payment.amounts.captured,
                "amount_refunded": event.payment.amounts.refunded,
                "refund_status": event.payment.amounts.refund_status,
                "review_reason": event.payment.review_reason,
            }
            | _told_by(event.payment, event.cause),
        }
        for event in batch.events
    )


def _told_by(payment: Payment, cause: Fact | Request) -> dict[str, object]:
    """Who changed it and how."""
    match cause:
        case Fact():
            operation = payment.operation(cause.operation_id)
            assert operation is not None, "it was folded"
            return {
                "operation_id": operation.id,
                "operation": operation.kind,
                "source": cause.source,
                "outcome": cause.outcome,
                "reason": cause.reason,
            }
        case Request():
            return {
                "operation_id": cause.id,
                "operation": cause.kind,
                "source": "request",
                "outcome": "accepted",
                "reason": cause.reason,
            }


def letters(buried: Sequence[DeadLetter]) -> str:
    """Rows of `insert_letters` and `bury_rows`."""
    return _json(
        {
            "id": letter.id,
            "ref": letter.what.ref,
            "stream": letter.stream,
            "entry_id": letter.entry_id,
            "event_id": letter.what.event_id,
            "type": letter.what.type,
            "merchant_id": letter.what.merchant_id,
            "payment_id": letter.what.payment_id,
            "reason": letter.what.reason,
            "error": letter.what.detail,
            "attempts": letter.attempts,
            "first_failed_at_ms": letter.first_failed_at_ms,
            "fields": dict(letter.what.fields),
        }
        for letter in buried
    )


def verdicts(batch: Batch) -> str:
    """Rows of `insert_verdicts`."""
    return _json(
        {
            "event_id": verdict.event_id,
            "content_sha256": verdict.content_sha256.hex(),
            "content": verdict.content,
            "merchant_id": verdict.merchant_id,
            "publisher": verdict.publisher,
            "type": verdict.type,
            "result": verdict.result,
            "code": verdict.code,
        }
        for verdict in batch.verdicts
    )
