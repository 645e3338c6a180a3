"""Whether a merchant's ledger is as it was written: followed entry by entry, from its opening to its head.

Nothing that a row says is taken for granted, for whoever owns the database can write any row. What is looked for is the
first entry that nobody vouches for: from there on nothing is known.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from paynode.domain.ledger import NO_ENTRIES, Head, canonical, seal

# What stands between the fields of the canonical bytes, and hence in none of them but the last.
_SEPARATOR: Final = "|"


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """An entry as it stands in the database. What is not there is an empty text; `at_ms` as in `Entry`."""

    entry_id: str
    line: int
    merchant_id: str
    seq: int
    payment_id: str
    operation_id: str
    type: str
    debit: str
    credit: str
    amount: int
    currency: str
    at_ms: int
    reference: str
    is_whole_ms: bool
    epoch: int
    prev_hash: bytes
    hash: bytes

    @property
    def is_intact(self) -> bool:
        """Whether its hash is that of its content and of the hash before it, as the row itself says it."""
        # A separator within a field would let two contents have the same bytes; no time has more than milliseconds.
        is_legible = _SEPARATOR not in f"{self.type}{self.debit}{self.credit}" and self.is_whole_ms
        return is_legible and seal(self.prev_hash, self._content()) == self.hash

    def _content(self) -> bytes:
        return canonical(
            entry_id=self.entry_id,
            line=self.line,
            merchant_id=self.merchant_id,
            seq=self.seq,
            payment_id=self.payment_id,
            operation_id=self.operation_id,
            type=self.type,
            debit=self.debit,
            credit=self.credit,
            amount=self.amount,
            currency=self.currency,
            at_ms=self.at_ms,
            reference=self.reference,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Anchored:
    """A head that the anchor of this number names."""

    head: Head
    anchor: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Expected:
    """What a merchant's entries are held against.

    `opening`: what the first entry follows. `head`: of the table of heads, None without a row there. `anchored`: what
    was said outside the database, by number.
    """

    opening: Head = NO_ENTRIES
    head: Head | None = None
    anchored: tuple[Anchored, ...] = ()


class Why(StrEnum):
    """What is wrong with the first entry that nobody vouches for."""

    MISSING = "missing"
    REPEATED = "repeated"
    CHANGED = "changed"
    REPLACED = "replaced"
    NOT_AS_ANCHORED = "not_as_anchored"
    CUT_OFF = "cut_off"
    BEYOND_HEAD = "beyond_head"
    NOT_THE_HEAD = "not_the_head"
    HEADLESS = "headless"


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """Where a merchant's ledger ceases to be vouched for: at the entry `seq`, whether or not there is one."""

    merchant_id: str
    seq: int
    why: Why
    detail: str


class Chain:
    """One merchant's ledger while its rows are told in the order of their numbers. The first fault is the last word."""

    def __init__(self, merchant_id: str, expected: Expected) -> None:
        self.fault: Fault | None = None
        self._merchant_id = merchant_id
        self._opening = self._last = expected.opening
        self._head = expected.head
        # The last number up to which an anchor, or the opening, vouches for everything.
        self._vouched = expected.opening.seq
        self._anchors: Iterator[Anchored] = iter(expected.anchored)
        self._anchor = next(self._anchors, None)
        self._hold_against_anchors(self._opening)

    @property
    def last(self) -> Head:
        """The last entry that was told."""
        return self._last

    @property
    def vouched(self) -> int:
        """The number of the last entry that an anchor names as it is, or of the opening."""
        return self._vouched

    def follow(self, row: Row) -> None:
        """The next row."""
        if self.fault is None:
            before, self._last = self._last, Head(seq=row.seq, hash=row.hash)
            self._judge(row, before)

    def end(self) -> None:
        """There are no more rows."""
        if self.fault is not None:
            return
        last, head = self._last, self._head
        if head is not None and head.seq > last.seq:
            self._fail(last.seq + 1, Why.CUT_OFF, f"the head is entry {head.seq}")
        elif head is not None and head.hash != last.hash:
            self._fail(last.seq, Why.NOT_THE_HEAD, f"the head is another entry {last.seq}")
        elif self._anchor is not None:
            self._fail(last.seq + 1, Why.CUT_OFF, f"anchor {self._anchor.anchor} names entry {self._anchor.head.seq}")

    def _judge(self, row: Row, before: Head) -> None:
        if row.seq > before.seq + 1:
            self._fail(before.seq + 1, Why.MISSING, f"the next one is entry {row.seq}")
        elif row.seq <= before.seq:
            self._fail(row.seq, Why.REPEATED, "two entries have this number")
        elif not row.is_intact:
            self._fail(row.seq, Why.CHANGED, "it is not what was sealed")
        elif row.prev_hash != before.hash:
            # Sealed as it stands, so that it is the one before it that was exchanged.
            at = before.seq if before is not self._opening else row.seq
            self._fail(at, Why.REPLACED, f"entry {row.seq} was sealed upon another one")
        elif self._head is None or row.seq > self._head.seq:
            self._fail_beyond(row)
        else:
            self._hold_against_anchors(self._last)

    def _fail_beyond(self, row: Row) -> None:
        if self._head is None:
            self._fail(row.seq, Why.HEADLESS, "the merchant has no head")
        else:
            self._fail(row.seq, Why.BEYOND_HEAD, f"the head is entry {self._head.seq}")

    def _hold_against_anchors(self, reached: Head) -> None:
        """What is anchored before the opening went with the entries that it stands for."""
        while self._anchor is not None and self._anchor.head.seq <= reached.seq:
            anchored = self._anchor
            if anchored.head.seq == reached.seq:
                if anchored.head != reached:
                    detail = f"anchor {anchored.anchor} names another entry {reached.seq}"
                    self._fail(min(self._vouched + 1, reached.seq), Why.NOT_AS_ANCHORED, detail)
                    return
                self._vouched = reached.seq
            self._anchor = next(self._anchors, None)

    def _fail(self, seq: int, why: Why, detail: str) -> None:
        self.fault = Fault(merchant_id=self._merchant_id, seq=seq, why=why, detail=detail)
