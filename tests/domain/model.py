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
    """What the merchant must be shown, and what must stand in the books but for what is given back."""

    status: str
    captured: int
    pending: int
    postings: list[tuple[str, str, int]]


def expected(  # noqa: C901 - one rule after the other, as the design has them
    payment: Payment,
    facts: Sequence[Fact],
    *,
    tries_max: int,
    doubts_max: int,
    fixed: int,
    basis_points: int,
    is_given_back: bool,
) -> Expected:
    """`is_given_back`: it succeeded after it had been given up, and a refund of it is under way."""
    elsewhere = [fact for fact in facts if fact.psp not in (None, "sim")]
    moved = {
        (fact.psp, fact.reference, fact.amount, fact.currency) for fact in elsewhere if fact.outcome.value == "approved"
    }
    is_elsewhere = any(fact.outcome.value in ("approved", "reversed") for fact in elsewhere)
    facts = [fact for fact in facts if fact.psp in (None, "sim")]
    asked, said = payment.money, {fact.outcome.value for fact in facts}
    charges = {(fact.reference, fact.amount, fact.currency) for fact in facts if fact.outcome.value == "approved"}
    right = {one for one in charges if one[0] is not None and one[1:] == (asked.amount, asked.currency)}
    taken = {(fact.reference, fact.amount, fact.currency) for fact in facts if fact.outcome.value == "reversed"}
    gone = {one for one in taken if one[0] is not None and one[1:] == (asked.amount, asked.currency)}
    calls = {(fact.event_id, fact.outcome.value) for fact in facts}
    unsent, doubts = (sum(outcome == name for _, outcome in calls) for name in ("not_sent", "unknown"))
    is_booked = bool(right or gone)  # what was taken back had been given
    is_reversed = bool(gone)
    is_denied = bool(charges) and bool(said & {"declined", "expired"}) and not is_given_back

    is_contradicted = charges | taken != right | gone or len(right | gone) > 1 or is_denied
    if is_elsewhere or is_contradicted or (is_reversed and is_given_back):
        status = "review"  # the evidence contradicts the terms, itself or what we did: people must look
    elif is_booked:
        status = "failed" if is_reversed else "captured"
    elif said & {"declined", "expired"}:
        status = "declined" if "declined" in said else "expired"
    elif "pending" in said:
        status = "requires_action"
    elif "absent" in said:
        status = "failed"
    elif "unknown" in said:
        status = "unknown" if doubts <= doubts_max else "review"  # no timer ends it: the PSP was asked in vain
    elif unsent >= tries_max:
        status = "failed"
    elif "held" in said:
        status = "review"
    else:
        status = "created" if payment.method.value == "hosted_page" else "processing"

    aside = [(psp, asked.amount) for psp, *rest in moved if rest[0] and rest[1:] == [asked.amount, asked.currency]]
    surplus = [(f"psp:{psp}:receivable", f"suspense:{psp}", amount) for psp, amount in aside]
    if not is_booked:
        return Expected(status=status, captured=0, pending=0, postings=surplus)
    fee = min(asked.amount, fixed + int(Fraction(asked.amount * basis_points, 10_000) + Fraction(1, 2)))
    postings = [("psp:sim:receivable", "merchant:pending", asked.amount), ("merchant:pending", "fee_revenue", fee)]
    if is_reversed:
        postings += [(credit, debit, amount) for debit, credit, amount in postings]
    postings += [("psp:sim:receivable", "suspense:sim", asked.amount)] * max(len(right) - 1, 0) + surplus
    return Expected(
        status=status,
        captured=0 if is_reversed and not is_given_back else asked.amount,
        pending=0 if is_reversed else asked.amount - fee,
        postings=[one for one in postings if one[2] > 0],
    )
