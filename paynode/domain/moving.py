"""Wallet movements that internal services ask for: applied, or refused and announced; never in between."""

from __future__ import annotations

from typing import Final

from paynode.domain.booking import Effects, MerchantBooks, Surroundings, post
from paynode.domain.postings import AVAILABLE, SUSPENSE_INTERNAL, BusinessFact, Posting
from paynode.domain.publishing import OutsideEvent, OutsideType, Result, Verdict, WalletMovement

# Minor units. A million of the largest movements: a bound that no wallet reaches and no sum of bigints passes.
BALANCE_MAX: Final = 10**18


def move(
    books: MerchantBooks, event: OutsideEvent, ref: str | None, around: Surroundings
) -> tuple[MerchantBooks, Effects]:
    """Decide upon an outside event: the books after it, and the effects to commit. `ref` is its row, if it has one."""
    match event.data:
        case WalletMovement() as movement:
            refusal = _refusal(books, event.type, movement)
        case _:
            refusal = "not_supported_yet"  # refunds and captures on request come with the operations they make
    if refusal is not None or not isinstance(event.data, WalletMovement):
        return books, Effects(claim=ref, verdict=Verdict.of(event, Result.REFUSED, refusal))
    books, entries, adjustment = post(books, _business_fact(event, event.data), around)
    verdict = Verdict.of(event, Result.APPLIED)
    return books, Effects(claim=ref, verdict=verdict, entries=entries, adjustments=(adjustment,))


def _refusal(books: MerchantBooks, event_type: OutsideType, movement: WalletMovement) -> str | None:
    """Why it cannot be; None when it can. Only what is available may be taken: the rest is not the merchant's yet."""
    available, amount = books.wallet(movement.money.currency).available, movement.money.amount
    if event_type is OutsideType.WALLET_DEBIT:
        return "insufficient_funds" if amount > available else None
    return "balance_limit" if available + amount > BALANCE_MAX else None


def _business_fact(event: OutsideEvent, movement: WalletMovement) -> BusinessFact:
    is_credit = event.type is OutsideType.WALLET_CREDIT
    posting = Posting(
        type="credit" if is_credit else "debit",
        debit=SUSPENSE_INTERNAL if is_credit else AVAILABLE,
        credit=AVAILABLE if is_credit else SUSPENSE_INTERNAL,
        money=movement.money,
    )
    return BusinessFact(
        operation_id=event.id,
        kind=posting.type,
        payment_id=None,
        reference=movement.reference,
        postings=(posting,),
    )
