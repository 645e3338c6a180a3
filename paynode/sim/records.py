"""What the simulator remembers: entries of its book and payment sessions, in files and as callers see them."""

from __future__ import annotations

import time
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Any, Final, Self

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


class Kind(StrEnum):
    """What an entry is. The last two are not asked for by anybody: the PSP takes back, an authorization lapses."""

    SALE = "sale"
    AUTHORIZE = "authorize"
    CAPTURE = "capture"
    VOID = "void"
    REFUND = "refund"
    CANCEL = "cancel"
    REVERSAL = "reversal"
    LAPSE = "lapse"


CHARGES: Final = (Kind.SALE, Kind.AUTHORIZE)
CHANGES: Final = (Kind.REVERSAL, Kind.LAPSE)

_PREFIXES: Final = {
    Kind.SALE: "ch",
    Kind.AUTHORIZE: "au",
    Kind.CAPTURE: "cp",
    Kind.VOID: "vd",
    Kind.REFUND: "rf",
    Kind.CANCEL: "cn",
    Kind.REVERSAL: "rv",
    Kind.LAPSE: "lp",
}


def now_ms() -> int:
    return time.time_ns() // 1_000_000


def iso(at_ms: int) -> str:
    """ISO 8601 in UTC with milliseconds."""
    return (_EPOCH + timedelta(milliseconds=at_ms)).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def ms_of(at: datetime) -> int:
    return (at - _EPOCH) // timedelta(milliseconds=1)


def prefix_of(kind: Kind) -> str:
    """What the id of an entry begins with."""
    return _PREFIXES[kind]


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One line of the book: something decided, for ever. A declined one moved no money.

    `session_id`: the page it came from, or that it closes. `charge_id`: the entry that it is about: of a capture, void
    or refund the charge, of a change what is changed. `is_refused`: it can never be, as opposed to declined by a bank.
    `declines`: what the token said about later operations on this charge.
    """

    id: str
    kind: Kind
    reference: str
    idempotency_key: str
    request_hash: str
    amount: int
    currency: str
    decline_code: str | None
    created_ms: int
    session_id: str | None = None
    charge_id: str | None = None
    is_final: bool = False
    is_refused: bool = False
    declines: str = ""

    @property
    def is_approved(self) -> bool:
        return self.decline_code is None

    @property
    def status(self) -> str:
        return "approved" if self.is_approved else "declined"

    @property
    def result(self) -> str:
        """As the book says it: a change is none of the charges that a judge counts."""
        if self.kind in CHANGES:
            return "reversed" if self.kind is Kind.REVERSAL else "expired"
        return self.status

    def public(self) -> dict[str, object]:
        """As it was decided: the answer to every repetition of that request."""
        content: dict[str, object] = {
            "id": self.id,
            "object": "charge" if self.kind is Kind.SALE else self.kind.value,
            "reference": self.reference,
            "status": self.status,
            "decline_code": self.decline_code,
            "amount": self.amount,
            "currency": self.currency,
            "created_ms": self.created_ms,
        }
        if self.charge_id is not None:
            content["charge"] = self.charge_id
        if self.kind is Kind.CANCEL:
            content["session"] = self.session_id
        return content

    def book_line(self) -> dict[str, object]:
        op: str = self.kind
        if self.kind in CHARGES:
            op = "charge" if self.session_id is None else "session_charge"
        return {
            "at": iso(self.created_ms),
            "op": op,
            "our_reference": self.reference,
            "idempotency_key": self.idempotency_key,
            "psp_reference": self.id,
            "kind": self.kind,
            "amount": self.amount,
            "currency": self.currency,
            "result": self.result,
            "decline_code": self.decline_code,
            "charge": self.charge_id,
            "session_id": self.session_id,
            "is_final": self.is_final,
            "is_refused": self.is_refused,
            "declines": self.declines,
            "request_hash": self.request_hash,
        }

    @classmethod
    def of_book_line(cls, line: dict[str, Any]) -> Self:
        return cls(
            id=line["psp_reference"],
            kind=Kind(line["kind"]),
            reference=line["our_reference"],
            idempotency_key=line["idempotency_key"],
            request_hash=line["request_hash"],
            amount=line["amount"],
            currency=line["currency"],
            decline_code=line["decline_code"],
            created_ms=ms_of(datetime.fromisoformat(line["at"])),
            session_id=line["session_id"],
            # Books of former versions hold nothing but sales.
            charge_id=line.get("charge"),
            is_final=line.get("is_final", False),
            is_refused=line.get("is_refused", False),
            declines=line.get("declines", ""),
        )


@dataclass(slots=True, kw_only=True)
class Session:
    """A payment page. It ends by its one charge (approved or declined), by being canceled, or by expiry."""

    id: str
    kind: Kind = Kind.SALE
    reference: str
    idempotency_key: str
    request_hash: str
    amount: int
    currency: str
    return_url: str
    description: str
    created_ms: int
    expires_ms: int
    charge: Entry | None = None
    cancel: Entry | None = None
    is_expired: bool = False

    @property
    def status(self) -> str:
        return self.status_at(None)

    def status_at(self, at_ms: int | None) -> str:
        """As somebody sees it who hears of nothing later than `at_ms`."""
        if self.charge is not None and _is_seen(self.charge.created_ms, at_ms):
            return self.charge.status
        if self.cancel is not None and _is_seen(self.cancel.created_ms, at_ms):
            return "canceled"
        return "expired" if self.is_expired and _is_seen(self.expires_ms, at_ms) else "open"

    def public(self, at_ms: int | None = None) -> dict[str, object]:
        """The session as it is now, or was."""
        status = self.status_at(at_ms)
        content: dict[str, object] = {
            "id": self.id,
            "object": "session",
            "reference": self.reference,
            "status": status,
            "decline_code": self.charge.decline_code if self.charge is not None and status == "declined" else None,
            "amount": self.amount,
            "currency": self.currency,
            "created_ms": self.created_ms,
            "expires_ms": self.expires_ms,
        }
        if status == "canceled" and self.cancel is not None:
            content["changed_ms"] = self.cancel.created_ms
        return content

    def opened_line(self) -> dict[str, object]:
        return {
            "op": "opened",
            "id": self.id,
            "kind": self.kind,
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
        fields = {name: value for name, value in line.items() if name != "op"}
        return cls(**fields | {"kind": Kind(line.get("kind", Kind.SALE))})


def _is_seen(happened_ms: int, at_ms: int | None) -> bool:
    return at_ms is None or happened_ms <= at_ms
