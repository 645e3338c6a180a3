"""What the simulator remembers: charges and payment sessions, in memory, in their files, and as callers see them."""

from __future__ import annotations

import time
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Self

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def now_ms() -> int:
    return time.time_ns() // 1_000_000


def iso(at_ms: int) -> str:
    """ISO 8601 in UTC with milliseconds."""
    return (_EPOCH + timedelta(milliseconds=at_ms)).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def ms_of(at: datetime) -> int:
    return (at - _EPOCH) // timedelta(milliseconds=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Charge:
    """One decision about money; a declined one moved none. `session_id` is None for a token."""

    id: str
    reference: str
    idempotency_key: str
    request_hash: str
    amount: int
    currency: str
    decline_code: str | None
    created_ms: int
    session_id: str | None = None

    @property
    def is_approved(self) -> bool:
        return self.decline_code is None

    @property
    def status(self) -> str:
        return "approved" if self.is_approved else "declined"

    def public(self) -> dict[str, object]:
        return {
            "id": self.id,
            "object": "charge",
            "reference": self.reference,
            "status": self.status,
            "decline_code": self.decline_code,
            "amount": self.amount,
            "currency": self.currency,
            "created_ms": self.created_ms,
        }

    def book_line(self) -> dict[str, object]:
        return {
            "at": iso(self.created_ms),
            "op": "charge" if self.session_id is None else "session_charge",
            "our_reference": self.reference,
            "idempotency_key": self.idempotency_key,
            "psp_reference": self.id,
            "kind": "sale",
            "amount": self.amount,
            "currency": self.currency,
            "result": self.status,
            "decline_code": self.decline_code,
            "session_id": self.session_id,
            "request_hash": self.request_hash,
        }

    @classmethod
    def of_book_line(cls, line: dict[str, Any]) -> Self:
        return cls(
            id=line["psp_reference"],
            reference=line["our_reference"],
            idempotency_key=line["idempotency_key"],
            request_hash=line["request_hash"],
            amount=line["amount"],
            currency=line["currency"],
            decline_code=line["decline_code"],
            created_ms=ms_of(datetime.fromisoformat(line["at"])),
            session_id=line["session_id"],
        )

    def settlement_line(self) -> dict[str, object]:
        return {
            "psp_reference": self.id,
            "our_reference": self.reference,
            "kind": "sale",
            "amount": self.amount,
            "currency": self.currency,
            "at": iso(self.created_ms),
        }


@dataclass(slots=True, kw_only=True)
class Session:
    """A payment page. It ends by its one charge (approved or declined) or by expiry."""

    id: str
    reference: str
    idempotency_key: str
    request_hash: str
    amount: int
    currency: str
    return_url: str
    description: str
    created_ms: int
    expires_ms: int
    charge: Charge | None = None
    is_expired: bool = False

    @property
    def status(self) -> str:
        if self.charge is not None:
            return self.charge.status
        return "expired" if self.is_expired else "open"

    def public(self) -> dict[str, object]:
        """The session as it is now."""
        return {
            "id": self.id,
            "object": "session",
            "reference": self.reference,
            "status": self.status,
            "decline_code": None if self.charge is None else self.charge.decline_code,
            "amount": self.amount,
            "currency": self.currency,
            "created_ms": self.created_ms,
            "expires_ms": self.expires_ms,
        }

    def opened_line(self) -> dict[str, object]:
        return {
            "op": "opened",
            "id": self.id,
            "reference": self.reference,
            "idempotency_key": self.idempotency_key,
            "request_hash": self.request_hash,
            "amount": self.amount,
            "currency": self.currency,
            "return_url": self.return_url,
            "description": self.description,
            "created_ms": self.created_ms,
            "expires_ms": self.expires_ms,
        }

    @classmethod
    def of_opened_line(cls, line: dict[str, Any]) -> Self:
        return cls(**{name: value for name, value in line.items() if name != "op"})
