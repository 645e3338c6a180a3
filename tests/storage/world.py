"""Books in which every law holds, written by the rules of the domain."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from paynode.domain.ledger import NO_ENTRIES, Entry, Head, append
from paynode.domain.money import FeePlan, Money
from paynode.domain.postings import FEE_REVENUE, PENDING, BusinessFact, Posting, receivable
from paynode.domain.terms import Terms
from paynode.domain.wallet import Delta
from paynode.storage.postgres import Session
from tests.storage import rows

_TERMS = Terms(fees=FeePlan(fixed=0, basis_points=150))
_AMOUNT = 1000
_AT_MS = 1_772_366_400_123  # not a whole second: what is sealed has milliseconds


@dataclass
class Shop:
    """A merchant whose books are kept here as well, to go on from."""

    id: str
    head: Head = NO_ENTRIES
    captures: int = 0


async def open_shop(connection: Session) -> Shop:
    merchant = rows.merchant()
    await rows.insert(connection, "merchants", merchant)
    return Shop(id=str(merchant["id"]))


async def capture(connection: Session, shop: Shop, *, epoch: int = 1) -> str:
    """A captured payment, in one transaction; its id."""
    async with connection.transaction():
        payment, operation = await _payment(
            connection, shop, status="captured", state="approved", versions=2, captured=_AMOUNT
        )
        await rows.insert(connection, "evidence", rows.evidence(payment_id=payment, operation_id=operation))
        await _post(connection, shop, _fact(payment, operation), epoch)
    return payment


async def declined(connection: Session, shop: Shop) -> str:
    """A payment that the PSP declined; its id."""
    payment, operation = await _payment(connection, shop, status="declined", state="declined", versions=2)
    refusal = rows.evidence(
        payment_id=payment, operation_id=operation, outcome="declined", amount=None, currency=None, psp_reference=None
    )
    await rows.insert(connection, "evidence", refusal)
    return payment


async def processing(connection: Session, shop: Shop) -> str:
    """A payment of which nothing is known yet, with its command in the outbox; its id."""
    payment, operation = await _payment(connection, shop, status="processing", state="new", versions=1)
    command = rows.message(merchant_id=shop.id, payment_id=payment, operation_id=operation, type="psp.submit")
    await rows.insert(connection, "outbox", command)
    return payment


async def _payment(
    connection: Session, shop: Shop, *, status: str, state: str, versions: int, captured: int = 0
) -> tuple[str, str]:
    payment = rows.payment(
        merchant_id=shop.id, status=status, version=versions, amount_authorized=captured, amount_captured=captured
    )
    operation = rows.operation(payment_id=payment["id"], merchant_id=shop.id, state=state)
    await rows.insert(connection, "payments", payment)
    await rows.insert(connection, "operations", operation)
    for version in range(1, versions + 1):
        event = rows.event(payment_id=payment["id"], merchant_id=shop.id, version=version)
        await rows.insert(connection, "payment_events", event)
    return str(payment["id"]), str(operation["id"])


def _fact(payment: str, operation: str) -> BusinessFact:
    money, fee = Money(amount=_AMOUNT, currency="EUR"), _TERMS.split(_AMOUNT, has_fixed_fee=True).fee
    return BusinessFact(
        operation_id=operation,
        kind="capture",
        payment_id=payment,
        reference="ch_1",
        postings=(
            Posting(type="capture", debit=receivable("sim"), credit=PENDING, money=money),
            Posting(type="fee", debit=PENDING, credit=FEE_REVENUE, money=Money(amount=fee, currency="EUR")),
        ),
    )


async def _post(connection: Session, shop: Shop, fact: BusinessFact, epoch: int) -> None:
    entry_id, at_ms = rows.new_id(), _AT_MS + shop.captures
    head, entries = append(shop.head, fact, entry_id=entry_id, merchant_id=shop.id, at_ms=at_ms, epoch=epoch)
    for entry in entries:
        await rows.insert(connection, "ledger_entries", _row(entry))
    delta = Delta.of(fact.postings)
    adjustment = rows.adjustment(
        id=entry_id,
        operation_id=fact.operation_id,
        payment_id=fact.payment_id,
        merchant_id=shop.id,
        delta=delta.total,
        d_pending=delta.pending,
    )
    await rows.insert(connection, "wallet_adjustments", adjustment)
    await connection.execute(
        """INSERT INTO wallets VALUES ($1, 'EUR', $2, 0, 0, 0, DEFAULT, 1)
        ON CONFLICT (merchant_id, currency) DO UPDATE
        SET pending = wallets.pending + excluded.pending, version = wallets.version + 1""",
        shop.id,
        delta.pending,
    )
    await connection.execute(
        """INSERT INTO ledger_heads VALUES ($1, $2, $3)
        ON CONFLICT (merchant_id) DO UPDATE SET seq = excluded.seq, hash = excluded.hash""",
        shop.id,
        head.seq,
        head.hash,
    )
    shop.head, shop.captures = head, shop.captures + 1


def _row(entry: Entry) -> rows.Row:
    return {
        "id": entry.id,
        "line": entry.line,
        "merchant_id": entry.merchant_id,
        "seq": entry.seq,
        "payment_id": entry.payment_id,
        "operation_id": entry.operation_id,
        "type": entry.posting.type,
        "debit_account": entry.posting.debit,
        "credit_account": entry.posting.credit,
        "amount": entry.posting.money.amount,
        "currency": entry.posting.money.currency,
        "psp_reference": entry.reference,
        "at": datetime(1970, 1, 1, tzinfo=UTC) + timedelta(milliseconds=entry.at_ms),
        "epoch": entry.epoch,
        "prev_hash": entry.prev_hash,
        "hash": entry.hash,
    }
