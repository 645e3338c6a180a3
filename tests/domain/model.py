"""A second, simpler paynode: what a payment and a wallet must be, said once more from the design alone.

It folds nothing and knows no order: it looks at the whole evidence at once. Where it and the real one differ, one of
the two has misunderstood the design.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

from paynode.domain.payment import Fact, Payment


@dataclass(frozen=True)
class Expected:
    """What the merchant must be shown, and what must stand in the books."""

    status: str
    captured: int
    pending: int
    postings: frozenset[tuple[str, str, int]]


def expected(payment: Payment, facts: Sequence[Fact], *, tries_max: int, fixed: int, basis_points: int) -> Expected:
    asked, said = payment.money, {fact.outcome.value for fact in facts}
    charges = {(fact.reference, fact.amount, fact.currency) for fact in facts if fact.outcome.value == "approved"}
    right = {one for one in charges if one[0] is not None and one[1:] == (asked.amount, asked.currency)}
    unsent_calls = {fact.event_id for fact in facts if fact.outcome.value == "not_sent"}

    if charges and (charges != right or len(right) > 1 or said & {"declined", "expired"}):
        status = "review"  # the evidence contradicts the terms or itself: people must look
    elif right:
        status = "captured"
    elif said & {"declined", "expired"}:
        status = "declined" if "declined" in said else "expired"
    elif "pending" in said:
        status = "requires_action"
    elif "unknown" in said:
        status = "unknown"  # no timer and no count of anything ends it
    elif len(unsent_calls) >= tries_max:
        status = "failed"
    else:
        status = "created" if payment.method.value == "hosted_page" else "processing"

    if not right:
        return Expected(status=status, captured=0, pending=0, postings=frozenset())
    fee = min(asked.amount, fixed + int(Fraction(asked.amount * basis_points, 10_000) + Fraction(1, 2)))
    postings = {("psp:sim:receivable", "merchant:pending", asked.amount), ("merchant:pending", "fee_revenue", fee)}
    return Expected(
        status=status,
        captured=asked.amount,
        pending=asked.amount - fee,
        postings=frozenset(one for one in postings if one[2] > 0),
    )
