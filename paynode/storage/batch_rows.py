"""A batch as rows: a document for the function that writes it, tuples for COPY."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Final, TypeAlias, TypeVar

import orjson

from paynode.domain.batch import Batch, HeadChange, WalletChange
from paynode.domain.booking import Adjustment, Scheduled
from paynode.domain.ledger import Entry
from paynode.domain.message import DeadLetter
from paynode.domain.payment import Fact, Payment
from paynode.domain.payouts import Payout, PayoutState
from paynode.domain.requesting import Request
from paynode.storage.bodies import encode_order

Change = TypeVar("Change")

_Rows: TypeAlias = list[dict[str, object]]

ENTRY_COLUMNS: Final = (
    "id", "line", "merchant_id", "seq", "payment_id", "operation_id", "type", "debit_account", "credit_account",
    "amount", "currency", "psp_reference", "at", "epoch", "prev_hash", "hash",
)  # fmt: skip
ADJUSTMENT_COLUMNS: Final = (
    "id", "operation_id", "kind", "part", "payment_id", "merchant_id", "currency", "delta", "d_pending",
    "d_available", "d_reserve", "d_held", "created_at",
)  # fmt: skip

VERDICT_COLUMNS: Final = (
    "event_id", "content_sha256", "content", "merchant_id", "publisher", "type", "result", "code",
)  # fmt: skip

# How a row tells its time, which is given in milliseconds since 1970.
Instant: TypeAlias = Callable[[int], object]

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
# PostgreSQL counts from 2000, in microseconds.
_EPOCH_OF_POSTGRES_MS: Final = 946_684_800_000


def document(batch: Batch, *, lease_s: float, has_ledger: bool) -> str:
    """What `write_batch` reads: a list of rows for each name, nothing for what is empty.

    `lease_s`: seconds for which the leases are renewed. Without `has_ledger` the ledger's lines, and what came from
    outside, are copied apart.
    """
    known, new = _parted(batch.wallets, lambda change: change.base_version)
    begun, first = _parted(batch.heads, lambda change: change.base_seq)
    lists: dict[str, Sequence[object]] = {
        "leases": [{"partition": lease.partition, "epoch": lease.epoch} for lease in batch.leases],
        "claims": batch.claims,
        "evidence": _evidence(batch),
        "payments": _payments(batch),
        "made": _made(batch),
        "operations": _operations(batch),
        "decided": _decided(batch),
        "entries": _named(ENTRY_COLUMNS, entries(batch, _instant)) if has_ledger else (),
        "adjustments": _named(ADJUSTMENT_COLUMNS, adjustments(batch, _instant)) if has_ledger else (),
        "wallets": _wallets(known),
        "new_wallets": _wallets(new),
        "heads": _heads(begun),
        "new_heads": _heads(first),
        "payouts": [_payout(one) for one in batch.payouts if one.state is PayoutState.CREATED],
        "ended_payouts": [_payout(one) for one in batch.payouts if one.state is not PayoutState.CREATED],
        "events": _events(batch),
        "commands": _commands(batch),
        "answered": batch.answered,
        "buried": _letters([letter for letter in batch.letters if letter.what.ref is not None]),
        "parked": batch.parked,
        "verdicts": _named(VERDICT_COLUMNS, verdicts(batch)) if has_ledger else (),
        "letters": _letters([letter for letter in batch.letters if letter.what.ref is None]),
    }
    content: dict[str, object] = {name: rows for name, rows in lists.items() if rows}
    return orjson.dumps(content | {"id": batch.id, "lease_s": lease_s}, default=bytes.hex).decode()


def _parted(changes: Sequence[Change], base: Callable[[Change], int]) -> tuple[list[Change], list[Change]]:
    """Changes of rows that are there, and first ones."""
    return [change for change in changes if base(change)], [change for change in changes if not base(change)]


def _named(columns: Sequence[str], rows: Sequence[tuple[object, ...]]) -> _Rows:
    return [dict(zip(columns, row, strict=True)) for row in rows]


def instant_of_copy(at_ms: int) -> tuple[int]:
    """A time as PostgreSQL has it: from a datetime it costs the client a microsecond, of the fifteen of a row."""
    return ((at_ms - _EPOCH_OF_POSTGRES_MS) * 1000,)


@lru_cache(maxsize=64)  # what is decided together has one time
def _instant(at_ms: int) -> datetime:
    # Integers all the way: `fromtimestamp(ms / 1000)` would go through a float.
    return _EPOCH + timedelta(milliseconds=at_ms)


def _evidence(batch: Batch) -> _Rows:
    return [
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
    ]


def _payments(batch: Batch) -> _Rows:
    return [
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
    ]


def _made(batch: Batch) -> _Rows:
    return [
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
    ]


def _operations(batch: Batch) -> _Rows:
    return [
        {
            "operation_id": operation.id,
            "state": operation.state,
            "psp": operation.psp,
            "psp_reference": operation.reference,
            "is_maturing": operation.is_maturing,
            "matures_at_ms": operation.matures_at_ms,
            "rest_pending": operation.rest_pending,
            "releases_at_ms": operation.releases_at_ms,
            "rest_reserve": operation.rest_reserve,
        }
        for change in batch.payments
        for operation in change.payment.operations
    ]


def _decided(batch: Batch) -> _Rows:
    return [{"id": one.request_id, "refusal": one.refusal} for one in batch.decided]


def entries(batch: Batch, instant: Instant) -> list[tuple[object, ...]]:
    """Rows of COPY ledger_entries."""
    return [_entry(entry, instant) for entry in batch.entries]


def _entry(entry: Entry, instant: Instant) -> tuple[object, ...]:
    posting = entry.posting
    return (
        entry.id, entry.line, entry.merchant_id, entry.seq, entry.payment_id, entry.operation_id, posting.type,
        posting.debit, posting.credit, posting.money.amount, posting.money.currency, entry.reference,
        instant(entry.at_ms), entry.epoch, entry.prev_hash, entry.hash,
    )  # fmt: skip


def adjustments(batch: Batch, instant: Instant) -> list[tuple[object, ...]]:
    """Rows of COPY wallet_adjustments."""
    return [_adjustment(one, instant) for one in batch.adjustments]


def _adjustment(one: Adjustment, instant: Instant) -> tuple[object, ...]:
    fact, delta = one.fact, one.delta
    return (
        one.id, fact.operation_id, fact.kind, fact.part, fact.payment_id, one.merchant_id, one.currency, delta.total,
        delta.pending, delta.available, delta.reserve, delta.held, instant(one.at_ms),
    )  # fmt: skip


def _wallets(changes: Sequence[WalletChange]) -> _Rows:
    return [
        {
            "merchant_id": change.merchant_id,
            "currency": change.wallet.currency,
            "pending": change.wallet.pending,
            "available": change.wallet.available,
            "reserve": change.wallet.reserve,
            "held": change.wallet.held,
            "maturing": change.wallet.maturing,
            "version": change.wallet.version,
            "base_version": change.base_version,
        }
        for change in changes
    ]


def _heads(changes: Sequence[HeadChange]) -> _Rows:
    return [
        {
            "merchant_id": change.merchant_id,
            "seq": change.head.seq,
            "hash": change.head.hash.hex(),
            "base_seq": change.base_seq,
        }
        for change in changes
    ]


def _payout(payout: Payout) -> dict[str, object]:
    return {
        "id": payout.id,
        "merchant_id": payout.merchant_id,
        "currency": payout.money.currency,
        "amount": payout.money.amount,
        "reference": payout.reference,
        "state": payout.state,
    }


def _commands(batch: Batch) -> _Rows:
    return [
        {
            "id": command.id,
            "stream": command.stream,
            "type": command.kind,
            "operation_id": command.operation_id,
            "psp": command.psp,
            "delay_ms": command.delay_ms,
        }
        for command in batch.commands
    ]


def _events(batch: Batch) -> _Rows:
    return [
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
    ]


def _told_by(payment: Payment, cause: Fact | Request | Scheduled) -> dict[str, object]:
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
        case Scheduled():
            operation = payment.operation(cause.operation_id)
            assert operation is not None, "it has matured"
            return {
                "operation_id": operation.id,
                "operation": operation.kind,
                "source": cause.source,
                "outcome": "available",
                "reason": "",
            }
        case Request():
            return {
                "operation_id": cause.id,
                "operation": cause.kind,
                "source": "request",
                "outcome": "accepted",
                "reason": cause.reason,
            }


def _letters(buried: Sequence[DeadLetter]) -> _Rows:
    return [
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
    ]


def verdicts(batch: Batch) -> list[tuple[object, ...]]:
    """Rows of COPY applied_events."""
    return [
        (
            one.event_id, one.content_sha256, one.content, one.merchant_id, one.publisher, one.type, one.result,
            one.code,
        )
        for one in batch.verdicts
    ]  # fmt: skip
