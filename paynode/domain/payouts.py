"""Payouts as an internal service instructs them: the money leaves what is available, then the bank, or comes back."""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import StrEnum

from paynode.domain.money import Money
from paynode.domain.postings import AVAILABLE, BANK, PAYOUT_TRANSIT, BusinessFact, Posting


class PayoutState(StrEnum):
    """Where a payout stands; the last two are its ends."""

    CREATED = "created"
    PAID = "paid"
    FAILED = "failed"


@dataclass(frozen=True, slots=True, kw_only=True)
class Payout:
    """One payout; its id is that of the event that asked for it, `reference` the publisher's own."""

    id: str
    merchant_id: str
    money: Money
    reference: str
    state: PayoutState = PayoutState.CREATED

    def ended(self, state: PayoutState) -> Payout:
        """The bank has paid it, or could not."""
        return replace(self, state=state)


def creation(payout: Payout) -> BusinessFact:
    """What the merchant no longer has."""
    return _fact(payout, "payout", Posting(type="payout", debit=AVAILABLE, credit=PAYOUT_TRANSIT, money=payout.money))


def ending(payout: Payout) -> BusinessFact:
    """Where it has gone. Both ends have one name: of the two the books take one."""
    is_paid = payout.state is PayoutState.PAID
    posting = Posting(
        type="payout_paid" if is_paid else "payout_failed",
        debit=PAYOUT_TRANSIT,
        credit=BANK if is_paid else AVAILABLE,
        money=payout.money,
    )
    return _fact(payout, "payout_end", posting)


def _fact(payout: Payout, kind: str, posting: Posting) -> BusinessFact:
    return BusinessFact(
        operation_id=payout.id, kind=kind, payment_id=None, reference=payout.reference, postings=(posting,)
    )
