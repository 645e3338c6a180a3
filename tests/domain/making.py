"""Payments, facts and what surrounds a decision, as these tests need them: 10.00 EUR at the PSP `sim`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from itertools import count
from typing import Final

from paynode.domain.booking import Effects, MerchantBooks, Surroundings, answer, book
from paynode.domain.deciding import Policy
from paynode.domain.money import FeePlan, Money
from paynode.domain.payment import Fact, Method, Operation, OperationKind, Payment, Source, Status
from paynode.domain.psp import Outcome
from paynode.domain.requesting import Refusal, Request, RequestKind
from paynode.domain.terms import Terms

PAYMENT: Final = "01890a5d-ac96-774b-bcce-b302099a8057"
OPERATION: Final = "01890a5d-ac96-774b-bcce-b302099a8058"
MERCHANT: Final = "01890a5d-ac96-774b-bcce-b302099a8059"
EUROS_10: Final = Money(amount=1000, currency="EUR")
TERMS: Final = Terms(fees=FeePlan(fixed=25, basis_points=150))
POLICY: Final = Policy(
    inquiry_ladder_ms=(5_000, 30_000, 120_000),
    not_sent_tries_max=3,
    not_sent_retry_ms=1_000,
    not_sent_retry_max_ms=3_000,
)

LIMITS: Final = POLICY.limits

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
    kind: OperationKind = OperationKind.SALE,
    terms: Terms = TERMS,
) -> Payment:
    return Payment(
        id=id,
        merchant_id=merchant_id,
        money=money,
        method=method,
        terms=terms,
        operations=(Operation(id=operation_id, kind=kind, money=money, psp="sim"),),
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
    psp: str | None = None,
) -> Fact:
    return Fact(
        event_id=event_id or new_id(),
        payment_id=about.id if about else PAYMENT,
        operation_id=about.charge.id if about else OPERATION,
        outcome=outcome,
        source=source,
        reference=reference,
        amount=amount,
        currency=currency,
        page_url=page_url,
        reason=reason,
        psp_at_ms=psp_at_ms,
        psp=psp,
    )


def charge(
    reference: str | None = "ch_1",
    *,
    amount: int | None = 1000,
    currency: str | None = "EUR",
    about: Payment | None = None,
    event_id: str | None = None,
    psp: str | None = None,
) -> Fact:
    """The PSP says that it charged; as asked, unless told otherwise. `psp`: which one, None: that has it."""
    return fact(
        Outcome.APPROVED,
        reference=reference,
        amount=amount,
        currency=currency,
        about=about,
        event_id=event_id,
        psp=psp,
    )


def around(now_ms: int = 1_700_000_000_000, epoch: int = 7, new_id: Callable[[], str] = new_id) -> Surroundings:
    """Surroundings without chance: pauses are what the policy says."""
    return Surroundings(
        now_ms=now_ms, new_id=new_id, between_ms=lambda low, high: (low + high) // 2, epoch=epoch, policy=POLICY
    )


@dataclass
class History:
    """One payment and its merchant's books, with everything that evidence and requests led to."""

    payment: Payment = field(default_factory=payment)
    books: MerchantBooks = field(default_factory=lambda: MerchantBooks(merchant_id=MERCHANT))
    effects: list[Effects] = field(default_factory=list)
    policy: Policy = POLICY

    def tell(self, *facts: Fact) -> History:
        for one in facts:
            self.books, self.payment, effects = book(self.books, self.payment, one, self._around)
            self.effects.append(effects)
        return self

    def happen(
        self, outcome: Outcome, *, of: int = -1, reference: str | None = None, page_url: str | None = None
    ) -> History:
        """The PSP says something about an operation, the last one unless told otherwise."""
        told = fact(outcome, reference=reference, page_url=page_url)
        return self.tell(replace(told, operation_id=self.payment.operations[of].id))

    def succeed(self, of: int = -1, reference: str | None = None) -> History:
        """The PSP has done what an operation asks for, exactly."""
        operation = self.payment.operations[of]
        done = charge(reference or f"ref_{operation.id}", amount=operation.money.amount)
        return self.tell(replace(done, operation_id=operation.id))

    def take_back(self, of: int = -1) -> History:
        """The PSP takes back what it has done for an operation, exactly."""
        operation = self.payment.operations[of]
        done = charge(operation.reference, amount=operation.money.amount)
        return self.tell(replace(done, outcome=Outcome.REVERSED, operation_id=operation.id))

    def ask(
        self,
        kind: RequestKind,
        *,
        amount: int | None = None,
        is_final: bool = False,
        expected_version: int | None = None,
    ) -> History:
        request = Request(
            id=new_id(),
            payment_id=self.payment.id,
            kind=kind,
            amount=amount,
            is_final=is_final,
            expected_version=expected_version,
        )
        self.books, self.payment, effects = answer(self.books, self.payment, request, self._around)
        self.effects.append(effects)
        return self

    @property
    def refusal(self) -> Refusal | None:
        """Why the last request could not be."""
        decided = self.effects[-1].decided
        assert decided is not None, "the last one was no request"
        return decided.refusal

    def with_wallet(self, *, available: int) -> History:
        """As if the merchant had this much available."""
        wallet = replace(self.books.wallet("EUR"), available=available)
        self.books = replace(self.books, wallets={"EUR": wallet})
        return self

    def given(self, change: Callable[[Policy], Policy]) -> History:
        self.policy = change(self.policy)
        return self

    @property
    def _around(self) -> Surroundings:
        return replace(around(), policy=self.policy)


def told(facts: Sequence[Fact], about: Payment | None = None) -> History:
    """The history of a payment of which these facts became known in this order."""
    return History(payment=about or payment()).tell(*facts)
