"""What a drill has found, as a table and as JSON."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Final

from rich.console import Console
from rich.table import Table

LAW_BROKEN: Final = 3
FAILED: Final = 1
_EXAMPLES_MAX: Final = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class LostCharge:
    """What a customer paid and the restored database knows nothing of; the PSP's report will name it."""

    psp_reference: str
    operation: str
    amount: int
    currency: str


@dataclass(slots=True, kw_only=True)
class Outcome:
    """Seconds end in `_s`, sums by currency are in minor units. What was not reached is None.

    `rpo_s`: from the oldest committed entry of the ledger that is missing to the loss. `rto_s`: from the loss to a
    server upon which every law was found to hold. `captured_lost`: what the lost entries say was captured.
    """

    backups: Mapping[str, float] = field(default_factory=dict)
    ledger_seen: int = 0
    ledger_promised: int = 0
    ledger_lost: int = 0
    captured_lost: Mapping[str, int] = field(default_factory=dict)
    payments_accepted: int = 0
    payments_lost: int = 0
    charges_known: int = 0
    charges_lost: Sequence[LostCharge] = ()
    payments_after: int = 0
    archive_timeout_s: int = 0
    rpo_s: float | None = None
    rto_s: float | None = None
    restore_s: float | None = None
    recovery_s: float | None = None
    doctor_s: float | None = None
    settled_s: float | None = None
    laws_broken: list[str] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)

    @property
    def code(self) -> int:
        """0 when all is well; a broken law says more than any failure beside it."""
        if self.laws_broken:
            return LAW_BROKEN
        return FAILED if self.failures else os.EX_OK

    def as_json(self) -> dict[str, object]:
        """All of it, with the exit code."""
        return {**asdict(self), "code": self.code}

    def print(self, console: Console) -> None:
        """The table, and what was wrong."""
        table = Table(title="The restore drill")
        table.add_column("figure")
        table.add_column("", justify="right")
        for name, value in self._rows():
            table.add_row(name, value)
        console.print(table)
        for charge in self.charges_lost[:_EXAMPLES_MAX]:
            console.print(
                f"lost: {charge.psp_reference} {charge.amount} {charge.currency}, operation {charge.operation}"
            )
        if (more := len(self.charges_lost) - _EXAMPLES_MAX) > 0:
            console.print(f"… and {more} more; --output json has all of them")
        for what in (*self.laws_broken, *self.failures):
            console.print(what, style="red", markup=False, soft_wrap=True)
        console.print("green" if self.code == os.EX_OK else f"red, exit code {self.code}")

    def _rows(self) -> Sequence[tuple[str, str]]:
        backups = [(f"{kind} backup, s", _figure(seconds)) for kind, seconds in self.backups.items()]
        return [
            *backups,
            ("RPO, s", f"{_figure(self.rpo_s)} (archive_timeout {self.archive_timeout_s})"),
            ("RTO, s", _figure(self.rto_s)),
            ("  restoring the backup, s", _figure(self.restore_s)),
            ("  starting and recovering, s", _figure(self.recovery_s)),
            ("  paynode doctor, s", _figure(self.doctor_s)),
            ("every payment at an end after, s", _figure(self.settled_s)),
            ("ledger entries seen before the loss", str(self.ledger_seen)),
            ("  that were in the archive, and are there", str(self.ledger_promised)),
            ("  lost", str(self.ledger_lost)),
            ("  captured by the lost ones, minor units", _money(self.captured_lost)),
            ("charges in the PSP's book that are known, and captured", str(self.charges_known)),
            ("  that are not known: reconciliation will find them", str(len(self.charges_lost))),
            ("payments accepted before the loss", str(self.payments_accepted)),
            ("  lost", str(self.payments_lost)),
            ("payments accepted afterwards", str(self.payments_after)),
        ]


def _figure(seconds: float | None) -> str:
    return "-" if seconds is None else f"{seconds:.1f}"


def _money(sums: Mapping[str, int]) -> str:
    return ", ".join(f"{amount} {currency}" for currency, amount in sorted(sums.items())) or "-"
