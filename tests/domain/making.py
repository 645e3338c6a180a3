"""Payments, facts and what surrounds a decision, as these tests need them: 10.00 EUR at the PSP `sim`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import count
from typing import Final

from paynode.domain.booking import Effects, MerchantBooks, Surroundings, book
from paynode.domain.deciding import Policy
from paynode.domain.money import FeePlan, Money
from paynode.domain.payment import Fact, Method, Operation, OperationKind, Payment, Source, Status
from paynode.domain.psp import Outcome

PAYMENT: Final = "01890a5d-ac96-774b-bcce-b302099a8057"
OPERATION: Final = "01890a5d-ac96-774b-bcce-b302099a8058"
MERCHANT: Final = "01890a5d-ac96-774b-bcce-b302099a8059"
EUROS_10: Final = Money(amount=1000, currency="EUR")
FEES: Final = FeePlan(fixed=25, basis_points=150)
POLICY: Final = Policy(
    inquiry_ladder_ms=(5_000, 30_000, 120_000),
    not_sent_tries_max=3,
    not_sent_retry_ms=1_000,
    not_sent_retry_max_ms=3_000,
)

_numbers = count(1)


def new_id() -> str:
    """An id that no other has; of the form of a UUIDv7."""
    return f"01890a5d-0000-7000-8000-{next(_numbers):012x}"


def payment(
    *,
    method: Method = Method.TOKEN,
    money: Money = EUROS_10,
    id: str = PAYMENT,  # noqa: A002 - the field's name
    operation_id: str = OPERATION,
    merchant_id: str = MERCHANT,
) -> Payment:
    return Payment(
        id=id,
        merchant_id=merchant_id,
        money=money,
        method=method,
        operation=Operation(id=operation_id, kind=OperationKind.SALE, money=money, psp="sim"),
        status=Status.CREATED if method is Method.HOSTED_PAGE else Status.PROCESSING,
    )


def fact(
    outcome: Outcome,
    *,
    event_id: str | None = None,
    reference: str | None = None,
    amount: int | None = None,
    currency: str | None = None,
    page_url: str | None = None,
    about: Payment | None = None,
    source: Source = Source.ANSWER,
    reason: str = "",
    psp_at_ms: int | None = None,
) -> Fact:
    return Fact(
        event_id=event_id or new_id(),
        payment_id=about.id if about else PAYMENT,
        operation_id=about.operation.id if about else OPERATION,
        outcome=outcome,
        source=source,
        reference=reference,
        amount=amount,
        currency=currency,
        page_url=page_url,
        reason=reason,
        psp_at_ms=psp_at_ms,
    )


def charge(
    reference: str | None = "ch_1",
    *,
    amount: int | None = 1000,
    currency: str | None = "EUR",
    about: Payment | None = None,
    event_id: str | None = None,
) -> Fact:
    """The PSP says that it charged; as asked, unless told otherwise."""
    return fact(Outcome.APPROVED, reference=reference, amount=amount, currency=currency, about=about, event_id=event_id)


def around(now_ms: int = 1_700_000_000_000, epoch: int = 7, new_id: Callable[[], str] = new_id) -> Surroundings:
    """Surroundings without chance: pauses are what the policy says."""
    return Surroundings(now_ms=now_ms, new_id=new_id, jitter_ms=lambda pause: pause, epoch=epoch, policy=POLICY)


@dataclass
class History:
    """One payment and its merchant's books, with everything that its evidence led to."""

    payment: Payment = field(default_factory=payment)
    books: MerchantBooks = field(default_factory=lambda: MerchantBooks(merchant_id=MERCHANT, fees=FEES))
    effects: list[Effects] = field(default_factory=list)

    def tell(self, *facts: Fact) -> History:
        for one in facts:
            self.books, self.payment, effects = book(self.books, self.payment, one, around())
            self.effects.append(effects)
        return self


def told(facts: Sequence[Fact], about: Payment | None = None) -> History:
    """The history of a payment of which these facts became known in this order."""
    return History(payment=about or payment()).tell(*facts)
