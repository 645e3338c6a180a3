"""What can happen, one step after the other: the only words that the core and the auditor both hear.

Things are called by plain names: a payment and its charge `p1`, what a request becomes `r1`, what is given back of a
payment by itself `p1.back`. So a history reads like a diary, and is one that steps can be taken out of.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

PaymentKind: TypeAlias = Literal["sale", "authorize"]
RequestKind: TypeAlias = Literal["capture", "void", "cancel", "refund"]
MoveKind: TypeAlias = Literal["credit", "debit", "write_off"]
LineKind: TypeAlias = Literal["charge", "refund", "reversal", "fee"]
Outcome: TypeAlias = Literal["approved", "declined", "pending", "expired", "absent", "unknown", "not_sent", "reversed"]


@dataclass(frozen=True, slots=True)
class Terms:
    """What a merchant has agreed to. Fixed fee in minor units, shares in basis points, times in days."""

    fixed: int = 0
    fee: int = 0
    reserve: int = 0
    reserve_days: int = 0
    availability: Literal["date", "settlement"] = "date"
    available_days: int = 0


@dataclass(frozen=True, slots=True)
class Join:
    """A merchant, with the terms that it begins with."""

    merchant: str
    terms: Terms


@dataclass(frozen=True, slots=True)
class Announce:
    """Other terms, for payments that are accepted from now on."""

    merchant: str
    terms: Terms


@dataclass(frozen=True, slots=True)
class Accept:
    """A payment is accepted, and sent to its PSP. Amount in minor units."""

    payment: str
    merchant: str
    psp: str
    kind: PaymentKind
    amount: int
    currency: str


@dataclass(frozen=True, slots=True)
class Ask:
    """A merchant asks for something; amount None: all that is left."""

    request: str
    payment: str
    kind: RequestKind
    amount: int | None
    is_final: bool = False


@dataclass(frozen=True, slots=True)
class Say:
    """A PSP says what became of an operation. `surplus`: how much more than asked it claims, in minor units.

    `reference`: its name of what it did, where that is another one than usual.
    """

    event: str
    operation: str
    outcome: Outcome
    surplus: int = 0
    reference: str = ""


@dataclass(frozen=True, slots=True)
class Wait:
    """Days go by, and whatever has its day by then comes."""

    days: int


@dataclass(frozen=True, slots=True)
class Come:
    """The calendar says it again, or too late: for a capture, or for what is held back of it."""

    operation: str
    what: Literal["available", "reserve"]


@dataclass(frozen=True, slots=True)
class Move:
    """An internal service gives a merchant money, takes it, or forgives a debt. Amount in minor units."""

    event: str
    merchant: str
    kind: MoveKind
    amount: int
    currency: str


@dataclass(frozen=True, slots=True)
class PayOut:
    """An internal service wants a merchant to be paid. Amount in minor units."""

    event: str
    merchant: str
    amount: int
    currency: str


@dataclass(frozen=True, slots=True)
class EndPayout:
    """What the bank says of a payout, named by the event that asked for it."""

    event: str
    payout: str
    merchant: str
    end: Literal["paid", "failed"]


@dataclass(frozen=True, slots=True)
class Settle:
    """A line of a PSP's report. `operation`: what it is about, None: nothing of ours. Amount in minor units."""

    psp: str
    kind: LineKind
    reference: str
    operation: str | None
    amount: int
    currency: str


@dataclass(frozen=True, slots=True)
class Adjust:
    """Two operators have decided upon a posting. Amount in minor units."""

    event: str
    merchant: str
    debit: str
    credit: str
    amount: int
    currency: str


# What is recognised by its name, and has its effect once.
Once: TypeAlias = Ask | Move | PayOut | EndPayout | Settle | Adjust
Step: TypeAlias = Join | Announce | Accept | Say | Wait | Come | Once
History: TypeAlias = Sequence[Step]

# Accounts by (merchant, currency, account): credits less debits, in minor units; none that is zero.
Accounts: TypeAlias = dict[tuple[str, str, str], int]
