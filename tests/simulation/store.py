"""The twin of PostgreSQL: the tables that the core writes, each change whole or not at all, by the store's own clock.

Statements of a batch are judged in the order in which `storage.books` sends them, because which one fails first decides
which error the committer sees. Locks are those that matter between owners: of the rows of `partitions`.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Container, Iterable, Mapping
from dataclasses import dataclass, field, replace

from paynode.domain.attempts import Conclusion
from paynode.domain.batch import Batch, Lease, WalletChange
from paynode.domain.booking import Adjustment, IssuedCommand, TimelineEvent
from paynode.domain.deciding import CommandKind
from paynode.domain.errors import Conflict, Fenced, Poison
from paynode.domain.ledger import NO_ENTRIES, Entry, Head
from paynode.domain.message import DeadLetter
from paynode.domain.payment import Fact, Payment, PspOrder
from paynode.domain.psp import Outcome, PspRequest
from paynode.domain.publishing import Verdict
from paynode.domain.wallet import Wallet

Body = Fact | PspOrder | Mapping[str, str]


@dataclass(slots=True, kw_only=True)
class OutboxRow:
    """What is not processed yet; instants in seconds of virtual time."""

    id: str
    stream: str
    type: str
    merchant_id: str
    payment_id: str | None
    operation_id: str | None
    body: Body
    created_at: float
    available_at: float
    published_at: float | None
    republished: int = 0


@dataclass(slots=True, kw_only=True)
class AttemptRow:
    """One try of an operation at a PSP."""

    id: str
    operation_id: str
    psp: str
    request: PspRequest
    claimed_at: float
    send_by: float
    deadline_at: float
    outcome: Outcome | None = None
    concluded_at: float | None = None


@dataclass(slots=True)
class PartitionRow:
    """Who owns a partition. `is_locked`: a transaction under way holds the row."""

    owner: str | None = None
    epoch: int = 0
    lease_until: float = -1.0
    last_batch: str | None = None
    unclean_deaths: int = 0
    is_locked: bool = False


@dataclass(slots=True)
class Tables:
    """All rows."""

    partitions: dict[int, PartitionRow]
    payments: dict[str, Payment] = field(default_factory=dict)  # without their evidence
    orders: dict[str, PspOrder] = field(default_factory=dict)
    evidence: dict[str, list[Fact]] = field(default_factory=lambda: defaultdict(list))
    evidence_ids: set[str] = field(default_factory=set)
    outbox: dict[str, OutboxRow] = field(default_factory=dict)
    attempts: dict[str, AttemptRow] = field(default_factory=dict)
    entries: list[Entry] = field(default_factory=list)
    adjustments: dict[tuple[str, str, int], Adjustment] = field(default_factory=dict)
    heads: dict[str, Head] = field(default_factory=dict)
    wallets: dict[tuple[str, str], Wallet] = field(default_factory=dict)
    events: dict[tuple[str, int], TimelineEvent] = field(default_factory=dict)
    letters: list[DeadLetter] = field(default_factory=list)
    parked: dict[str, OutboxRow] = field(default_factory=dict)
    verdicts: dict[str, Verdict] = field(default_factory=dict)
    suspects: dict[tuple[str, str], int] = field(default_factory=dict)
    workers: dict[str, float] = field(default_factory=dict)
    singletons: dict[str, tuple[str, float]] = field(default_factory=dict)


class Store:
    """The server. Each method is one transaction that has committed when it returns."""

    def __init__(
        self,
        partitions: int,
        clock: Callable[[], float],
        is_gone: Callable[[str], bool],
        watch: Callable[[Batch], None],
    ) -> None:
        self.tables = Tables({number: PartitionRow() for number in range(partitions)})
        self.takeovers = 0
        self._clock = clock
        self.is_gone = is_gone
        self._watch = watch

    # -- a batch ------------------------------------------------------------------------------------------------------

    def judge(self, batch: Batch) -> None:
        """Whether the batch may be written.

        Raises: Conflict, Poison, Fenced: the error of the first statement that fails. A unique key is a conflict:
        somebody else wrote first. A CHECK is poison.
        """
        tables = self.tables
        self.judge_leases(batch.leases)
        _count("claim_effects", batch.claims, tables.outbox)
        _unique("insert_operations", [one.operation.id for one in batch.made], tables.orders)
        if not tables.evidence_ids.isdisjoint(fact.event_id for fact in batch.facts):
            raise Conflict("insert_evidence")
        for change in batch.payments:
            if tables.payments[change.payment.id].version != change.base_version:
                raise Conflict("update_payments")
        if batch.entries:
            self._judge_money(batch)
        if any((event.payment.id, event.payment.version) in tables.events for event in batch.events):
            raise Conflict("insert_events")
        gone = set(batch.claims)
        for what, refs in (("bury_rows", _buried(batch)), ("park_rows", batch.parked)):
            _count(what, refs, tables.outbox.keys() - gone)
            gone.update(refs)
        _unique("applied_events", [verdict.event_id for verdict in batch.verdicts], tables.verdicts)

    def _judge_money(self, batch: Batch) -> None:
        tables = self.tables
        _unique("adjustments", [_identity(one) for one in batch.adjustments], tables.adjustments)
        for change in batch.wallets:
            known = tables.wallets.get((change.merchant_id, change.wallet.currency))
            if change.base_version == 0 and known is not None:
                raise Conflict("insert_wallets")
            if change.base_version and (known is None or known.version != change.base_version):
                raise Conflict("update_wallets")
            if change.wallet.held < 0 or change.wallet.reserve < 0:
                raise Poison("refused_by_database", "wallets")
        for head in batch.heads:
            seq = tables.heads.get(head.merchant_id, NO_ENTRIES).seq
            if head.base_seq == 0 and seq:
                raise Conflict("insert_heads")
            if seq != head.base_seq:
                raise Conflict("update_heads")

    def judge_leases(self, leases: Iterable[Lease]) -> None:
        lost = frozenset(one.partition for one in leases if self.tables.partitions[one.partition].epoch != one.epoch)
        if lost:
            raise Fenced(lost)

    def write(self, batch: Batch, lease_s: float) -> None:
        """What was judged well, written."""
        self._watch(batch)
        tables, now = self.tables, self._clock()
        for ref in (*batch.claims, *_buried(batch)):
            tables.outbox.pop(ref, None)
        for fact in batch.facts:
            tables.evidence[fact.payment_id].append(fact)
            tables.evidence_ids.add(fact.event_id)
        for change in batch.payments:
            tables.payments[change.payment.id] = replace(change.payment, facts=())
        tables.orders.update({one.operation.id: one.order for one in batch.made})
        self.write_money(batch)
        tables.events.update({(event.payment.id, event.payment.version): event for event in batch.events})
        for command in batch.commands:
            self._issue(command, now)
        for ref in [row.id for row in tables.outbox.values() if _is_needless(row, batch)]:
            del tables.outbox[ref]
        tables.letters.extend(batch.letters)
        tables.parked.update({ref: tables.outbox.pop(ref) for ref in batch.parked if ref in tables.outbox})
        tables.verdicts.update({verdict.event_id: verdict for verdict in batch.verdicts})
        for lease in batch.leases:
            row = tables.partitions[lease.partition]
            row.lease_until, row.last_batch = now + lease_s, batch.id

    def write_money(self, batch: Batch) -> None:
        """Ledger, adjustments, wallets and heads."""
        tables = self.tables
        tables.entries.extend(batch.entries)
        tables.adjustments.update({_identity(one): one for one in batch.adjustments})
        self.write_wallets(batch.wallets)
        tables.heads.update({change.merchant_id: change.head for change in batch.heads})

    def write_wallets(self, changes: Iterable[WalletChange]) -> None:
        """The wallets alone."""
        self.tables.wallets.update({(one.merchant_id, one.wallet.currency): one.wallet for one in changes})

    def _issue(self, command: IssuedCommand, now: float) -> None:
        """Of inquiries one at a time waits for an operation."""
        outbox, order = self.tables.outbox, self.tables.orders[command.operation_id]
        if command.kind is CommandKind.INQUIRE and any(
            row.operation_id == command.operation_id and row.type == command.kind and row.published_at is None
            for row in outbox.values()
        ):
            return
        outbox[command.id] = OutboxRow(
            id=command.id,
            stream=command.stream,
            type=command.kind,
            merchant_id=order.merchant_id,
            payment_id=order.payment_id,
            operation_id=command.operation_id,
            body=order,
            created_at=now,
            available_at=now + command.delay_ms / 1000,
            published_at=now if command.delay_ms == 0 else None,
        )

    def fate(self, batch: Batch, lease_s: float) -> None:
        """`learn_fate`: returns when the batch is written. Raises: Conflict, Fenced."""
        rows = [
            self.tables.partitions[lease.partition]
            for lease in batch.leases
            if self.tables.partitions[lease.partition].epoch == lease.epoch
        ]
        for row in rows:
            row.lease_until = max(row.lease_until, self._clock() + lease_s)
        if any(row.last_batch == batch.id for row in rows):
            return
        if not rows:
            raise Fenced(frozenset(lease.partition for lease in batch.leases))
        raise Conflict("the batch whose COMMIT was cut off was not committed")

    # -- leases -------------------------------------------------------------------------------------------------------

    def is_over(self, row: PartitionRow) -> bool:
        """Whether a partition may be taken because its lease has ended, or because nobody owns it."""
        return row.owner is None or row.lease_until < self._clock()

    def is_orphaned(self, row: PartitionRow) -> bool:
        """Whether it may be taken because its owner's session is gone."""
        return row.owner is not None and self.is_gone(row.owner)

    def take(self, owner: str, count: int, lease_s: float) -> list[tuple[Lease, str | None, int]]:
        """`take_leases`: what is free and not locked at this moment, with the owner before and how many died of it."""
        taken: list[tuple[Lease, str | None, int]] = []
        for number, row in self.tables.partitions.items():
            if len(taken) == count or row.is_locked or not (self.is_over(row) or self.is_orphaned(row)):
                continue
            before = row.owner
            self.takeovers += before is not None
            row.unclean_deaths += self.is_orphaned(row)
            row.owner, row.epoch, row.lease_until = owner, row.epoch + 1, self._clock() + lease_s
            taken.append((Lease(partition=number, epoch=row.epoch), before, row.unclean_deaths))
        return taken

    def keep(self, leases: Iterable[Lease], lease_s: float) -> frozenset[Lease]:
        """`keep_leases`: those that are still held."""
        kept = [lease for lease in leases if self.tables.partitions[lease.partition].epoch == lease.epoch]
        for lease in kept:
            self.tables.partitions[lease.partition].lease_until = self._clock() + lease_s
        return frozenset(kept)

    def release(self, lease: Lease) -> None:
        """`release_lease`: if it is still held."""
        row = self.tables.partitions[lease.partition]
        if row.epoch == lease.epoch:
            row.owner, row.lease_until = None, self._clock()

    # -- the gateway --------------------------------------------------------------------------------------------------

    def open_attempt(self, operation_id: str) -> AttemptRow | None:
        """The attempt that may have been sent; there is at most one."""
        for row in self.tables.attempts.values():
            if row.operation_id == operation_id and row.outcome is not Outcome.NOT_SENT:
                return row
        return None

    def conclude(self, conclusions: Iterable[Conclusion], stream_of: Callable[[str], str]) -> list[OutboxRow]:
        """`conclude_commands`: of two ends of one command the one that knows more; a row that is gone has ended."""
        ends: dict[str, Conclusion] = {}
        for one in conclusions:
            known = ends.get(one.command.ref)
            if known is None or _knows_more(one, known):
                ends[one.command.ref] = one
        now, evidence = self._clock(), []
        for one in ends.values():
            if self.tables.outbox.pop(one.command.ref, None) is None:
                continue
            attempt = self.tables.attempts.get(one.attempt_id or "")
            if attempt is not None and one.answer is not None and attempt.outcome in _CHANGEABLE:
                attempt.outcome, attempt.concluded_at = one.answer.outcome, now
            if one.fact is not None:
                evidence.append(self.insert_evidence(one.fact, one.command.order, stream_of))
        return evidence

    def insert_evidence(self, fact: Fact, order: PspOrder, stream_of: Callable[[str], str]) -> OutboxRow:
        """An outbox row that brings evidence to the merchant's actor."""
        now = self._clock()
        row = OutboxRow(
            id=fact.event_id,
            stream=stream_of(order.merchant_id),
            type="psp.evidence",
            merchant_id=order.merchant_id,
            payment_id=order.payment_id,
            operation_id=order.operation_id,
            body=fact,
            created_at=now,
            available_at=now,
            published_at=now,
        )
        self.tables.outbox[row.id] = row
        return row


_CHANGEABLE = (None, Outcome.UNKNOWN, Outcome.PENDING)


def _knows_more(one: Conclusion, other: Conclusion) -> bool:
    """`ORDER BY outcome IS NULL, outcome = 'unknown'`."""
    return _doubt(one) < _doubt(other)


def _doubt(one: Conclusion) -> tuple[bool, bool]:
    return one.answer is None, one.answer is not None and one.answer.outcome is Outcome.UNKNOWN


def _identity(one: Adjustment) -> tuple[str, str, int]:
    return one.fact.operation_id, one.fact.kind, one.fact.part


def _buried(batch: Batch) -> list[str]:
    return [letter.what.ref for letter in batch.letters if letter.what.ref is not None]


def _count(what: str, refs: Iterable[str], rows: Iterable[str]) -> None:
    """As many rows as were asked for, or a conflict; the same row twice is one row."""
    wanted = list(refs)
    if wanted and len(set(wanted) & set(rows)) != len(wanted):
        raise Conflict(what)


def _is_needless(row: OutboxRow, batch: Batch) -> bool:
    return row.type == CommandKind.INQUIRE and row.published_at is None and row.operation_id in batch.answered


def _unique(what: str, new: list[tuple[str, str, int]] | list[str], known: Container[object]) -> None:
    if new and (len(set(new)) != len(new) or any(one in known for one in new)):
        raise Conflict(what)
