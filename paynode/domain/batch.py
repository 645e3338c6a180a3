"""One transaction's worth of effects, merged: what the committer writes at once."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Final, TypeAlias, TypeVar

from paynode.domain.booking import Adjustment, Effects, IssuedCommand, MadeOperation, MerchantBooks, TimelineEvent
from paynode.domain.ledger import Entry, Head
from paynode.domain.message import DeadLetter
from paynode.domain.payment import Fact, Payment
from paynode.domain.payouts import Payout
from paynode.domain.psp import Outcome
from paynode.domain.publishing import Verdict
from paynode.domain.record import record
from paynode.domain.requesting import Decided
from paynode.domain.wallet import Wallet

Part = TypeVar("Part")
_Ends: TypeAlias = tuple[MerchantBooks, MerchantBooks]

# What leads to an inquiry.
ASKED_ABOUT: Final = (Outcome.PENDING, Outcome.UNKNOWN)


@dataclass(frozen=True, slots=True, kw_only=True)
class Lease:
    """Ownership of a partition under its fencing number."""

    partition: int
    epoch: int


@record
class Booked:
    """The effects of one message, with the merchant's books before and after it (a dead letter touches none)."""

    lease: Lease
    effects: Effects
    before: MerchantBooks | None = None
    after: MerchantBooks | None = None


@record
class PaymentChange:
    """The payment after the batch; `base_version` is what the database must still hold."""

    payment: Payment
    base_version: int


@record
class HeadChange:
    """The merchant's ledger head after the batch; `base_seq` is what the database must still hold."""

    merchant_id: str
    base_seq: int
    head: Head


@record
class WalletChange:
    """The wallet after the batch; `base_version` is what the database must still hold (0: no row)."""

    merchant_id: str
    base_version: int
    wallet: Wallet


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """What is committed together. Every list is sorted as its rows are locked: by id, so that writers never cross."""

    id: str
    leases: tuple[Lease, ...]
    claims: tuple[str, ...]
    facts: tuple[Fact, ...]
    payments: tuple[PaymentChange, ...]
    made: tuple[MadeOperation, ...]
    entries: tuple[Entry, ...]
    adjustments: tuple[Adjustment, ...]
    heads: tuple[HeadChange, ...]
    wallets: tuple[WalletChange, ...]
    commands: tuple[IssuedCommand, ...]
    events: tuple[TimelineEvent, ...]
    letters: tuple[DeadLetter, ...]
    parked: tuple[str, ...]
    verdicts: tuple[Verdict, ...]
    decided: tuple[Decided, ...]
    payouts: tuple[Payout, ...]

    @property
    def answered(self) -> tuple[str, ...]:
        """Operations that have ended and about which an inquiry may still be waiting to be made."""
        return tuple(
            operation.id
            for change in self.payments
            for operation in change.payment.operations
            if not operation.is_open and any(fact.outcome in ASKED_ABOUT for fact in change.payment.facts_of(operation))
        )


def merge(batch_id: str, booked: Sequence[Booked]) -> Batch:
    """One batch from what actors decided, in their order: first `before` and last `after` of each row."""
    effects = [one.effects for one in booked]
    leases = {one.lease for one in booked}
    ends = _ends(booked)
    return Batch(
        id=batch_id,
        leases=tuple(sorted(leases, key=lambda lease: lease.partition)),
        claims=tuple(sorted([one.claim for one in effects if one.claim is not None and _deletes_its_row(one)])),
        facts=tuple([one.fact for one in effects if one.fact is not None]),
        payments=_payments(effects),
        made=_all([one.made for one in effects if one.made]),
        entries=_all([one.entries for one in effects]),
        adjustments=_all([one.adjustments for one in effects]),
        heads=_heads(ends),
        wallets=_wallets(ends),
        commands=_all([one.commands for one in effects if one.commands]),
        events=tuple([one.event for one in effects if one.event is not None]),
        letters=tuple([one.letter for one in effects if one.letter is not None]),
        parked=tuple([one.claim for one in effects if one.is_parked and one.claim is not None]),
        verdicts=tuple(sorted([one.verdict for one in effects if one.verdict is not None], key=_event_id)),
        decided=tuple(sorted([one.decided for one in effects if one.decided is not None], key=_request_id)),
        payouts=tuple([one.payout for one in effects if one.payout is not None]),
    )


def _all(parts: Iterable[tuple[Part, ...]]) -> tuple[Part, ...]:
    return tuple(chain.from_iterable(parts))


def _deletes_its_row(effects: Effects) -> bool:
    """Whether the row's deletion is the claim; what dies or waits takes its row with it."""
    return effects.letter is None and not effects.is_parked


def _event_id(verdict: Verdict) -> str:
    return verdict.event_id


def _request_id(decided: Decided) -> str:
    return decided.request_id


def _payments(effects: Sequence[Effects]) -> tuple[PaymentChange, ...]:
    base: dict[str, int] = {}
    last: dict[str, Payment] = {}
    for one in effects:
        if one.payment is not None:
            base.setdefault(one.payment.id, one.base_version)
            last[one.payment.id] = one.payment
    return tuple(PaymentChange(payment=last[key], base_version=base[key]) for key in sorted(last))


def _ends(booked: Sequence[Booked]) -> list[_Ends]:
    """The books of each merchant before the first and after the last of its messages, by merchant."""
    first: dict[str, MerchantBooks] = {}
    last: dict[str, MerchantBooks] = {}
    for one in booked:
        if one.before is not None and one.after is not None:
            first.setdefault(one.before.merchant_id, one.before)
            last[one.after.merchant_id] = one.after
    return [(first[merchant_id], last[merchant_id]) for merchant_id in sorted(last)]


def _heads(ends: Sequence[_Ends]) -> tuple[HeadChange, ...]:
    return tuple(
        HeadChange(merchant_id=after.merchant_id, base_seq=before.head.seq, head=after.head)
        for before, after in ends
        if after.head != before.head
    )


def _wallets(ends: Sequence[_Ends]) -> tuple[WalletChange, ...]:
    return tuple(
        WalletChange(
            merchant_id=after.merchant_id,
            base_version=before.wallet(currency).version,
            wallet=after.wallets[currency],
        )
        for before, after in ends
        for currency in sorted(after.wallets)
        if after.wallets[currency] != before.wallet(currency)
    )
