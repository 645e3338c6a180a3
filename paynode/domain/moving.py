"""What internal services ask for, movements of wallets and operations: applied, or refused and announced."""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from paynode.domain.booking import Effects, MerchantBooks, Surroundings, answer, post
from paynode.domain.payment import Payment
from paynode.domain.postings import AVAILABLE, SUSPENSE_INTERNAL, BusinessFact, Posting
from paynode.domain.publishing import (
    CaptureRequest,
    OutsideEvent,
    OutsideType,
    RefundRequest,
    Result,
    Verdict,
    WalletMovement,
)
from paynode.domain.requesting import Request, RequestKind

# Minor units. A million of the largest movements: a bound that no wallet reaches and no sum of bigints passes.
BALANCE_MAX: Final = 10**18


def move(
    books: MerchantBooks, event: OutsideEvent, movement: WalletMovement, ref: str | None, around: Surroundings
) -> tuple[MerchantBooks, Effects]:
    """Decide upon a movement: the books after it, and the effects to commit. `ref` is its row, if it has one."""
    refusal = _refusal(books, event.type, movement)
    if refusal is not None:
        return books, Effects(claim=ref, verdict=Verdict.of(event, Result.REFUSED, refusal))
    books, entries, adjustment = post(books, _business_fact(event, movement), around)
    verdict = Verdict.of(event, Result.APPLIED)
    return books, Effects(claim=ref, verdict=verdict, entries=entries, adjustments=(adjustment,))


def request_of(event: OutsideEvent, asked: RefundRequest | CaptureRequest) -> Request:
    """What a merchant would have asked for; the event's id recognises it, and is that of the operation."""
    match asked:
        case CaptureRequest():
            kind, is_final, reason = RequestKind.CAPTURE, asked.is_final, ""
        case RefundRequest():
            kind, is_final, reason = RequestKind.REFUND, False, asked.reason
    return Request(
        id=event.id, payment_id=asked.payment_id, kind=kind, amount=asked.amount, is_final=is_final, reason=reason
    )


def on_request(
    books: MerchantBooks,
    payment: Payment | None,
    event: OutsideEvent,
    asked: RefundRequest | CaptureRequest,
    ref: str | None,
    around: Surroundings,
) -> tuple[MerchantBooks, Payment | None, Effects]:
    """Decide upon a request about a payment as if its merchant had asked, and say so to the publisher."""
    if payment is None or payment.merchant_id != event.merchant_id:
        return books, payment, Effects(claim=ref, verdict=Verdict.of(event, Result.REFUSED, "payment_unknown"))
    books, payment, effects = answer(books, payment, request_of(event, asked), around)
    assert effects.decided is not None, "a request is decided upon"
    refusal = effects.decided.refusal
    verdict = Verdict.of(event, Result.APPLIED if refusal is None else Result.REFUSED, refusal)
    return books, payment, replace(effects, claim=ref, decided=None, verdict=verdict)


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
