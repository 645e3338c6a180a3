"""What reconciliation and operators put right: a wallet that is not what its ledger says, and postings that compensate.

Nothing is edited. A posting that was wrong stays, and another one beside it says what is right.
"""

from __future__ import annotations

from paynode.domain.booking import Effects, MerchantBooks, Surroundings, post
from paynode.domain.mending import BooksAdjustment, WalletCorrection
from paynode.domain.postings import BusinessFact


def correct(books: MerchantBooks, correction: WalletCorrection) -> tuple[MerchantBooks, Effects]:
    """Make a wallet what its ledger says. Nothing is posted: the ledger was right."""
    wallet = books.wallet(correction.currency).apply(correction.delta)
    return books.with_wallet(wallet), Effects(claim=correction.id)


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
