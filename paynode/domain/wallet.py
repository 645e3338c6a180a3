"""The wallet of a merchant in one currency: the fold of its ledger, and nothing else."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from paynode.domain.postings import AVAILABLE, HELD, PENDING, RESERVE, Posting
from paynode.domain.record import record

_PLACES: Final = {PENDING: 0, AVAILABLE: 1, RESERVE: 2, HELD: 3}


@record
class Delta:
    """What postings change in the four buckets, in minor units."""

    pending: int = 0
    available: int = 0
    reserve: int = 0
    held: int = 0

    @property
    def total(self) -> int:
        """The change of the balance."""
        return self.pending + self.available + self.reserve + self.held

    @classmethod
    def of(cls, postings: Iterable[Posting]) -> Delta:
        """A credit to a bucket raises it, a debit lowers it; other accounts are not the wallet's."""
        changes = [0, 0, 0, 0, 0]
        for posting in postings:
            changes[_PLACES.get(posting.credit, -1)] += posting.money.amount
            changes[_PLACES.get(posting.debit, -1)] -= posting.money.amount
        pending, available, reserve, held, _ = changes
        return cls(pending=pending, available=available, reserve=reserve, held=held)


@record
class Wallet:
    """`balance` is what paynode owes the merchant: pending + available + reserve + held, in minor units.

    `maturing` is what captures have still to make available. When the merchant owes something, less than that is
    pending: what matures pays the debt first.
    """

    currency: str
    pending: int = 0
    available: int = 0
    reserve: int = 0
    held: int = 0
    version: int = 0
    maturing: int = 0

    @property
    def balance(self) -> int:
        """The sum of the buckets."""
        return self.pending + self.available + self.reserve + self.held

    @property
    def matured(self) -> int:
        """What is pending although nothing keeps it there any more."""
        return max(self.pending - self.maturing, 0)

    @property
    def payable(self) -> int:
        """What may be paid out: what is available, less what the merchant owes elsewhere."""
        return max(self.available + min(self.pending, 0) + min(self.reserve, 0), 0)

    def apply(self, delta: Delta) -> Wallet:
        """The wallet after one business fact, one version later."""
        return Wallet(
            currency=self.currency,
            pending=self.pending + delta.pending,
            available=self.available + delta.available,
            reserve=self.reserve + delta.reserve,
            held=self.held + delta.held,
            version=self.version + 1,
            maturing=self.maturing,
        )
