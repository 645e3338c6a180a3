"""What reconciliation looks for, and what it has found: the vocabulary of all its areas."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from hashlib import sha256
from typing import Generic, TypeAlias, TypeVar

Item = TypeVar("Item")
Evidence: TypeAlias = Mapping[str, str | int | None]


class Area(StrEnum):
    """What is held against what."""

    WALLETS = "wallets"  # a merchant's wallets against its ledger
    PAYMENTS = "payments"  # what has not ended against what is under way for it
    SETTLEMENT = "settlement"  # a PSP's report against operations and ledger


class BreakKind(StrEnum):
    """How two sides can differ."""

    WALLET_DIFFERS = "wallet_differs"  # the wallet is not the fold of the ledger
    ADJUSTMENTS_DIFFER = "adjustments_differ"  # what the facts say they did is not what the ledger says
    STUCK = "stuck"  # it has not ended, and nothing is on its way that would end it
    IN_REVIEW = "in_review"  # people must say, and have not yet
    MISSING_IN_BOOKS = "missing_in_books"  # reported, and not booked
    MISSING_IN_REPORT = "missing_in_report"  # booked, and not reported
    AMOUNT_DIFFERS = "amount_differs"
    CURRENCY_DIFFERS = "currency_differs"
    CHARGED_TWICE = "charged_twice"  # another name for what is booked already, or a second charge
    UNPOSTED = "unposted"  # the operation says done, and the ledger has nothing of it
    UNEXPLAINED = "unexplained"  # nothing of ours is meant
    REPORT_CHANGED = "report_changed"  # the line says another thing than when it was first told


@dataclass(frozen=True, slots=True, kw_only=True)
class Window:
    """What a run looks at: `since_ms` <= at < `until_ms`, milliseconds since 1970."""

    since_ms: int
    until_ms: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Sweep(Generic[Item]):
    """What was found among a bounded number of things that were looked at; `after`: the last of them, None: no more."""

    found: Sequence[Item]
    after: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Past:
    """A run that has ended: until which instant it looked, in milliseconds since 1970, and how many seconds ago."""

    until_ms: int
    age_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """One thing that differs; (kind, subject) recognises it in the next run.

    `expected` and `found`: what our books say and what was found, in minor units, with the sign of what is owed to us
    (settlement) or to the merchant (wallets). `size` is how much money differs, 0 where none does. `at_ms`: when it
    happened, in milliseconds since 1970. `is_repairing`: what repairs it is on its way with the finding.
    """

    kind: BreakKind
    subject: str
    expected: int = 0
    found: int = 0
    size: int = 0
    currency: str | None = None
    merchant_id: str | None = None
    payment_id: str | None = None
    operation_id: str | None = None
    psp: str | None = None
    reference: str | None = None
    at_ms: int | None = None
    evidence: Evidence = field(default_factory=dict)
    is_repairing: bool = False

    @property
    def drift(self) -> int:
        """What was found less what the books say."""
        return self.found - self.expected


@dataclass(frozen=True, slots=True, kw_only=True)
class Noted:
    """A difference as it is kept. `is_open`: nothing is on its way yet that would repair it."""

    id: str
    difference: Difference
    is_open: bool


@dataclass(slots=True, kw_only=True)
class Tally:
    """What a run came to, while it counts: how many things it looked at, what it found, how much that is.

    `drift` is by currency, in minor units with its sign; `money` is how many of the differences are in money.
    """

    checked: int = 0
    found: dict[str, int] = field(default_factory=dict)
    drift: dict[str, int] = field(default_factory=dict)
    repairs: int = 0
    money: int = 0
    _digest: int = 0

    def count(self, differences: Iterable[Difference]) -> None:
        """Add what was found."""
        for one in differences:
            self.found[one.kind.value] = self.found.get(one.kind, 0) + 1
            self.money += one.size > 0
            if one.currency is not None and one.size:
                self.drift[one.currency] = self.drift.get(one.currency, 0) + one.drift
            text = f"{one.kind}|{one.subject}|{one.expected}|{one.found}|{one.currency}"
            # Added up, so that the order in which they were found does not show.
            self._digest = (self._digest + int.from_bytes(sha256(text.encode()).digest())) % 2**256

    @property
    def differing(self) -> int:
        """How many differences."""
        return sum(self.found.values())

    @property
    def digest(self) -> str:
        """The same for the same findings, in whichever order."""
        return f"{self._digest:064x}"


@dataclass(frozen=True, slots=True, kw_only=True)
class RunReport:
    """A run that has ended; `inputs`: what it was made from; `found`: of a dry one, which nobody else keeps."""

    id: str
    area: Area
    psp: str | None
    inputs: Evidence
    tally: Tally
    is_dry: bool
    found: tuple[Difference, ...] = ()
