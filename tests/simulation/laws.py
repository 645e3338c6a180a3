"""The laws of faults.md over what a run leaves behind: told again, in the simplest words, from rows alone."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator

from paynode.domain.ledger import GENESIS, Entry, canonical, seal
from paynode.domain.payment import Status
from paynode.domain.postings import suspense
from paynode.domain.publishing import Result
from tests.simulation.store import Tables
from tests.simulation.world import PSP, World

_ENDED = {Status.CAPTURED, Status.DECLINED}
_BUCKETS = ("pending", "available", "reserve", "held")


def broken(world: World) -> Iterator[str]:
    """All broken laws, in words."""
    tables = world.store.tables
    yield from _charged_is_captured(world)
    yield from _books_balance(tables)
    yield from _wallet_is_fold(tables)
    yield from _once_each(world)
    yield from _nothing_is_left(tables)
    yield from _versions_have_no_gap(tables)
    yield from _epochs_rise(tables)
    for shown in world.valkey.on_dead_streams():
        yield f"L11: shown as a dead letter: {shown}"
    for entry in world.valkey.passed_over():
        yield f"passed over: {entry} was never read"


def _charged_is_captured(world: World) -> Iterator[str]:
    """L3, L4: every payment has ended; captured is what was charged, once; what was charged twice is given back."""
    given_back = Counter(line.target for line in world.bank.book if line.target is not None)
    for reference, count in given_back.items():
        if count > 1:
            yield f"L4: {reference} given back {count} times"
    kept = [line for line in world.bank.book if line.target is None and line.reference not in given_back]
    charged = {line.operation_id: line.amount for line in kept}
    for operation_id, count in Counter(line.operation_id for line in kept).items():
        if count > 1:
            yield f"L4: operation {operation_id} charged {count} times"
    aside = sum(_put_aside(entry) for entry in world.store.tables.entries)
    if aside:
        yield f"L4: {aside} in suspense"
    for payment in world.store.tables.payments.values():
        amount = charged.get(payment.charge.id, 0)
        if payment.status not in _ENDED:
            yield f"L3: payment {payment.id} is {payment.status}"
        if payment.amounts.captured != amount:
            yield f"L4: payment {payment.id} captured {payment.amounts.captured} of {amount}"
    receivable = sum(
        entry.posting.money.amount for entry in world.store.tables.entries if entry.posting.type == "capture"
    )
    if receivable != sum(charged.values()):
        yield f"L4: the ledger says {receivable}, the book of the PSP {sum(charged.values())}"


def _put_aside(entry: Entry) -> int:
    """What a posting puts aside, less what it takes from there."""
    posting, aside = entry.posting, suspense(PSP)
    return posting.money.amount * ((posting.credit == aside) - (posting.debit == aside))


def _of_merchants(tables: Tables) -> dict[str, list[Entry]]:
    entries: dict[str, list[Entry]] = defaultdict(list)
    for entry in tables.entries:
        entries[entry.merchant_id].append(entry)
    return entries


def _books_balance(tables: Tables) -> Iterator[str]:
    """L5, L12: a chain without a gap for each merchant, which the head ends."""
    for merchant_id, entries in _of_merchants(tables).items():
        before = GENESIS
        for seq, entry in enumerate(entries, start=1):
            if entry.seq != seq:
                yield f"L12: entry {entry.seq} of {merchant_id} stands where {seq} should"
            if entry.prev_hash != before or entry.hash != seal(before, _content(entry)):
                yield f"L5: the chain of {merchant_id} breaks at {entry.seq}"
            before = entry.hash
        head = tables.heads.get(merchant_id)
        if head is None or (head.seq, head.hash) != (len(entries), before):
            yield f"L5: the head of {merchant_id} is not its last entry"


def _content(entry: Entry) -> bytes:
    return canonical(
        entry_id=entry.id,
        line=entry.line,
        merchant_id=entry.merchant_id,
        seq=entry.seq,
        payment_id=entry.payment_id or "",
        operation_id=entry.operation_id,
        type=entry.posting.type,
        debit=entry.posting.debit,
        credit=entry.posting.credit,
        amount=entry.posting.money.amount,
        currency=entry.posting.money.currency,
        at_ms=entry.at_ms,
        reference=entry.reference,
    )


def _wallet_is_fold(tables: Tables) -> Iterator[str]:
    """L6: each bucket is the sum of its postings and of its adjustments; nothing is below zero here."""
    posted: Counter[tuple[str, str, str]] = Counter()
    for entry in tables.entries:
        money = entry.posting.money
        for account, sign in ((entry.posting.credit, 1), (entry.posting.debit, -1)):
            posted[entry.merchant_id, money.currency, account.removeprefix("merchant:")] += sign * money.amount
    adjusted: Counter[tuple[str, str, str]] = Counter()
    for one in tables.adjustments.values():
        for bucket in _BUCKETS:
            adjusted[one.merchant_id, one.currency, bucket] += getattr(one.delta, bucket)
    owners = tables.wallets.keys() | {key[:2] for key in posted} | {key[:2] for key in adjusted}
    for merchant_id, currency in owners:
        wallet = tables.wallets.get((merchant_id, currency))
        for bucket in _BUCKETS:
            held = getattr(wallet, bucket) if wallet is not None else 0
            sums = posted[merchant_id, currency, bucket], adjusted[merchant_id, currency, bucket]
            if sums != (held, held) or held < 0:
                yield f"L6: {bucket} of {merchant_id} is {held}; postings say {sums[0]}, adjustments {sums[1]}"


def _once_each(world: World) -> Iterator[str]:
    """L8: each event of a publisher has one verdict, and its effect exactly when that is `applied`."""
    tables = world.store.tables
    effects = Counter(operation_id for operation_id, kind, _ in tables.adjustments if kind in ("credit", "debit"))
    lines = Counter(entry.operation_id for entry in tables.entries if entry.posting.type in ("credit", "debit"))
    for event in world.events.values():
        verdict = tables.verdicts.get(event.id)
        if verdict is None or verdict.result is Result.DEAD_LETTER:
            yield f"L8: event {event.id} has the verdict {verdict}"
            continue
        wanted = int(verdict.result is Result.APPLIED)
        if (effects[event.id], lines[event.id]) != (wanted, wanted):
            yield f"L8: event {event.id} is {verdict.result}, with {effects[event.id]} effects"


def _nothing_is_left(tables: Tables) -> Iterator[str]:
    """L10, L11: the outbox is empty, and there was no poison to bury."""
    if tables.outbox or tables.parked:
        yield f"L10: left in the outbox {sorted(tables.outbox)}, parked {sorted(tables.parked)}"
    for letter in tables.letters:
        yield f"L11: a dead letter: {letter.what.reason}, {letter.what.detail}"


def _versions_have_no_gap(tables: Tables) -> Iterator[str]:
    """L12: one event for each version of a payment, one version for each piece of evidence."""
    versions: dict[str, list[int]] = defaultdict(list)
    for payment_id, version in tables.events:
        versions[payment_id].append(version)
    for payment in tables.payments.values():
        wanted = list(range(2, payment.version + 1))
        if sorted(versions[payment.id]) != wanted or len(tables.evidence[payment.id]) != len(wanted):
            yield f"L12: payment {payment.id} at version {payment.version} has the events {versions[payment.id]}"


def _epochs_rise(tables: Tables) -> Iterator[str]:
    """L13: along each merchant's ledger the epoch never falls."""
    for merchant_id, entries in _of_merchants(tables).items():
        epochs = [entry.epoch for entry in entries]
        if epochs != sorted(epochs):
            yield f"L13: the epochs of {merchant_id} are {epochs}"
