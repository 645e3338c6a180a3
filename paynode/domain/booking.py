"""A merchant's books, and what one message to the merchant's actor changes in them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence, Set
from dataclasses import dataclass, field, replace

from paynode.domain.deciding import Command, CommandKind, Policy, decide, event_of, giving_back
from paynode.domain.evidence import own
from paynode.domain.folding import with_operation
from paynode.domain.granting import grant
from paynode.domain.ledger import NO_ENTRIES, Entry, Head, append
from paynode.domain.maturing import Maturity, MaturityKind, availability, matured, release, released, rescheduled
from paynode.domain.message import DeadLetter
from paynode.domain.payment import Fact, Operation, OperationState, Origin, Payment, PspOrder
from paynode.domain.payouts import Payout
from paynode.domain.postings import BusinessFact, due
from paynode.domain.publishing import Verdict
from paynode.domain.record import record
from paynode.domain.requesting import Decided, Refusal, Request, RequestKind
from paynode.domain.road import commands_stream, follow_up_lane, pos_lane
from paynode.domain.wallet import Delta, Wallet


@record
class MerchantBooks:
    """What must be in hand to book anything for a merchant; of the payouts those that have not ended."""

    merchant_id: str
    head: Head = NO_ENTRIES
    wallets: Mapping[str, Wallet] = field(default_factory=dict)
    payouts: Mapping[str, Payout] = field(default_factory=dict)

    def wallet(self, currency: str) -> Wallet:
        """The wallet in a currency; an empty one, version 0, when there is none yet."""
        return self.wallets.get(currency) or Wallet(currency=currency)

    def with_wallet(self, wallet: Wallet) -> MerchantBooks:
        """With this wallet in the place of the one in its currency."""
        return MerchantBooks(
            merchant_id=self.merchant_id,
            head=self.head,
            wallets={**self.wallets, wallet.currency: wallet},
            payouts=self.payouts,
        )


@record
class Adjustment:
    """What one business fact did to the wallet; (operation, kind, part) is unique for ever."""

    id: str
    merchant_id: str
    fact: BusinessFact
    currency: str
    delta: Delta
    at_ms: int


@record
class IssuedCommand:
    """A command that will be an outbox row; its content is the operation's own order."""

    id: str
    kind: CommandKind
    operation_id: str
    psp: str
    delay_ms: int
    is_pos: bool = False
    is_new_charge: bool = False

    @property
    def stream(self) -> str:
        """Where it goes: what a till waits for goes first, and what is no new charge does not stand behind those."""
        stream = commands_stream(self.psp)
        if self.is_pos:
            return pos_lane(stream)
        return stream if self.is_new_charge else follow_up_lane(stream)


@record
class MadeOperation:
    """A new operation, with the order by which a PSP is asked for it."""

    operation: Operation
    order: PspOrder


@dataclass(frozen=True, slots=True, kw_only=True)
class Scheduled:
    """What changed a payment without anybody's word about it: the calendar, or a report. `source` says which."""

    operation_id: str
    source: str


@record
class TimelineEvent:
    """One line of a payment's timeline, and later of the merchant's webhook; `cause` is what changed it."""

    id: str
    payment: Payment
    type: str
    cause: Fact | Request | Scheduled


@record
class Effects:
    """All that one message changes; what it did not change is None or empty.

    `claim` is the outbox row that it came by (None: an outside entry without one); `base_version` is the payment's
    version before it. `letter` is set when nothing could be done with it, `is_parked` when it waits behind a letter
    about the same payment: then the row is not deleted but moved. `verdict` is what became of an outside event,
    `decided` of a merchant's request; `payout` has begun or ended.
    """

    claim: str | None
    letter: DeadLetter | None = None
    is_parked: bool = False
    verdict: Verdict | None = None
    decided: Decided | None = None
    fact: Fact | None = None
    payment: Payment | None = None
    base_version: int = 0
    made: tuple[MadeOperation, ...] = ()
    entries: tuple[Entry, ...] = ()
    adjustments: tuple[Adjustment, ...] = ()
    commands: tuple[IssuedCommand, ...] = ()
    event: TimelineEvent | None = None
    payout: Payout | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Surroundings:
    """What a decision needs and may not fetch itself: the time, fresh ids, the fencing number, the rules.

    `between_ms` chooses a time from the first to the second, another one each time.
    """

    now_ms: int
    new_id: Callable[[], str]
    between_ms: Callable[[int, int], int]
    epoch: int
    policy: Policy


def book(
    books: MerchantBooks, payment: Payment, fact: Fact, around: Surroundings
) -> tuple[MerchantBooks, Payment, Effects]:
    """Decide upon one fact: the books and the payment after it, and the effects to commit.

    The outbox row of evidence has the fact's event id as its own: claiming it is deleting that row.
    """
    decision = decide(payment, fact, around.policy, around.new_id)
    after = decision.payment
    if after is payment:
        commands = _issued(after, decision.commands, around)
        return books, payment, Effects(claim=fact.event_id, commands=commands)
    assert decision.event is not None, "a payment that changed says how"
    books, after, lines = _post_due(books, payment, after, around)
    effects = Effects(
        claim=fact.event_id,
        fact=after.facts[-1],
        payment=after,
        base_version=payment.version,
        made=tuple(MadeOperation(operation=one, order=order_of(after, one)) for one in decision.made),
        entries=lines.entries,
        adjustments=lines.adjustments,
        commands=_issued(after, decision.commands, around),
        event=TimelineEvent(id=around.new_id(), payment=after, type=decision.event, cause=fact),
    )
    return books, after, effects


def answer(
    books: MerchantBooks, payment: Payment, request: Request, around: Surroundings
) -> tuple[MerchantBooks, Payment, Effects]:
    """Decide upon one request of a merchant: the operation that it becomes, or why it cannot be."""
    if request.kind is RequestKind.REVERSE:
        operation = _reversal(payment, around)
        if operation is None:
            return books, payment, _decided(request, payment)
    else:
        can = around.policy.capabilities.get(payment.charge.psp)
        granted = grant(payment, request, books.wallet(payment.money.currency), can)
        if isinstance(granted, Refusal):
            return books, payment, _decided(request, payment, granted)
        operation = granted
    after = with_operation(payment, operation, around.policy.limits)
    after = replace(after, version=payment.version + 1)
    books, after, lines = _post_due(books, payment, after, around)
    submit = Command(kind=CommandKind.SUBMIT, operation_id=operation.id, psp=operation.psp)
    changed = event_of(payment, after)
    is_named = changed != "payment.updated"
    effects = Effects(
        claim=request.id,
        decided=Decided(request_id=request.id, refusal=None, version=after.version),
        payment=after,
        base_version=payment.version,
        made=(MadeOperation(operation=operation, order=order_of(after, operation)),),
        entries=lines.entries,
        adjustments=lines.adjustments,
        commands=_issued(after, (submit,), around),
        event=TimelineEvent(
            id=around.new_id(),
            payment=after,
            type=changed if is_named else f"payment.{operation.kind}_requested",
            cause=request,
        ),
    )
    return books, after, effects


def order_of(payment: Payment, operation: Operation) -> PspOrder:
    """How a PSP is asked for an operation about a charge."""
    charge = payment.charge
    # Of an open page the PSP knows only the page.
    pages = (fact.reference for fact in own(payment.facts_of(charge)) if fact.reference is not None)
    return PspOrder(
        operation_id=operation.id,
        payment_id=payment.id,
        merchant_id=payment.merchant_id,
        psp=operation.psp,
        kind=operation.kind,
        money=operation.money,
        method=payment.method,
        charge_id=charge.id,
        charge_reference=operation.target or charge.reference or next(pages, None),
        is_final=operation.is_final,
    )


def _reversal(payment: Payment, around: Surroundings) -> Operation | None:
    """What undoes an authorization that nobody waits for; None while there is none, or when it was undone before."""
    is_authorized = payment.charge.state is OperationState.APPROVED
    is_undone = any(one.origin in (Origin.LATE_SUCCESS, Origin.REVERSAL) for one in payment.operations)
    if not payment.is_reversed or not is_authorized or is_undone or payment.amounts.captured:
        return None
    return giving_back(payment, Origin.REVERSAL, around.new_id())


def _decided(request: Request, payment: Payment, refusal: Refusal | None = None) -> Effects:
    # The payment as it was: its version is compared all the same. A mark at a point of sale is written beside the
    # actor, and a refusal that had not seen it must not stand.
    return Effects(
        claim=request.id,
        decided=Decided(request_id=request.id, refusal=refusal, version=payment.version),
        payment=payment,
        base_version=payment.version,
    )


def _issued(payment: Payment, commands: Sequence[Command], around: Surroundings) -> tuple[IssuedCommand, ...]:
    return tuple(
        IssuedCommand(
            id=around.new_id(),
            kind=command.kind,
            operation_id=command.operation_id,
            psp=command.psp,
            delay_ms=around.between_ms(*_range_ms(command)),
            is_pos=payment.is_for_pos,
            is_new_charge=command.kind is CommandKind.SUBMIT and command.operation_id == payment.charge.id,
        )
        for command in commands
    )


def _range_ms(command: Command) -> tuple[int, int]:
    """When it may come: a try again at any time up to twice its pause, for those that failed together must not return
    together; a question within a fifth of its rung, for the ladder of questions has a meaning."""
    match command.kind:
        case CommandKind.SUBMIT:
            return 0, 2 * command.delay_ms
        case CommandKind.INQUIRE:
            return command.delay_ms * 4 // 5, command.delay_ms * 6 // 5


@record
class Lines:
    """What was posted: ledger entries, and what they did to the wallet."""

    entries: tuple[Entry, ...] = ()
    adjustments: tuple[Adjustment, ...] = ()

    def __add__(self, more: Lines) -> Lines:
        return Lines(entries=self.entries + more.entries, adjustments=self.adjustments + more.adjustments)


def mature(
    books: MerchantBooks, payment: Payment, maturity: Maturity, around: Surroundings
) -> tuple[MerchantBooks, Payment, Effects]:
    """The time has come: what it makes available. Nothing, when that has happened before, or is not to happen."""
    operation, is_reserve = payment.operation(maturity.operation_id), maturity.kind is MaturityKind.RESERVE
    if operation is None or not (operation.rest_reserve if is_reserve else operation.is_maturing):
        return books, payment, Effects(claim=maturity.id)
    books, after, lines = (
        _release(books, payment, operation, around)
        if is_reserve
        else (make_available(books, payment, operation, around))
    )
    after = replace(after, version=payment.version + 1)
    effects = Effects(
        claim=maturity.id,
        payment=after,
        base_version=payment.version,
        entries=lines.entries,
        adjustments=lines.adjustments,
        event=TimelineEvent(
            id=around.new_id(),
            payment=after,
            type="payment.reserve_released" if is_reserve else "payment.available",
            cause=Scheduled(operation_id=operation.id, source="calendar"),
        ),
    )
    return books, after, effects


def make_available(
    books: MerchantBooks, payment: Payment, operation: Operation, around: Surroundings
) -> tuple[MerchantBooks, Payment, Lines]:
    """A capture has matured; the version is the caller's to raise."""
    payment, wallet = matured(payment, books.wallet(operation.money.currency), operation)
    return _post_if_any(books.with_wallet(wallet), payment, availability(payment, operation, wallet), around)


def _release(
    books: MerchantBooks, payment: Payment, operation: Operation, around: Surroundings
) -> tuple[MerchantBooks, Payment, Lines]:
    return _post_if_any(books, released(payment, operation), release(payment, operation), around)


def _post_if_any(
    books: MerchantBooks, payment: Payment, fact: BusinessFact | None, around: Surroundings
) -> tuple[MerchantBooks, Payment, Lines]:
    if fact is None:
        return books, payment, Lines()
    books, lines = post(books, fact, around)
    return books, payment, lines


def _post_due(
    books: MerchantBooks, before: Payment, after: Payment, around: Surroundings
) -> tuple[MerchantBooks, Payment, Lines]:
    """Post what is due now and was not before; the payment with what is to come by that."""
    limits, currency = around.policy.limits, after.money.currency
    posted = {fact.identity for fact in due(before, limits)}
    lines, waiting = Lines(), _not_among(posted, due(after, limits))
    while waiting:
        fact = waiting[0]
        posted.add(fact.identity)
        books, posting = post(books, fact, around)
        after, wallet = rescheduled(after, books.wallet(currency), fact, around.now_ms)
        books, lines = books.with_wallet(wallet), lines + posting
        operation = after.operation(fact.operation_id)
        if fact.kind == "refund_release" and operation is not None:
            # What has matured while it was held need not wait again.
            books, after, more = _post_if_any(books, after, availability(after, operation, wallet), around)
            lines += more
        # Asked again after each but the last: what one posts decides how much the next one moves, and never which
        # there are.
        waiting = _not_among(posted, due(after, limits)) if len(waiting) > 1 else []
    return books, after, lines


def _not_among(posted: Set[tuple[str, str, int]], facts: Iterable[BusinessFact]) -> list[BusinessFact]:
    return [one for one in facts if one.identity not in posted]


def post(books: MerchantBooks, fact: BusinessFact, around: Surroundings) -> tuple[MerchantBooks, Lines]:
    """Post one business fact: the books after it, its ledger entries and what it did to the wallet."""
    entry_id = around.new_id()
    head, entries = append(
        books.head,
        fact,
        entry_id=entry_id,
        merchant_id=books.merchant_id,
        at_ms=around.now_ms,
        epoch=around.epoch,
    )
    currency, delta = fact.postings[0].money.currency, Delta.of(fact.postings)
    adjustment = Adjustment(
        id=entry_id,
        merchant_id=books.merchant_id,
        fact=fact,
        currency=currency,
        delta=delta,
        at_ms=around.now_ms,
    )
    books = MerchantBooks(
        merchant_id=books.merchant_id,
        head=head,
        wallets={**books.wallets, currency: books.wallet(currency).apply(delta)},
        payouts=books.payouts,
    )
    return books, Lines(entries=entries, adjustments=(adjustment,))
