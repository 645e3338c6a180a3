"""The core, driven by the same steps: its pure functions as actors and the committer use them, and a naive fold."""

from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime
from typing import Final

from paynode.domain.booking import Effects, MerchantBooks, Surroundings, answer, book
from paynode.domain.deciding import Policy
from paynode.domain.ledger import Entry
from paynode.domain.money import FeePlan, Money
from paynode.domain.moving import move
from paynode.domain.payment import Fact, Method, Operation, OperationKind, Payment, Source, Status
from paynode.domain.psp import Outcome
from paynode.domain.publishing import OutsideEvent, OutsideType, WalletMovement
from paynode.domain.requesting import Request, RequestKind
from tests.audit.dossier import DOUBTS_MAX
from tests.audit.steps import Accept, Accounts, Ask, Join, Move, Say, Step

_BEGIN_MS: Final = 1_700_000_000_000
_BEGIN: Final = datetime(2026, 1, 1, tzinfo=UTC)
_POLICY: Final = Policy(
    inquiry_ladder_ms=(5_000,) * DOUBTS_MAX, not_sent_tries_max=3, not_sent_retry_ms=1_000, not_sent_retry_max_ms=3_000
)
_MOVES: Final = {"credit": OutsideType.WALLET_CREDIT, "debit": OutsideType.WALLET_DEBIT}
BUCKETS: Final = ("pending", "available", "reserve", "held")


class Core:
    """What the database would hold."""

    def __init__(self) -> None:
        self.accounts: Accounts = {}
        self.wallets: Accounts = {}  # the buckets of the wallets' rows
        self.broken: list[str] = []  # laws that its rows broke
        self.met = Counter[str]()  # types of postings, and replies
        self.books: dict[str, MerchantBooks] = {}
        self.payments: dict[str, Payment] = {}
        self._places: dict[str, tuple[str, str]] = {}  # payment and id of each operation, by its name
        self._claimed: set[str] = set()
        self._keys: set[tuple[str, str, int]] = set()
        self._ids: dict[str, str] = {}
        self._count = 0

    def hear(self, step: Step) -> str | None:
        """What a step changes. Returns why it is refused; None when it is not."""
        match step:
            case Join():
                plan = FeePlan(fixed=step.terms.fixed, basis_points=step.terms.fee)
                self.books[step.merchant] = MerchantBooks(merchant_id=self._id(step.merchant), fees=plan)
            case Accept():
                self._accept(step)
            case Ask():
                return self._ask(step)
            case Say():
                self._say(step)
            case Move():
                return self._move(step)
        return None

    def _new_id(self) -> str:
        self._count += 1
        return f"01890a5d-0000-7000-8000-{self._count:012x}"

    def _id(self, name: str) -> str:
        if name not in self._ids:
            self._ids[name] = self._new_id()
        return self._ids[name]

    def _around(self) -> Surroundings:
        return Surroundings(
            now_ms=_BEGIN_MS, new_id=self._new_id, between_ms=lambda low, high: low, epoch=1, policy=_POLICY
        )

    # -- steps --------------------------------------------------------------------------------------------------------

    def _accept(self, step: Accept) -> None:
        money = Money(amount=step.amount, currency=step.currency)
        charge = Operation(id=self._id(step.payment), kind=OperationKind(step.kind), money=money, psp=step.psp)
        self.payments[step.payment] = Payment(
            id=self._id(f"payment {step.payment}"),
            merchant_id=self._id(step.merchant),
            money=money,
            method=Method.TOKEN,
            operations=(charge,),
            status=Status.PROCESSING,
        )
        self._places[step.payment] = step.payment, charge.id

    def _ask(self, step: Ask) -> str | None:
        payment = self.payments.get(step.payment)
        if payment is None or step.request in self._claimed:
            return "skipped"
        self._claimed.add(step.request)
        request = Request(
            id=self._id(step.request),
            payment_id=payment.id,
            kind=RequestKind(step.kind),
            amount=step.amount,
            is_final=step.is_final,
        )
        merchant = self._merchant_of(payment)
        books, payment, effects = answer(self.books[merchant], payment, request, self._around())
        self._commit(merchant, books, effects)
        self.payments[step.payment] = payment
        assert effects.decided is not None, "a request is decided upon"
        if effects.decided.refusal is None:
            self._places[step.request] = step.payment, request.id
        return effects.decided.refusal

    def _say(self, step: Say) -> None:
        if step.operation not in self._places:
            return
        name, operation_id = self._places[step.operation]
        payment = self.payments[name]
        operation = payment.operation(operation_id)
        assert operation is not None, "it was made"
        is_claim = step.outcome in ("approved", "reversed")
        fact = Fact(
            event_id=self._id(step.event),
            payment_id=payment.id,
            operation_id=operation_id,
            outcome=Outcome(step.outcome),
            source=Source.ANSWER,
            reference=f"ref_{step.operation}" if is_claim else None,
            amount=operation.money.amount + step.surplus if is_claim and operation.kind != "void" else None,
            currency=operation.money.currency if is_claim else None,
        )
        merchant = self._merchant_of(payment)
        books, payment, effects = book(self.books[merchant], payment, fact, self._around())
        self._commit(merchant, books, effects)
        self.payments[name] = payment
        for made in effects.made:
            self._places[f"{name}.back"] = name, made.operation.id

    def _move(self, step: Move) -> str | None:
        if step.event in self._claimed:
            return "skipped"
        self._claimed.add(step.event)
        movement = WalletMovement(
            money=Money(amount=step.amount, currency=step.currency), reason="", reference=step.event
        )
        event = OutsideEvent(
            id=self._id(step.event),
            source="billing",
            type=_MOVES[step.kind],
            at=_BEGIN,
            merchant_id=self._id(step.merchant),
            data=movement,
        )
        books, effects = move(self.books[step.merchant], event, movement, None, self._around())
        self._commit(step.merchant, books, effects)
        assert effects.verdict is not None, "a movement is decided upon"
        return effects.verdict.code

    def _merchant_of(self, payment: Payment) -> str:
        return next(name for name, books in self.books.items() if books.merchant_id == payment.merchant_id)

    # -- what the committer would write -------------------------------------------------------------------------------

    def _commit(self, merchant: str, books: MerchantBooks, effects: Effects) -> None:
        before, self.books[merchant] = self.books[merchant], books
        for entry in effects.entries:
            self._fold(merchant, entry)
        for one in effects.adjustments:
            key = one.fact.operation_id, one.fact.kind, one.fact.part
            if key in self._keys:
                self.broken.append(f"posted twice: {key}")
            self._keys.add(key)
        if books.head.seq != before.head.seq + len(effects.entries):
            self.broken.append(f"the head is at {books.head.seq}, {len(effects.entries)} after {before.head.seq}")
        for currency, wallet in books.wallets.items():
            for bucket in BUCKETS:
                _put(self.wallets, (merchant, currency, f"merchant:{bucket}"), getattr(wallet, bucket))

    def _fold(self, merchant: str, entry: Entry) -> None:
        amount, currency = entry.posting.money.amount, entry.posting.money.currency
        self.met[entry.posting.type] += 1
        if amount <= 0:
            self.broken.append(f"a posting of {amount}")
        for account, change in ((entry.posting.debit, -amount), (entry.posting.credit, amount)):
            key = merchant, currency, account
            _put(self.accounts, key, self.accounts.get(key, 0) + change)


def _put(accounts: Accounts, key: tuple[str, str, str], amount: int) -> None:
    if amount:
        accounts[key] = amount
    else:
        accounts.pop(key, None)
