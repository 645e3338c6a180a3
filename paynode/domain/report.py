"""Lines of PSPs' settlement reports, as a merchant's actor gets them."""

from __future__ import annotations

from dataclasses import dataclass
from hashlib import sha256

from paynode.domain.ids import uuid_of
from paynode.domain.money import Money
from paynode.domain.psp import SettlementKind


@dataclass(frozen=True, slots=True, kw_only=True)
class ReportLine:
    """One line. `operation_id` and `payment_id`: ours, None when nothing of ours is meant. `is_posted`: had before.

    `at_ms`: the PSP's time in milliseconds since 1970.
    """

    id: str
    psp: str
    kind: SettlementKind
    reference: str
    operation_id: str | None
    payment_id: str | None
    money: Money
    at_ms: int
    is_posted: bool = False

    @property
    def event_id(self) -> str:
        """What recognises its effect, for ever."""
        return self.id


def line_id(psp: str, kind: SettlementKind, reference: str) -> str:
    """What recognises a line, in whichever report it stands: one PSP tells of one thing once."""
    return uuid_of(sha256(f"{psp}|{kind}|{reference}".encode()).digest())
