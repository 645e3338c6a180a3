"""What is still to become available, and what of it a posting takes, ends or gives back.

One rule decides how much moves: what is pending and nothing keeps there any more becomes available. Each capture keeps
what is left of its own net (`Operation.rest_pending`), and the wallet knows their sum (`Wallet.maturing`). A merchant
who owes something has less than that pending: then what matures pays the debt, and only the rest moves.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from enum import StrEnum
from hashlib import sha256

from paynode.domain.ids import uuid_of
from paynode.domain.money import Money
from paynode.domain.payment import Operation, Payment
from paynode.domain.postings import AVAILABLE, PENDING, RESERVE, BusinessFact, Posting, split_of
from paynode.domain.terms import Terms
from paynode.domain.wallet import Delta, Wallet


class MaturityKind(StrEnum):
    """What has come: the names of the messages."""

    AVAILABLE = "capture.mature"
    RESERVE = "reserve.release"


@dataclass(frozen=True, slots=True, kw_only=True)
class Maturity:
    """The time has come for a capture, or for what is held back of it; its id is its outbox row's."""

    id: str
    payment_id: str
    operation_id: str
    kind: MaturityKind

    @property
    def event_id(self) -> str:
        """What recognises its effect; that nothing is left to mature says the same."""
        return self.id


@dataclass(frozen=True, slots=True, kw_only=True)
class Due:
    """What has come by the calendar, and whose it is."""

    merchant_id: str
    payment_id: str
    operation_id: str
    kind: MaturityKind

    @property
    def maturity(self) -> Maturity:
        """What the actor is told. The id follows from what has come: telling it twice is telling it once."""
        return Maturity(
            id=uuid_of(sha256(f"{self.kind}|{self.operation_id}".encode()).digest()),
            payment_id=self.payment_id,
            operation_id=self.operation_id,
            kind=self.kind,
        )


def rescheduled(payment: Payment, wallet: Wallet, fact: BusinessFact, now_ms: int) -> tuple[Payment, Wallet]:
    """What a fact that has just been posted changes of what is to come."""
    before = _maturing(payment)
    operation, delta = payment.operation(fact.operation_id), Delta.of(fact.postings)
    if operation is None:
        return payment, wallet
    match fact.kind:
        case "capture":
            payment = payment.with_operation_changed(_begun(operation, delta, payment.terms, now_ms))
        case "reversal":
            payment = payment.with_operation_changed(_ended(operation))
        case "refund_hold":
            payment = _drawn(payment, -delta.pending)
        case "refund_release":
            payment = _given_back(payment, delta.pending)
        case _:
            return payment, wallet
    return payment, replace(wallet, maturing=wallet.maturing + _maturing(payment) - before)


def matured(payment: Payment, wallet: Wallet, operation: Operation) -> tuple[Payment, Wallet]:
    """A capture keeps nothing pending any more."""
    changed = replace(operation, is_maturing=False, matures_at_ms=None, rest_pending=0)
    wallet = replace(wallet, maturing=wallet.maturing - operation.rest_pending)
    return payment.with_operation_changed(changed), wallet


def released(payment: Payment, operation: Operation) -> Payment:
    """Nothing of a capture is held back any more."""
    return payment.with_operation_changed(replace(operation, releases_at_ms=None, rest_reserve=0))


def availability(payment: Payment, operation: Operation, wallet: Wallet) -> BusinessFact | None:
    """What becomes available now, because of this operation; None: nothing does."""
    return _moved(payment, operation, "available", PENDING, wallet.matured)


def release(payment: Payment, operation: Operation) -> BusinessFact | None:
    """What is held back of a capture becomes available; None: nothing is."""
    return _moved(payment, operation, "reserve_release", RESERVE, operation.rest_reserve)


def _moved(payment: Payment, operation: Operation, kind: str, bucket: str, amount: int) -> BusinessFact | None:
    if not amount:
        return None
    money = Money(amount=amount, currency=operation.money.currency)
    posting = Posting(type=kind, debit=bucket, credit=AVAILABLE, money=money)
    return BusinessFact(
        operation_id=operation.id,
        kind=kind,
        payment_id=payment.id,
        reference=operation.reference or "",
        postings=(posting,),
    )


def _begun(operation: Operation, delta: Delta, terms: Terms, now_ms: int) -> Operation:
    return replace(
        operation,
        is_maturing=True,
        matures_at_ms=terms.available_at_ms(now_ms),
        rest_pending=delta.pending,
        releases_at_ms=terms.released_at_ms(now_ms) if delta.reserve else None,
        rest_reserve=delta.reserve,
    )


def _ended(operation: Operation) -> Operation:
    return replace(
        operation, is_maturing=False, matures_at_ms=None, rest_pending=0, releases_at_ms=None, rest_reserve=0
    )


def _drawn(payment: Payment, amount: int) -> Payment:
    """A hold takes what its own payment's captures keep first, the earliest foremost."""
    for one in _captures(payment):
        taken = min(amount, one.rest_pending)
        payment = payment.with_operation_changed(replace(one, rest_pending=one.rest_pending - taken))
        amount -= taken
    return payment


def _given_back(payment: Payment, amount: int) -> Payment:
    """A hold that is released fills up what is still maturing; what has matured meanwhile is not kept again."""
    for one in _captures(payment):
        filled = min(amount, split_of(payment, one).rest - one.rest_pending)
        payment = payment.with_operation_changed(replace(one, rest_pending=one.rest_pending + filled))
        amount -= filled
    return payment


def _captures(payment: Payment) -> Iterator[Operation]:
    return (one for one in payment.operations if one.is_maturing)


def _maturing(payment: Payment) -> int:
    return sum(one.rest_pending for one in payment.operations)
