"""What is to be put right, as a merchant's actor is told it."""

from __future__ import annotations

from dataclasses import dataclass

from paynode.domain.postings import Posting


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
