"""Which postings follow from a payment: the table of accounts, as code.

One posting moves an amount from a debit account to a credit account, so that it is balanced by construction. The
merchant's buckets are what paynode owes the merchant: a credit raises them, a debit lowers them.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

from paynode.domain.evidence import Limits, booked, surplus, was_given_up
from paynode.domain.money import Money
from paynode.domain.payment import GIVEN_UP, Fact, Operation, OperationKind, OperationState, Origin, Payment
from paynode.domain.record import record
from paynode.domain.terms import Split

PENDING: Final = "merchant:pending"
AVAILABLE: Final = "merchant:available"
RESERVE: Final = "merchant:reserve"
HELD: Final = "merchant:held"
FEE_REVENUE: Final = "fee_revenue"
PSP_FEES: Final = "psp_fee_expense"
BANK: Final = "bank"
PAYOUT_TRANSIT: Final = "payout_transit"
LOSS: Final = "loss"

# Where money that internal services move comes from and goes to, until somebody accounts for it.
SUSPENSE_INTERNAL: Final = "suspense:internal"


_CAPTURING: Final = (OperationKind.SALE, OperationKind.CAPTURE)


def receivable(psp: str) -> str:
    """What a PSP owes us."""
    return f"psp:{psp}:receivable"


def suspense(psp: str) -> str:
    """What a PSP moved and nobody can explain yet."""
    return f"suspense:{psp}"


@record
class Posting:
    """One line of a business fact. `type` says why the money moved."""

    type: str
    debit: str
    credit: str
    money: Money

    def __post_init__(self) -> None:
        if self.money.amount <= 0:
            raise ValueError(f"a posting moves a positive amount, not {self.money.amount}")
        if self.debit == self.credit:
            raise ValueError(f"a posting moves between two accounts, not within {self.debit}")


@record
class BusinessFact:
    """Postings that stand or fall together, and what recognises them: (operation, kind, part), once for ever.

    `reference` is the PSP's id of the charge, or the publisher's of a wallet movement, for reconciliation; it is never
    needed to recognise the fact. A wallet movement has no payment, and its event's id as operation.
    """

    operation_id: str
    kind: str
    part: int = 0
    payment_id: str | None
    reference: str
    postings: tuple[Posting, ...]

    @property
    def identity(self) -> tuple[str, str, int]:
        """What recognises it."""
        return self.operation_id, self.kind, self.part


def due(payment: Payment, limits: Limits) -> tuple[BusinessFact, ...]:
    """All business facts that operations and evidence support, whether or not they are posted already."""
    return tuple(fact for one in payment.operations for fact in _due(payment, one, limits))


def _due(payment: Payment, operation: Operation, limits: Limits) -> Iterator[BusinessFact]:
    facts = payment.facts_of(operation)
    match operation.kind:
        case OperationKind.SALE | OperationKind.CAPTURE:
            yield from _of_capture(payment, operation)
        case OperationKind.REFUND if operation.origin is Origin.SURPLUS:
            yield from _of_return(payment, operation)
        case OperationKind.REFUND:
            yield from _of_refund(payment, operation, facts, limits)
        case OperationKind.AUTHORIZE | OperationKind.VOID | OperationKind.CANCEL:
            return
    for part, fact in enumerate(surplus(operation, facts).values()):
        yield _of_surplus(payment, operation, fact, part)


def _of_capture(payment: Payment, operation: Operation) -> Iterator[BusinessFact]:
    if not _is_posted(operation):
        return
    captured, currency = operation.money, operation.money.currency
    split = split_of(payment, operation)
    postings = [Posting(type="capture", debit=receivable(operation.psp), credit=PENDING, money=captured)]
    postings += _some("fee", PENDING, FEE_REVENUE, split.fee, currency)
    held_back = _some("reserve", PENDING, RESERVE, split.reserve, currency)
    yield _fact(payment, operation, "capture", *postings, *held_back)
    if operation.state is OperationState.REVERSED:
        # Of what was held back only what has not been released since; the rest the merchant owes.
        left = _some("reversal", RESERVE, PENDING, operation.rest_reserve, currency)
        yield _fact(payment, operation, "reversal", *left, *(_mirror(one) for one in reversed(postings)))


def split_of(payment: Payment, operation: Operation) -> Split:
    """How a capture that is booked was divided."""
    return payment.terms.split(operation.money.amount, has_fixed_fee=_is_first_capture(payment, operation))


def _is_posted(operation: Operation) -> bool:
    return operation.state in (OperationState.APPROVED, OperationState.REVERSED)


def _is_first_capture(payment: Payment, operation: Operation) -> bool:
    """Whether of all captures this one came to the books first: with it goes the fixed fee, which is taken once."""
    captures = [one for one in payment.operations if one.kind in _CAPTURING and _is_posted(one)]
    firsts = {one.id: booked(one, payment.facts_of(one)) for one in captures}
    order = [fact.operation_id for fact in payment.facts if fact is firsts.get(fact.operation_id)]
    return order[:1] == [operation.id]


def _some(type: str, debit: str, credit: str, amount: int, currency: str) -> list[Posting]:  # noqa: A002 - the field's name
    money = Money(amount=amount, currency=currency)
    return [Posting(type=type, debit=debit, credit=credit, money=money)] if amount else []


def _of_refund(payment: Payment, operation: Operation, facts: Sequence[Fact], limits: Limits) -> Iterator[BusinessFact]:
    held = _hold(operation)
    yield _fact(payment, operation, "refund_hold", *held)
    is_released = operation.state in GIVEN_UP or was_given_up(operation, facts, limits)
    if is_released:
        yield _fact(payment, operation, "refund_release", *(_mirror(one, "refund_release") for one in held))
    if _is_posted(operation):
        # What is no longer held comes out of what is available, below zero if need be: the PSP has paid it.
        source = AVAILABLE if is_released else HELD
        yield _fact(
            payment,
            operation,
            "refund",
            Posting(type="refund", debit=source, credit=receivable(operation.psp), money=operation.money),
        )
    if operation.state is OperationState.REVERSED:
        back = Posting(type="refund_reversal", debit=receivable(operation.psp), credit=AVAILABLE, money=operation.money)
        yield _fact(payment, operation, "refund_reversal", back)


def _of_return(payment: Payment, operation: Operation) -> Iterator[BusinessFact]:
    """A surplus that the PSP has given back was never the merchant's: it leaves as it came."""
    if not _is_posted(operation):
        return
    debit, credit = suspense(operation.psp), receivable(operation.psp)
    back = Posting(type="surplus_return", debit=debit, credit=credit, money=operation.money)
    yield _fact(payment, operation, back.type, back)
    if operation.state is OperationState.REVERSED:
        yield _fact(payment, operation, "surplus_return_reversal", _mirror(back, "surplus_return_reversal"))


def _hold(operation: Operation) -> list[Posting]:
    currency = operation.money.currency
    return [
        *_some("refund_hold", AVAILABLE, HELD, operation.hold_available, currency),
        *_some("refund_hold", PENDING, HELD, operation.hold_pending, currency),
    ]


def _of_surplus(payment: Payment, operation: Operation, fact: Fact, part: int) -> BusinessFact:
    """Money that moved and that no legal state holds: kept apart until it is given back, or people have looked."""
    assert fact.amount is not None, "surplus has one"
    assert fact.currency is not None, "surplus has one"
    assert fact.reference is not None, "surplus has one"
    money = Money(amount=fact.amount, currency=fact.currency)
    psp = fact.psp or operation.psp
    debit, credit = receivable(psp), suspense(psp)
    if operation.kind is OperationKind.REFUND:
        debit, credit = credit, debit
    return BusinessFact(
        operation_id=operation.id,
        kind="surplus",
        part=part,
        payment_id=payment.id,
        reference=fact.reference,
        postings=(Posting(type="surplus", debit=debit, credit=credit, money=money),),
    )


def _mirror(posting: Posting, type: str = "reversal") -> Posting:  # noqa: A002 - the field's name
    return Posting(type=type, debit=posting.credit, credit=posting.debit, money=posting.money)


def _fact(payment: Payment, operation: Operation, kind: str, *postings: Posting) -> BusinessFact:
    return BusinessFact(
        operation_id=operation.id,
        kind=kind,
        payment_id=payment.id,
        reference=operation.reference or "",
        postings=postings,
    )
