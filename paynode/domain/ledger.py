"""The ledger of a merchant: entries without a gap, each sealed with the hash of the one before.

An entry's hash is sha256(previous hash, canonical bytes). The canonical bytes are its fields as UTF-8 text, joined
by `|` in the order of `canonical`; the PSP's reference, the one field whose characters are not ours to choose,
stands last, so that no two entries have the same bytes.
"""

from __future__ import annotations

from hashlib import sha256
from typing import Final

from paynode.domain.postings import BusinessFact, Posting
from paynode.domain.record import record

GENESIS: Final = bytes(32)


@record
class Head:
    """The last entry of a merchant's ledger: its number and hash; (0, 32 zero bytes) before the first."""

    seq: int = 0
    hash: bytes = GENESIS


NO_ENTRIES: Final = Head()


@record
class Entry:
    """One row: a posting with its place in the chain. `at_ms` in milliseconds since 1970, UTC."""

    id: str
    line: int
    merchant_id: str
    seq: int
    payment_id: str | None
    operation_id: str
    posting: Posting
    reference: str
    at_ms: int
    epoch: int
    prev_hash: bytes
    hash: bytes


def canonical(
    *,
    entry_id: str,
    line: int,
    merchant_id: str,
    seq: int,
    payment_id: str,
    operation_id: str,
    type: str,  # noqa: A002 - the column's name
    debit: str,
    credit: str,
    amount: int,
    currency: str,
    at_ms: int,
    reference: str,
) -> bytes:
    """The bytes that are sealed; `payment_id` is empty for a wallet movement.

    The epoch is not among them: it says who wrote, not what happened.

    Plain fields and no `Posting`: whoever verifies must be able to seal a row that no legal posting could be.
    """
    return (
        f"{entry_id}|{line}|{merchant_id}|{seq}|{payment_id}|{operation_id}|{type}"
        f"|{debit}|{credit}|{amount}|{currency}|{at_ms}"
        f"|{reference}"
    ).encode()


def seal(previous: bytes, content: bytes) -> bytes:
    """The hash of an entry with these canonical bytes that follows the entry with the hash `previous`."""
    return sha256(previous + content).digest()


def append(
    head: Head, fact: BusinessFact, *, entry_id: str, merchant_id: str, at_ms: int, epoch: int
) -> tuple[Head, tuple[Entry, ...]]:
    """The entries of one business fact after `head`, and the new head."""
    entries = []
    for line, posting in enumerate(fact.postings, start=1):
        seq = head.seq + 1
        content = canonical(
            entry_id=entry_id,
            line=line,
            merchant_id=merchant_id,
            seq=seq,
            payment_id=fact.payment_id or "",
            operation_id=fact.operation_id,
            type=posting.type,
            debit=posting.debit,
            credit=posting.credit,
            amount=posting.money.amount,
            currency=posting.money.currency,
            at_ms=at_ms,
            reference=fact.reference,
        )
        entry = Entry(
            id=entry_id,
            line=line,
            merchant_id=merchant_id,
            seq=seq,
            payment_id=fact.payment_id,
            operation_id=fact.operation_id,
            posting=posting,
            reference=fact.reference,
            at_ms=at_ms,
            epoch=epoch,
            prev_hash=head.hash,
            hash=seal(head.hash, content),
        )
        entries.append(entry)
        head = Head(seq=seq, hash=entry.hash)
    return head, tuple(entries)
