"""The core, driven by the same steps: its pure functions as actors and the committer use them, and a naive fold."""

from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime
from typing import Final

from paynode.domain.adjusting import adjust
from paynode.domain.booking import Effects, MerchantBooks, Surroundings, answer, book, mature
from paynode.domain.deciding import Policy
from paynode.domain.ledger import Entry
from paynode.domain.maturing import Due, MaturityKind
from paynode.domain.mending import BooksAdjustment
from paynode.domain.money import FeePlan, Money
from paynode.domain.moving import end_payout, move, pay_out
from paynode.domain.payment import Fact, Method, Operation, OperationKind, Origin, Payment, Source, Status
from paynode.domain.postings import Posting
from paynode.domain.psp import Outcome, SettlementKind
from paynode.domain.publishing import OutsideData, OutsideEvent, OutsideType, PayoutEnd, PayoutOrder, WalletMovement
from paynode.domain.report import ReportLine, line_id
from paynode.domain.requesting import Request, RequestKind
from paynode.domain.settling import settle
from paynode.domain.terms import DAY_MS, Availability, Terms
from tests.audit import steps
from tests.audit.operation import BARE, DOUBTS_MAX, TRIES_MAX
from tests.audit.steps import (
    Accept,
    Accounts,
    Adjust,
    Announce,
    Ask,
    Come,
    EndPayout,
    Join,
    Move,
    Once,
    PayOut,
    Say,
    Settle,
    Step,
    Wait,
)
from tests.audit.treasury import HOUSE

_BEGIN_MS: Final = 1_700_000_000_000
_BEGIN: Final = datetime(2026, 1, 1, tzinfo=UTC)
_POLICY: Final = Policy(
    inquiry_ladder_ms=(5_000,) * DOUBTS_MAX,
    not_sent_tries_max=TRIES_MAX,
    not_sent_retry_ms=1_000,
    not_sent_retry_max_ms=3_000,
)
_MOVES: Final = {
    "credit": OutsideType.WALLET_CREDIT,
    "debit": OutsideType.WALLET_DEBIT,
    "write_off": OutsideType.WALLET_WRITE_OFF,
}
_ENDS: Final = {"paid": OutsideType.PAYOUT_PAID, "failed": OutsideType.PAYOUT_FAILED}
_COMING: Final = {"available": MaturityKind.AVAILABLE, "reserve": MaturityKind.RESERVE}
BUCKETS: Final = ("pending", "available", "reserve", "held")


class Core:
    """What the database would hold."""

    def __init__(self) -> None:
        self.accounts: Accounts = {}
        self.wallets: Accounts = {}  # the buckets of the wallets' rows
        self.adjusted: Accounts = {}  # the sums of the adjustments' rows
        self.maturing: Accounts = {}
        self.broken: list[str] = []  # laws that its rows broke
        self.met = Counter[str]()  # types of postings, and replies
        self.books = {HOUSE: MerchantBooks(merchant_id="00000000-0000-7000-8000-000000000000")}
        self.terms: dict[str, Terms] = {}
        self.now_ms = _BEGIN_MS
        self.payments: dict[str, Payment] = {}
        self._places: dict[str, tuple[str, str]] = {}  # payment and id of each operation, by its name
        self._names: dict[str, str] = {}  # and back
        self._claimed: set[str] = set()
        self._keys: set[tuple[str, str, int]] = set()
        self._ids: dict[str, str] = {}
        self._count = 0

    def hear(self, step: Step) -> str | None:
        """What a step changes. Returns why it is refused; None when it is not."""
        match step:
            case Join():
                self.books[step.merchant] = MerchantBooks(merchant_id=self._id(step.merchant))
                self.terms[step.merchant] = _terms(step.terms)
            case Announce():
                self.terms[step.merchant] = _terms(step.terms)
            case Accept():
                self._accept(step)
            case Say():
                self._say(step)
            case Wait():
                self.now_ms += step.days * DAY_MS
                self._sweep()
            case Come():
                self._mature(step.operation, _COMING[step.what])
            case _:
                return self._hear_once(step)
        return None

    def _hear_once(self, step: Once) -> str | None:
        """What the database recognises by its id: its effect is claimed once."""
        if isinstance(step, Settle):
            return self._settle(step)
        name = step.request if isinstance(step, Ask) else step.event
        if name in self._claimed:
            return "known"
        self._claimed.add(name)
        match step:
            case Ask():
                return self._ask(step)
            case Move() | PayOut() | EndPayout():
                return self._outside(step)
            case Adjust():
                self._adjust(step)
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
            now_ms=self.now_ms, new_id=self._new_id, between_ms=lambda low, high: low, epoch=1, policy=_POLICY
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
            terms=self.terms[step.merchant],
            operations=(charge,),
            status=Status.PROCESSING,
        )
        self._place(step.payment, step.payment, charge.id)

    def _ask(self, step: Ask) -> str | None:
        payment = self.payments.get(step.payment)
        if payment is None:
            return "nothing"
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
        self._keep(step.payment, payment, effects)
        assert effects.decided is not None, "a request is decided upon"
        if effects.decided.refusal is None:
            self._place(step.request, step.payment, request.id)
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
            reference=f"ref_{step.operation}{step.reference}" if is_claim else None,
            amount=operation.money.amount + step.surplus if is_claim and operation.kind not in BARE else None,
            currency=operation.money.currency if is_claim else None,
        )
        merchant = self._merchant_of(payment)
        books, payment, effects = book(self.books[merchant], payment, fact, self._around())
        self._commit(merchant, books, effects)
        self._keep(name, payment, effects)

    def _keep(self, name: str, payment: Payment, effects: Effects) -> None:
        """A payment as it is written, one version later, and what the core gives back of it by itself."""
        before, self.payments[name] = self.payments[name], payment
        written = before if effects.payment is None else effects.payment
        if written is not payment:
            self.broken.append(f"{name} has changed, and is not written so")
        if effects.payment is not None and effects.base_version != before.version:
            self.broken.append(f"{name} of version {before.version} is written over {effects.base_version}")
        if payment.version != before.version + (payment is not before):
            self.broken.append(f"{name} of version {before.version} becomes {payment.version}")
        for made in effects.made:
            target = (made.operation.target or "").removeprefix(f"ref_{name}")
            if made.operation.origin is Origin.REQUEST:
                continue
            suffix = f".{target}" if made.operation.origin is Origin.SURPLUS else ""
            self._place(f"{name}.back{suffix}", name, made.operation.id)

    def _place(self, operation: str, payment: str, operation_id: str) -> None:
        self._places[operation] = payment, operation_id
        self._names[operation_id] = operation

    def _sweep(self) -> None:
        """What the calendar finds due in the rows, for each of them."""
        for payment in list(self.payments.values()):
            for one in payment.operations:
                if one.matures_at_ms is not None and one.matures_at_ms <= self.now_ms:
                    self._mature(self._names[one.id], MaturityKind.AVAILABLE)
                if one.releases_at_ms is not None and one.releases_at_ms <= self.now_ms:
                    self._mature(self._names[one.id], MaturityKind.RESERVE)

    def _mature(self, name: str, kind: MaturityKind) -> None:
        if name not in self._places:
            return
        of, operation_id = self._places[name]
        payment = self.payments[of]
        merchant = self._merchant_of(payment)
        maturity = Due(
            merchant_id=payment.merchant_id, payment_id=payment.id, operation_id=operation_id, kind=kind
        ).maturity
        books, payment, effects = mature(self.books[merchant], payment, maturity, self._around())
        self._commit(merchant, books, effects)
        self._keep(of, payment, effects)

    def _outside(self, step: Move | PayOut | EndPayout) -> str | None:
        """An event of an internal service's."""
        books, around = self.books[step.merchant], self._around()
        match step:
            case EndPayout():
                end = PayoutEnd(payout_id=self._id(step.payout))
                event = self._event(step, _ENDS[step.end], end)
                books, effects = end_payout(books, event, end, None, around)
            case PayOut():
                order = PayoutOrder(money=Money(amount=step.amount, currency=step.currency), reference=step.event)
                event = self._event(step, OutsideType.PAYOUT_CREATE, order)
                books, effects = pay_out(books, event, order, None, around)
            case Move():
                money = Money(amount=step.amount, currency=step.currency)
                movement = WalletMovement(money=money, reason="", reference=step.event)
                books, effects = move(books, self._event(step, _MOVES[step.kind], movement), movement, None, around)
        self._commit(step.merchant, books, effects)
        assert effects.verdict is not None, "it is decided upon"
        return effects.verdict.code

    def _event(self, step: Move | PayOut | EndPayout, of: OutsideType, data: OutsideData) -> OutsideEvent:
        return OutsideEvent(
            id=self._id(step.event),
            source="billing",
            type=of,
            at=_BEGIN,
            merchant_id=self._id(step.merchant),
            data=data,
        )

    def _settle(self, step: Settle) -> str | None:
        name, operation_id = self._places.get(step.operation or "", (None, None))
        payment = None if name is None else self.payments[name]
        merchant = HOUSE if payment is None else self._merchant_of(payment)
        kind = SettlementKind(step.kind)
        line = ReportLine(
            id=line_id(step.psp, kind, step.reference),
            psp=step.psp,
            kind=kind,
            reference=step.reference,
            operation_id=operation_id,
            payment_id=None if payment is None else payment.id,
            money=Money(amount=step.amount, currency=step.currency),
            at_ms=self.now_ms,
            is_posted=(line_id(step.psp, kind, step.reference), "settlement", 0) in self._keys,
        )
        books, payment, effects = settle(self.books[merchant], payment, line, self._around())
        self._commit(merchant, books, effects)
        if name is not None and payment is not None:
            self._keep(name, payment, effects)
        return "known" if line.is_posted else None

    def _adjust(self, step: Adjust) -> None:
        money = Money(amount=step.amount, currency=step.currency)
        posting = Posting(type="adjustment", debit=step.debit, credit=step.credit, money=money)
        adjustment = BooksAdjustment(id=self._id(step.event), posting=posting, payment_id=None, reference="")
        books, effects = adjust(self.books[step.merchant], adjustment, self._around())
        self._commit(step.merchant, books, effects)

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
            for bucket in BUCKETS:
                place = merchant, one.currency, f"merchant:{bucket}"
                _put(self.adjusted, place, self.adjusted.get(place, 0) + getattr(one.delta, bucket))
        if books.head.seq != before.head.seq + len(effects.entries):
            self.broken.append(f"the head is at {books.head.seq}, {len(effects.entries)} after {before.head.seq}")
        for currency, wallet in books.wallets.items():
            if wallet.pending > wallet.maturing:
                self.broken.append(f"{wallet.pending} pending, of which only {wallet.maturing} have still to mature")
            _put(self.maturing, (merchant, currency, "maturing"), wallet.maturing)
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


def _terms(terms: steps.Terms) -> Terms:
    return Terms(
        fees=FeePlan(fixed=terms.fixed, basis_points=terms.fee),
        reserve_basis_points=terms.reserve,
        reserve_days=terms.reserve_days,
        availability=Availability(terms.availability),
        available_days=terms.available_days,
    )


def _put(accounts: Accounts, key: tuple[str, str, str], amount: int) -> None:
    if amount:
        accounts[key] = amount
    else:
        accounts.pop(key, None)
