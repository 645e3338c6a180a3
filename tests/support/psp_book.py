"""What PSPs really did, read from their books: the judge's sums, and the laws that must hold at every line of them.

Lines are those of `GET /book` of the simulator; of several PSPs all of them together. `our_reference` is an operation's
id, at whichever PSP: so an operation that two PSPs have charged shows.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, TypeAlias

Line: TypeAlias = Mapping[str, Any]

CHARGES: Final = ("sale", "authorize")
CAPTURES: Final = ("sale", "capture")


@dataclass
class Charge:
    """What has become of one approved sale or authorization, up to some line."""

    reference: str
    authorized: int = 0
    captured: int = 0
    voided: int = 0
    refunded: int = 0
    reversed: int = 0
    is_lapsed: bool = False

    @property
    def holds(self) -> bool:
        """Whether the customer has paid, or still may have to."""
        is_open = not self.is_lapsed and self.captured + self.voided < self.authorized
        return is_open or self.captured - self.reversed > self.refunded


@dataclass
class PspBook:
    """The sums of everything in the books."""

    lines: Sequence[Line]
    charges: dict[str, Charge] = field(default_factory=dict)
    breaches: list[str] = field(default_factory=list)
    _approved: defaultdict[str, list[Line]] = field(default_factory=lambda: defaultdict(list))
    _taken_back: Counter[str] = field(default_factory=Counter)
    _by_id: dict[str, Line] = field(default_factory=dict)

    def __post_init__(self) -> None:
        # Each book is in its order; a stable sort by time puts several into one.
        for line in sorted(self.lines, key=lambda one: str(one.get("at", ""))):
            self._read(line)

    def approved(self, operation_id: str) -> Sequence[Line]:
        """What a PSP did for an operation: one line at most, or it was done twice."""
        return self._approved.get(operation_id, ())

    def kept(self, operation_id: str) -> int:
        """The amount that an operation moved and that was not taken back, in minor units."""
        done: int = sum(line["amount"] for line in self.approved(operation_id) if _kind(line) != "authorize")
        return done - self._taken_back[operation_id]

    def received(self, operation_id: str) -> int:
        """The same as the merchant's side sees it: a refund is money that went back."""
        kinds = {_kind(line) for line in self.approved(operation_id)}
        if kinds & set(CAPTURES):
            return self.kept(operation_id)
        return -self.kept(operation_id) if "refund" in kinds else 0

    def _read(self, line: Line) -> None:
        kind, reference = _kind(line), str(line["our_reference"])
        self._by_id[str(line.get("psp_reference"))] = line
        if line["result"] == "reversed":
            self._taken_back[reference] += line["amount"]
            self._take_back(line)
        if line["result"] == "expired" and (lapsed := self.charges.get(str(line.get("charge")))) is not None:
            lapsed.is_lapsed = True
        if line["result"] != "approved":
            return
        self._approved[reference].append(line)
        if len(self._approved[reference]) > 1:
            self.breaches.append(f"operation {reference} was done {len(self._approved[reference])} times: {kind}")
        if kind in CHARGES:
            sale = line["amount"] if kind == "sale" else 0
            name = str(line.get("psp_reference", reference))
            self.charges[name] = Charge(reference, authorized=line["amount"], captured=sale)
        elif (charge := self.charges.get(str(line.get("charge")))) is not None:
            self._add(charge, kind, line["amount"])

    def _add(self, charge: Charge, kind: str, amount: int) -> None:
        if kind == "capture":
            charge.captured += amount
        elif kind == "void":
            charge.voided += amount
        elif kind == "refund":
            charge.refunded += amount
        if charge.captured + charge.voided > charge.authorized:
            self.breaches.append(f"charge {charge.reference}: captured and voided more than authorized: {charge}")
        if charge.refunded > charge.captured:
            self.breaches.append(f"charge {charge.reference}: refunded more than captured: {charge}")

    def _take_back(self, line: Line) -> None:
        undone = self._by_id.get(str(line.get("charge")), {})
        charge = self.charges.get(str(undone.get("charge") or undone.get("psp_reference")))
        if charge is None:
            return
        if _kind(undone) == "refund":
            charge.refunded -= line["amount"]
        else:
            charge.reversed += line["amount"]


def orders_paid_twice(book: PspBook, order_of: Mapping[str, str]) -> Iterator[str]:
    """Orders with more than one charge that was neither voided, refunded nor reversed, each by its charges' references.

    `order_of`: the order, or the payment, that an operation is for.
    """
    holding: defaultdict[str, list[str]] = defaultdict(list)
    for charge in book.charges.values():
        if charge.holds:
            holding[order_of.get(charge.reference, charge.reference)].append(charge.reference)
    for order, references in holding.items():
        if len(references) > 1:
            yield f"{order} is paid by {len(references)} charges: {sorted(references)}"


def _kind(line: Line) -> str:
    return str(line.get("kind", "sale"))
