"""A merchant's books, and what one message to the merchant's actor changes in them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

from paynode.domain.deciding import CommandKind, Policy, decide
from paynode.domain.ledger import NO_ENTRIES, Entry, Head, append
from paynode.domain.message import DeadLetter
from paynode.domain.money import FeePlan
from paynode.domain.payment import Fact, Payment
from paynode.domain.postings import BusinessFact
from paynode.domain.publishing import Verdict
from paynode.domain.wallet import Delta, Wallet


@dataclass(frozen=True, slots=True, kw_only=True)
class MerchantBooks:
    """What must be in hand to book anything for a merchant."""

    merchant_id: str
    fees: FeePlan
    head: Head = NO_ENTRIES
    wallets: Mapping[str, Wallet] = field(default_factory=dict)

    def wallet(self, currency: str) -> Wallet:
        """The wallet in a currency; an empty one, version 0, when there is none yet."""
        return self.wallets.get(currency) or Wallet(currency=currency)


@dataclass(frozen=True, slots=True, kw_only=True)
class Adjustment:
    """What one business fact did to the wallet; (operation, kind, part) is unique for ever."""

    id: str
    merchant_id: str
    fact: BusinessFact
    currency: str
    delta: Delta
    at_ms: int


@dataclass(frozen=True, slots=True, kw_only=True)
class IssuedCommand:
    """A command that will be an outbox row; its content is the operation's own request."""

    id: str
    kind: CommandKind
    operation_id: str
    psp: str
    delay_ms: int


@dataclass(frozen=True, slots=True, kw_only=True)
class TimelineEvent:
    """One line of a payment's timeline, and later of the merchant's webhook."""

    id: str
    payment: Payment
    type: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Effects:
    """All that one message changes; what it did not change is None or empty.

    `claim` is the outbox row that it came by (None: an outside entry without one); `base_version` is the payment's
    version before it. `letter` is set when nothing could be done with it, `is_parked` when it waits behind a letter
    about the same payment: then the row is not deleted but moved. `verdict` is what became of an outside event.
    """

    claim: str | None
    letter: DeadLetter | None = None
    is_parked: bool = False
    verdict: Verdict | None = None
    fact: Fact | None = None
    payment: Payment | None = None
    base_version: int = 0
    entries: tuple[Entry, ...] = ()
    adjustments: tuple[Adjustment, ...] = ()
    commands: tuple[IssuedCommand, ...] = ()
    event: TimelineEvent | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Surroundings:
    """What a decision needs and may not fetch itself: the time, fresh ids, the fencing number, the rules.

    `jitter_ms` turns a pause into one near it.
    """

    now_ms: int
    new_id: Callable[[], str]
    jitter_ms: Callable[[int], int]
    epoch: int
    policy: Policy


def book(
    books: MerchantBooks, payment: Payment, fact: Fact, around: Surroundings
) -> tuple[MerchantBooks, Payment, Effects]:
    """Decide upon one fact: the books and the payment after it, and the effects to commit.

    The outbox row of evidence has the fact's event id as its own: claiming it is deleting that row.
    """
    decision = decide(payment, fact, books.fees, around.policy)
    after = decision.payment
    if after is payment:
        return books, payment, Effects(claim=fact.event_id)
    assert decision.event is not None, "a payment that changed says how"
    entries: tuple[Entry, ...] = ()
    adjustments: tuple[Adjustment, ...] = ()
    for business_fact in decision.business_facts:
        books, posted, adjustment = post(books, business_fact, around)
        entries += posted
        adjustments += (adjustment,)
    commands = tuple(
        IssuedCommand(
            id=around.new_id(),
            kind=command.kind,
            operation_id=command.operation_id,
            psp=after.operation.psp,
            delay_ms=around.jitter_ms(command.delay_ms),
        )
        for command in decision.commands
    )
    effects = Effects(
        claim=fact.event_id,
        fact=fact,
        payment=after,
        base_version=payment.version,
        entries=entries,
        adjustments=adjustments,
        commands=commands,
        event=TimelineEvent(id=around.new_id(), payment=after, type=decision.event),
    )
    return books, after, effects


def post(
    books: MerchantBooks, fact: BusinessFact, around: Surroundings
) -> tuple[MerchantBooks, tuple[Entry, ...], Adjustment]:
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
    currency = fact.postings[0].money.currency
    delta = Delta.of(fact.postings)
    wallet = books.wallet(currency).apply(delta)
    adjustment = Adjustment(
        id=entry_id,
        merchant_id=books.merchant_id,
        fact=fact,
        currency=currency,
        delta=delta,
        at_ms=around.now_ms,
    )
    return replace(books, head=head, wallets={**books.wallets, currency: wallet}), entries, adjustment
