"""The chain: gapless, verifiable by anybody, and broken by any change of anything that is sealed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import fields, replace
from hashlib import sha256

import pytest

from paynode.domain.ledger import GENESIS, NO_ENTRIES, Entry, Head, append, canonical, seal
from paynode.domain.money import Money
from paynode.domain.postings import BusinessFact
from tests.domain.evidence import ALPHABET
from tests.domain.making import MERCHANT, OPERATION, PAYMENT, History, charge, new_id, payment, told


@pytest.fixture
def chain() -> list[Entry]:
    """Three captures with their fees: six entries of one merchant."""
    history = History()
    for number in range(3):
        about = payment(id=new_id(), operation_id=new_id())
        history = History(payment=about, books=history.books, effects=history.effects).tell(
            charge(f"ch_{number}", about=about)
        )
    return [entry for effects in history.effects for entry in effects.entries]


def verify(entries: Sequence[Entry]) -> bool:
    """As whoever holds a copy of the ledger checks it: no gap, each sealed upon the one before."""
    previous = Head()
    for entry in entries:
        sealed = seal(previous.hash, content(entry))
        if entry.seq != previous.seq + 1 or entry.prev_hash != previous.hash or entry.hash != sealed:
            return False
        previous = Head(seq=entry.seq, hash=entry.hash)
    return True


def content(entry: Entry) -> bytes:
    return canonical(
        entry_id=entry.id,
        line=entry.line,
        merchant_id=entry.merchant_id,
        seq=entry.seq,
        payment_id=entry.payment_id or "",
        operation_id=entry.operation_id,
        type=entry.posting.type,
        debit=entry.posting.debit,
        credit=entry.posting.credit,
        amount=entry.posting.money.amount,
        currency=entry.posting.money.currency,
        at_ms=entry.at_ms,
        reference=entry.reference,
    )


def test_entries_are_numbered_without_a_gap_and_verify(chain: list[Entry]) -> None:
    assert [entry.seq for entry in chain] == [1, 2, 3, 4, 5, 6]
    assert chain[0].prev_hash == GENESIS
    assert verify(chain)


OTHER = "01890a5d-0000-7000-8000-00000000dead"
CHANGES: Mapping[str, dict[str, object]] = {
    "id": {"id": OTHER},
    "line": {"line": 9},
    "merchant": {"merchant_id": OTHER},
    "seq": {"seq": 99},
    "payment": {"payment_id": OTHER},
    "operation": {"operation_id": OTHER},
    "reference": {"reference": "ch_x"},
    "time": {"at_ms": 1},
    "previous hash": {"prev_hash": bytes(31) + b"\1"},
    "hash": {"hash": bytes(32)},
}
POSTING_CHANGES: Mapping[str, dict[str, object]] = {
    "type": {"type": "refund"},
    "debit": {"debit": "bank"},
    "credit": {"credit": "bank"},
    "amount": {"money": Money(amount=1, currency="EUR")},
    "currency": {"money": Money(amount=1000, currency="USD")},
}


@pytest.mark.parametrize("place", [0, 3, 5])
@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES.keys())
def test_a_changed_field_breaks_the_chain(chain: list[Entry], place: int, change: dict[str, object]) -> None:
    chain[place] = replace(chain[place], **change)  # type: ignore[arg-type]
    assert not verify(chain)


@pytest.mark.parametrize("place", [0, 2, 4])
@pytest.mark.parametrize("change", POSTING_CHANGES.values(), ids=POSTING_CHANGES.keys())
def test_a_changed_posting_breaks_the_chain(chain: list[Entry], place: int, change: dict[str, object]) -> None:
    chain[place] = replace(chain[place], posting=replace(chain[place].posting, **change))  # type: ignore[arg-type]
    assert not verify(chain)


def test_every_field_of_an_entry_is_sealed_but_for_the_epoch() -> None:
    """The epoch says who wrote and not what happened: a new field must be decided upon here."""
    changed = {name for change in CHANGES.values() for name in change}
    assert {field.name for field in fields(Entry)} == {*changed, "posting", "epoch"}
    chain = [entry for effects in told([ALPHABET["charge"]]).effects for entry in effects.entries]
    assert verify([replace(entry, epoch=99) for entry in chain])


def test_a_removed_or_exchanged_entry_breaks_the_chain(chain: list[Entry]) -> None:
    assert not verify(chain[1:])
    assert not verify([*chain[:2], *chain[3:]])
    assert not verify([chain[1], chain[0], *chain[2:]])


def test_a_cut_off_tail_shows_only_in_the_head(chain: list[Entry]) -> None:
    assert verify(chain[:-1]), "which is why heads are anchored outside the database"


def test_the_sealed_bytes_are_the_documented_ones() -> None:
    """Whoever verifies an export writes these bytes in another language: they may never change."""
    (first, second) = (entry for effects in told([ALPHABET["charge"]]).effects for entry in effects.entries)
    text = (
        f"{first.id}|1|{MERCHANT}|1|{PAYMENT}|{OPERATION}|capture"
        "|psp:sim:receivable|merchant:pending|1000|EUR|1700000000000|ch_1"
    )
    assert first.hash == sha256(bytes(32) + text.encode()).digest()
    text = f"{first.id}|2|{MERCHANT}|2|{PAYMENT}|{OPERATION}|fee|merchant:pending|fee_revenue|40|EUR|1700000000000|ch_1"
    assert second.hash == sha256(first.hash + text.encode()).digest()


def test_a_reference_cannot_pretend_to_be_other_fields(chain: list[Entry]) -> None:
    """The one text that is not ours stands last: what it says cannot move what stands before it."""
    plain, clever = replace(chain[0], reference="x"), replace(chain[0], reference="1700000000000|x")
    assert content(plain) != content(replace(clever, at_ms=0))
    assert content(plain).split(b"|")[:12] == content(clever).split(b"|")[:12]


def test_a_fact_without_postings_leaves_the_head_where_it_is() -> None:
    empty = BusinessFact(operation_id=OPERATION, kind="none", payment_id=PAYMENT, reference="", postings=())
    head, entries = append(NO_ENTRIES, empty, entry_id=OTHER, merchant_id=MERCHANT, at_ms=0, epoch=1)
    assert (head, entries) == (NO_ENTRIES, ())
