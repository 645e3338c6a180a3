"""Which postings follow from a payment: the table of accounts, as code.

One posting moves an amount from a debit account to a credit account, so that it is balanced by construction. The
merchant's buckets are what paynode owes the merchant: a credit raises them, a debit lowers them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from paynode.domain.folding import booked_charge
from paynode.domain.money import FeePlan, Money
from paynode.domain.payment import Payment

PENDING: Final = "merchant:pending"
AVAILABLE: Final = "merchant:available"
RESERVE: Final = "merchant:reserve"
HELD: Final = "merchant:held"
FEE_REVENUE: Final = "fee_revenue"


# Where money that internal services move comes from and goes to, until somebody accounts for it.
SUSPENSE_INTERNAL: Final = "suspense:internal"


def receivable(psp: str) -> str:
    """What a PSP owes us."""
    return f"psp:{psp}:receivable"


@dataclass(frozen=True, slots=True, kw_only=True)
class Posting:
    """One line of a business fact. `type` says why the money moved."""

    type: str
    debit: str
    credit: str
    money: Money

    def __post_init__(self) -> None:
        if self.money.amount <= 0:
            raise ValueError(f"a posting moves a positive amount, not {self.money.amount}")
        if self.debit == self.credit:
            raise ValueError(f"a posting moves between two accounts, not within {self.debit}")


@dataclass(frozen=True, slots=True, kw_only=True)
class BusinessFact:
    """Postings that stand or fall together, and what recognises them: (operation, kind, part), once for ever.

    `reference` is the PSP's id of the charge, or the publisher's of a wallet movement, for reconciliation; it is never
    needed to recognise the fact. A wallet movement has no payment, and its event's id as operation.
    """

    operation_id: str
    kind: str
    part: int = 0
    payment_id: str | None
    reference: str
    postings: tuple[Posting, ...]


def due(payment: Payment, fees: FeePlan) -> tuple[BusinessFact, ...]:
    """All business facts that the payment's evidence supports, whether or not they are posted already."""
    charge = booked_charge(payment.operation, payment.facts)
    if charge is None:
        return ()
    assert charge.reference is not None
    captured = payment.money
    fee = fees.fee(captured)
    postings = [Posting(type="capture", debit=receivable(payment.operation.psp), credit=PENDING, money=captured)]
    if fee.amount > 0:
        postings.append(Posting(type="fee", debit=PENDING, credit=FEE_REVENUE, money=fee))
    return (
        BusinessFact(
            operation_id=payment.operation.id,
            kind="capture",
            payment_id=payment.id,
            reference=charge.reference,
            postings=tuple(postings),
        ),
    )
