"""Anchors: what the heads of all ledgers were at an instant, kept where the database cannot reach."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum
from typing import TypeAlias

from paynode.domain.ledger import Head

# A merchant's id and the last entry of its ledger.
Named: TypeAlias = tuple[str, Head]


class Standing(Enum):
    """How a head stands to what was anchored of it before."""

    SAME = "same"
    GROWN = "grown"
    CONTRADICTED = "contradicted"


@dataclass(frozen=True, slots=True, kw_only=True)
class Anchor:
    """An anchor that was written: so many heads, of all merchants or of those whose ledgers have grown."""

    number: int
    heads: int
    is_whole: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Contradiction:
    """A ledger that has lost what was anchored of it. `found` is None when nothing is left of it."""

    merchant_id: str
    anchored: Head
    found: Head | None


class Memory:
    """What was anchored before, walked through in the order of merchants beside the heads of now."""

    def __init__(self, known: Iterator[Named]) -> None:
        self._known = known
        self._next = next(known, None)

    def passed(self, merchant_id: str | None) -> Iterator[Named]:
        """What is known of merchants before this one, which have no head any more; None: of all that are left."""
        while self._next is not None and (merchant_id is None or self._next[0] < merchant_id):
            named, self._next = self._next, next(self._known, None)
            yield named

    def of(self, merchant_id: str) -> Head | None:
        """What is known of a merchant; to be asked after `passed`, once."""
        if self._next is None or self._next[0] != merchant_id:
            return None
        (_, head), self._next = self._next, next(self._known, None)
        return head


def standing(head: Head, known: Head | None) -> Standing:
    """A ledger only grows: a head that is not further on must be the very same."""
    if known is None or head.seq > known.seq:
        return Standing.GROWN
    return Standing.SAME if head == known else Standing.CONTRADICTED
