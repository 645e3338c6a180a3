"""The settlement report: what the PSP pays out, takes back and keeps, in the order in which it happened."""

from __future__ import annotations

import bisect
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from paynode.sim.records import Entry, Kind, iso

_BASIS_POINTS: Final = 10_000
_CHARGED: Final = ("sale", "capture")
_SIGNS: Final = {"refund": -1, "reversal": -1, "fee": -1}


@dataclass(frozen=True, slots=True, order=True)
class Line:
    """One line; it sorts by time, then by its place in the book."""

    at_ms: int
    number: int
    psp_reference: str
    our_reference: str
    kind: str
    amount: int
    currency: str

    @property
    def cursor(self) -> str:
        return f"{self.at_ms}.{self.number}"

    def content(self) -> dict[str, object]:
        return {
            "psp_reference": self.psp_reference,
            "our_reference": self.our_reference,
            "kind": self.kind,
            "amount": self.amount,
            "currency": self.currency,
            "at": iso(self.at_ms),
            "at_ms": self.at_ms,
        }


class Report:
    """Grows with the book. A window that has passed never changes."""

    def __init__(self, *, fee_basis_points: int) -> None:
        self._fee_basis_points = fee_basis_points
        self._lines: list[Line] = []
        self._count = 0

    def know(self, entry: Entry, changed: Entry | None) -> None:
        """Add what an entry moved; `changed` is what it takes back."""
        for kind, reference in self._moves(entry, changed):
            self._count += 1
            amount = self._fee(entry) if kind == "fee" else entry.amount
            if amount > 0:
                at = entry.created_ms, self._count
                bisect.insort(self._lines, Line(*at, reference, entry.reference, kind, amount, entry.currency))

    def between(self, from_ms: int, to_ms: int) -> Sequence[Line]:
        """The lines of `from_ms` <= at < `to_ms`."""
        return self._lines[_place(self._lines, from_ms) : _place(self._lines, to_ms)]

    def page(
        self, from_ms: int, to_ms: int, *, after: tuple[int, int] | None, limit: int
    ) -> tuple[Sequence[Line], bool]:
        """At most `limit` of them that come after a cursor, and whether there are more."""
        start = _place(self._lines, from_ms)
        if after is not None:
            start = max(start, bisect.bisect_right(self._lines, after, key=lambda line: (line.at_ms, line.number)))
        end = _place(self._lines, to_ms)
        return self._lines[start : min(start + limit, end)], start + limit < end

    def _moves(self, entry: Entry, changed: Entry | None) -> Iterator[tuple[str, str]]:
        match entry.kind:
            case Kind.SALE | Kind.CAPTURE if entry.is_approved:
                yield entry.kind, entry.id
                yield "fee", f"fee_{entry.id}"
            case Kind.REFUND if entry.is_approved:
                yield entry.kind, entry.id
            case Kind.REVERSAL if changed is not None:
                yield "refund_failure" if changed.kind is Kind.REFUND else "reversal", entry.id

    def _fee(self, entry: Entry) -> int:
        return (entry.amount * self._fee_basis_points + _BASIS_POINTS // 2) // _BASIS_POINTS


def totals_of(lines: Sequence[Line]) -> dict[str, dict[str, int]]:
    """By currency: how many charges of which amount, what went back, and what is paid out."""
    totals: defaultdict[str, dict[str, int]] = defaultdict(
        lambda: {"count": 0, "amount": 0, "refund": 0, "reversal": 0, "refund_failure": 0, "fee": 0, "net": 0}
    )
    for line in lines:
        of = totals[line.currency]
        if line.kind in _CHARGED:
            of["count"] += 1
            of["amount"] += line.amount
        else:
            of[line.kind] += line.amount
        of["net"] += line.amount * _SIGNS.get(line.kind, 1)
    return dict(sorted(totals.items()))


def _place(lines: Sequence[Line], at_ms: int) -> int:
    return bisect.bisect_left(lines, at_ms, key=lambda line: line.at_ms)
