"""What can happen, one step after the other: the only words that the core and the auditor both hear.

Things are called by plain names: a payment and its charge `p1`, what a request becomes `r1`, what is given back of a
payment by itself `p1.back`. So a history reads like a diary, and is one that steps can be taken out of.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

PaymentKind: TypeAlias = Literal["sale", "authorize"]
RequestKind: TypeAlias = Literal["capture", "void", "refund"]
Outcome: TypeAlias = Literal["approved", "declined", "absent", "unknown", "reversed"]


@dataclass(frozen=True, slots=True)
class Terms:
    """What a merchant has agreed to. Fixed fee in minor units, shares in basis points, times in days."""

    fixed: int = 0
    fee: int = 0
    reserve: int = 0


@dataclass(frozen=True, slots=True)
class Join:
    """A merchant, with the terms that it begins with."""

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
    """A PSP says what became of an operation. `surplus`: how much more than asked it claims, in minor units."""

    event: str
    operation: str
    outcome: Outcome
    surplus: int = 0


@dataclass(frozen=True, slots=True)
class Move:
    """An internal service gives a merchant money, or takes it. Amount in minor units."""

    event: str
    merchant: str
    kind: Literal["credit", "debit"]
    amount: int
    currency: str


Step: TypeAlias = Join | Accept | Ask | Say | Move
History: TypeAlias = Sequence[Step]

# Accounts by (merchant, currency, account): credits less debits, in minor units; none that is zero.
Accounts: TypeAlias = dict[tuple[str, str, str], int]
