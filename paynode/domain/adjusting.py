"""What operators put right: by postings that compensate.

Nothing is edited. A posting that was wrong stays, and another one beside it says what is right.
"""

from __future__ import annotations

from paynode.domain.booking import Effects, MerchantBooks, Surroundings, post
from paynode.domain.mending import BooksAdjustment
from paynode.domain.postings import BusinessFact


def adjust(books: MerchantBooks, adjustment: BooksAdjustment, around: Surroundings) -> tuple[MerchantBooks, Effects]:
    """Post what was decided."""
    fact = BusinessFact(
        operation_id=adjustment.id,
        kind="adjustment",
        payment_id=adjustment.payment_id,
        reference=adjustment.reference,
        postings=(adjustment.posting,),
    )
    books, lines = post(books, fact, around)
    return books, Effects(claim=adjustment.id, entries=lines.entries, adjustments=lines.adjustments)
