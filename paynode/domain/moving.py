"""What internal services ask for, movements of wallets, payouts and operations: applied, or refused and announced."""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from paynode.domain.booking import Effects, MerchantBooks, Surroundings, answer, post
from paynode.domain.payment import Payment
from paynode.domain.payouts import Payout, PayoutState, creation, ending
from paynode.domain.postings import AVAILABLE, LOSS, SUSPENSE_INTERNAL, BusinessFact, Posting
from paynode.domain.publishing import (
    CaptureRequest,
    OutsideEvent,
    OutsideType,
    PayoutEnd,
    PayoutOrder,
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
    return _applied(books, _business_fact(event, movement), event, ref, around)


def pay_out(
    books: MerchantBooks, event: OutsideEvent, order: PayoutOrder, ref: str | None, around: Surroundings
) -> tuple[MerchantBooks, Effects]:
    """Decide upon a payout: only what is available and covers what the merchant owes elsewhere may leave."""
    if order.money.amount > books.wallet(order.money.currency).payable:
        return books, Effects(claim=ref, verdict=Verdict.of(event, Result.REFUSED, "insufficient_funds"))
    payout = Payout(id=event.id, merchant_id=books.merchant_id, money=order.money, reference=order.reference)
    books = replace(books, payouts={**books.payouts, payout.id: payout})
    books, effects = _applied(books, creation(payout), event, ref, around)
    return books, replace(effects, payout=payout)


def end_payout(
    books: MerchantBooks, event: OutsideEvent, end: PayoutEnd, ref: str | None, around: Surroundings
) -> tuple[MerchantBooks, Effects]:
    """Decide upon the end of a payout; of one that has ended, or never was, nothing more is believed."""
    payout = books.payouts.get(end.payout_id)
    if payout is None:
        return books, Effects(claim=ref, verdict=Verdict.of(event, Result.REFUSED, "payout_not_open"))
    payout = payout.ended(PayoutState.PAID if event.type is OutsideType.PAYOUT_PAID else PayoutState.FAILED)
    books = replace(books, payouts={key: one for key, one in books.payouts.items() if key != payout.id})
    books, effects = _applied(books, ending(payout), event, ref, around)
    return books, replace(effects, payout=payout)


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


def _applied(
    books: MerchantBooks, fact: BusinessFact, event: OutsideEvent, ref: str | None, around: Surroundings
) -> tuple[MerchantBooks, Effects]:
    books, lines = post(books, fact, around)
    verdict = Verdict.of(event, Result.APPLIED)
    return books, Effects(claim=ref, verdict=verdict, entries=lines.entries, adjustments=lines.adjustments)


def _refusal(books: MerchantBooks, event_type: OutsideType, movement: WalletMovement) -> str | None:
    """Why it cannot be; None when it can. Only what is available may be taken: the rest is not the merchant's yet."""
    available, amount = books.wallet(movement.money.currency).available, movement.money.amount
    if event_type is OutsideType.WALLET_DEBIT:
        return "insufficient_funds" if amount > available else None
    if event_type is OutsideType.WALLET_WRITE_OFF:
        return "nothing_to_write_off" if amount > -available else None
    return "balance_limit" if available + amount > BALANCE_MAX else None


# What a movement is called in the ledger, where the money comes from and where it goes.
_POSTINGS: Final = {
    OutsideType.WALLET_CREDIT: ("credit", SUSPENSE_INTERNAL, AVAILABLE),
    OutsideType.WALLET_DEBIT: ("debit", AVAILABLE, SUSPENSE_INTERNAL),
    OutsideType.WALLET_WRITE_OFF: ("write_off", LOSS, AVAILABLE),
}


def _business_fact(event: OutsideEvent, movement: WalletMovement) -> BusinessFact:
    name, debit, credit = _POSTINGS[event.type]
    return BusinessFact(
        operation_id=event.id,
        kind=name,
        payment_id=None,
        reference=movement.reference,
        postings=(Posting(type=name, debit=debit, credit=credit, money=movement.money),),
    )
