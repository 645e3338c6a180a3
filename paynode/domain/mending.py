"""What is to be put right, as a merchant's actor is told it."""

from __future__ import annotations

from dataclasses import dataclass

from paynode.domain.postings import Posting
from paynode.domain.wallet import Delta


@dataclass(frozen=True, slots=True, kw_only=True)
class WalletCorrection:
    """What a wallet lacks of the fold of its ledger, in minor units; its id is its outbox row's.

    A difference, not the right amounts: what is booked meanwhile changes both sides alike, and the difference stays.
    """

    id: str
    currency: str
    delta: Delta

    @property
    def event_id(self) -> str:
        """What recognises its effect: the row, which is deleted with it."""
        return self.id


@dataclass(frozen=True, slots=True, kw_only=True)
class BooksAdjustment:
    """A posting that two operators have decided upon; its id is its outbox row's, and the posting's operation."""

    id: str
    posting: Posting
    payment_id: str | None
    reference: str

    @property
    def event_id(self) -> str:
        """What recognises its effect, for ever."""
        return self.id
