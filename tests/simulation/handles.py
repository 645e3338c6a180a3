"""What a process has in hand of the store: the Protocols of the actors, over the twin, with all that befalls a call."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import TypeVar

import anyio

from paynode.domain.attempts import Attempt, Claim, Conclusion, GatewayCommand
from paynode.domain.batch import Batch, Lease
from paynode.domain.booking import MerchantBooks
from paynode.domain.deciding import CommandKind
from paynode.domain.errors import CommitAmbiguous, Conflict, Fenced, Poison, Unavailable
from paynode.domain.ledger import NO_ENTRIES
from paynode.domain.message import Message, Unread, Unreadable
from paynode.domain.money import FeePlan
from paynode.domain.ownership import Sight, Taken
from paynode.domain.payment import Fact, Payment, PspOrder
from paynode.domain.publishing import Verdict
from paynode.domain.road import Place, Pointer
from paynode.domain.terms import Terms
from tests.simulation.processes import Lost, Process, Server, Surroundings
from tests.simulation.store import AttemptRow, OutboxRow, Store

Result = TypeVar("Result")

TERMS = Terms(fees=FeePlan(fixed=25, basis_points=150))


class Session:
    """One process's way to the store."""

    def __init__(self, store: Store, process: Process, around: Surroundings) -> None:
        self.store = store
        self.process = process
        self.around = around

    async def call(self, statement: Callable[[], Result]) -> Result:
        """One round trip. Raises: Unavailable, and then it may have happened."""
        try:
            await self.process.reach(Server.STORE)
            result = statement()
            await self.process.hear(Server.STORE)
        except Lost:
            raise Unavailable("store") from None
        return result

    async def call_unlocked(self, partitions: Iterable[int], statement: Callable[[], Result]) -> Result:
        """The same, for a statement that waits while another transaction holds one of these rows."""
        rows = [self.store.tables.partitions[number] for number in partitions]
        try:
            await self.process.reach(Server.STORE)
            while any(row.is_locked for row in rows):  # noqa: ASYNC110 - a row has no event for it
                await anyio.sleep(0.01)
            result = statement()
            await self.process.hear(Server.STORE)
        except Lost:
            raise Unavailable("store") from None
        return result


class SimBooks:
    """`storage.books.PgBooks`: a batch in one fenced transaction, an ambiguous COMMIT settled before it returns."""

    def __init__(self, session: Session, lease_s: float) -> None:
        self.session = session
        self.lease_s = lease_s

    async def commit(self, batch: Batch) -> None:
        try:
            await self.transact(batch)
        except CommitAmbiguous:
            self.session.around.counts["ambiguous commits"] += 1
            await self.settle(batch)

    async def transact(self, batch: Batch) -> None:
        """Judge and write. Raises: Fenced, Conflict, Poison, Unavailable (nothing is written), CommitAmbiguous."""
        store, around = self.session.store, self.session.around

        def attempt() -> None:
            store.judge(batch)
            if around.roll() >= around.weather.ambiguous:
                store.write(batch, self.lease_s)
                return
            self._cut_off(batch)
            raise CommitAmbiguous("cut")

        try:
            await self.session.call_unlocked((lease.partition for lease in batch.leases), attempt)
        except Unavailable:
            raise CommitAmbiguous("cut") from None  # the request or the reply: nobody can tell

    def _cut_off(self, batch: Batch) -> None:
        """The connection is gone amid the statement: it was done, or never will be, or is being done at this moment.

        Or the server meets it only later, when whoever sent it has been told that it was not.
        """
        store, around = self.session.store, self.session.around
        how = around.roll()
        if how < 0.4:
            store.write(batch, self.lease_s)
        elif how < 0.7:
            rows = [store.tables.partitions[lease.partition] for lease in batch.leases]

            def end() -> None:
                for row in rows:
                    row.is_locked = False
                store.write(batch, self.lease_s)

            for row in rows:
                row.is_locked = True
            around.loop.call_later(around.roll(), end)
        elif how < 0.85:
            around.loop.call_later(around.roll(), self._meet_late, batch)

    def _meet_late(self, batch: Batch) -> None:
        rows = [self.session.store.tables.partitions[lease.partition] for lease in batch.leases]
        if any(row.is_locked for row in rows):
            self.session.around.loop.call_later(0.01, self._meet_late, batch)
            return
        with suppress(Conflict, Fenced, Poison):
            self.session.store.judge(batch)
            self.session.store.write(batch, self.lease_s)

    async def settle(self, batch: Batch) -> None:
        """Returns when the batch was committed. Raises: Conflict, Fenced, Unavailable."""
        partitions = [lease.partition for lease in batch.leases]
        await self.session.call_unlocked(partitions, lambda: self.session.store.fate(batch, self.lease_s))


class SimShelf:
    """`storage.shelf.PgShelf`."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._tables = session.store.tables

    async def messages(self, places: Sequence[Place]) -> Mapping[Place, Message | Unread | Unreadable]:
        def find() -> dict[Place, Message | Unread | Unreadable]:
            asked = [(stream, self._tables.outbox.get(ref)) for stream, ref in places]
            return {(row.stream, row.id): _message(row) for stream, row in asked if row and row.stream == stream}

        return await self._session.call(find)

    async def verdicts(self, event_ids: Sequence[str]) -> Mapping[str, Verdict]:
        known = self._tables.verdicts
        return await self._session.call(lambda: {one: known[one] for one in event_ids if one in known})

    async def payments(self, payment_ids: Sequence[str]) -> Mapping[str, Payment]:
        tables = self._tables
        rows = await self._session.call(lambda: [tables.payments[one] for one in payment_ids if one in tables.payments])
        # A second statement: another session may have committed in between.
        facts = {row.id: tuple(tables.evidence[row.id]) for row in rows}
        return {row.id: replace(row, facts=facts[row.id]) for row in rows}

    async def books(self, merchant_ids: Sequence[str]) -> Mapping[str, MerchantBooks]:
        tables = self._tables
        heads = await self._session.call(lambda: {one: tables.heads.get(one, NO_ENTRIES) for one in merchant_ids})
        return {
            merchant_id: MerchantBooks(
                merchant_id=merchant_id,
                head=head,
                wallets={
                    currency: wallet for (owner, currency), wallet in tables.wallets.items() if owner == merchant_id
                },
            )
            for merchant_id, head in heads.items()
        }


def _message(row: OutboxRow) -> Message | Unread | Unreadable:
    if isinstance(row.body, Fact):
        return Message(ref=row.id, merchant_id=row.merchant_id, content=row.body)
    if isinstance(row.body, PspOrder):
        return Unreadable(ref=row.id, reason="type_unknown", detail=row.type)
    return Unread(ref=row.id, fields=row.body)


class SimSuspects:
    """`storage.suspects.PgSuspects`."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._tables = session.store.tables

    async def count(self, stream: str, entry: str) -> int:
        def add() -> int:
            tries = self._tables.suspects[stream, entry] = self._tables.suspects.get((stream, entry), 0) + 1
            return tries

        return await self._session.call(add)

    async def uncount(self, stream: str, entry: str) -> None:
        def take() -> None:
            if (stream, entry) in self._tables.suspects:
                self._tables.suspects[stream, entry] -= 1

        await self._session.call(take)

    async def is_waiting(self, ref: str, stream: str) -> bool:
        def look() -> bool:
            row = self._tables.outbox.get(ref)
            return row is not None and row.stream == stream

        return await self._session.call(look)

    async def tries(self, stream: str, entry: str) -> int:
        return await self._session.call(lambda: self._tables.suspects.get((stream, entry), 0))

    async def acquit(self, lease: Lease, stream: str) -> None:
        def forget() -> None:
            row = self._tables.partitions[lease.partition]
            if row.epoch == lease.epoch:
                row.unclean_deaths = 0
                for key in [key for key in self._tables.suspects if key[0] == stream]:
                    del self._tables.suspects[key]

        await self._session.call_unlocked([lease.partition], forget)


class SimOwning:
    """`storage.leases.PgLeases` and `storage.presence.PgPresence`: one worker among the others."""

    def __init__(self, session: Session, lease_s: float, watch: Callable[[str, Lease], None]) -> None:
        self._session = session
        self._tables = session.store.tables
        self._name = session.process.name
        self._lease_s = lease_s
        self._watch = watch

    async def beat(self) -> None:
        def note() -> None:
            self._tables.workers[self._name] = self._session.around.now + self._lease_s

        await self._session.call(note)

    async def look(self) -> Sight:
        return await self._session.call(self._sight)

    def _sight(self) -> Sight:
        store, now = self._session.store, self._session.around.now
        others = [
            name
            for name, alive_until in self._tables.workers.items()
            if name != self._name and alive_until > now and not store.is_gone(name)
        ]
        rows = self._tables.partitions.values()
        return Sight(
            live=1 + len(others),
            before=sum(name < self._name for name in others),
            vacant=sum(store.is_over(row) for row in rows),
            orphaned=sum(not store.is_over(row) and store.is_orphaned(row) for row in rows),
        )

    async def leave(self) -> None:
        await self._session.call(lambda: self._tables.workers.pop(self._name, None))

    async def take(self, count: int) -> Sequence[Taken]:
        taken = await self._session.call(lambda: self._session.store.take(self._name, count, self._lease_s))
        return [Taken(lease=lease, owner_before=before, unclean_deaths=deaths) for lease, before, deaths in taken]

    async def keep(self, leases: Iterable[Lease]) -> frozenset[Lease]:
        held = list(leases)
        return await self._session.call_unlocked(
            (lease.partition for lease in held), lambda: self._session.store.keep(held, self._lease_s)
        )

    async def release(self, lease: Lease) -> None:
        self._watch(self._name, lease)
        await self._session.call_unlocked([lease.partition], lambda: self._session.store.release(lease))


class SimOutbox:
    """`storage.outbox.PgOutbox`: the outbox as the relay sees it."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._tables = session.store.tables

    async def take_due(self, count: int) -> Sequence[Pointer]:
        def take() -> list[Pointer]:
            now = self._session.around.now
            due = [row for row in self._tables.outbox.values() if row.published_at is None and row.available_at <= now]
            for row in due[:count]:
                row.published_at = now
            return [_pointer(row) for row in due[:count]]

        return await self._session.call(take)

    async def old_streams(self, after_s: float) -> Sequence[str]:
        def find() -> list[str]:
            before = self._session.around.now - after_s
            rows = self._tables.outbox.values()
            return sorted({row.stream for row in rows if row.published_at is not None and row.published_at < before})

        return await self._session.call(find)

    async def find_lost(
        self, before_ms: Mapping[str, int | None], *, after_s: float, max_s: float, count: int
    ) -> Sequence[Pointer]:
        def find() -> list[Pointer]:
            found = [
                (row.published_at, row)
                for row in self._tables.outbox.values()
                if row.published_at is not None and self._is_old(row, row.published_at, after_s, max_s, before_ms)
            ]
            return [_pointer(row) for _, row in sorted(found, key=lambda one: one[0])[:count]]

        return await self._session.call(find)

    def _is_old(
        self, row: OutboxRow, published_at: float, after_s: float, max_s: float, before_ms: Mapping[str, int | None]
    ) -> bool:
        age = self._session.around.now - published_at
        if row.stream not in before_ms or age <= after_s or age <= min(max_s, after_s * 2**row.republished):
            return False
        bound = before_ms[row.stream]
        return (bound is None or self._at_ms(published_at) < bound) and not self._is_at_work(row)

    def _is_at_work(self, row: OutboxRow) -> bool:
        if row.operation_id is None or row.type == "psp.evidence":
            return False
        attempt = self._session.store.open_attempt(row.operation_id)
        return attempt is not None and attempt.concluded_at is None and attempt.deadline_at > self._session.around.now

    def _at_ms(self, at: float) -> int:
        return 1_700_000_000_000 + int(at * 1000)

    async def mark_republished(self, refs: Sequence[str]) -> None:
        def mark() -> None:
            for row in filter(None, map(self._tables.outbox.get, refs)):
                row.published_at, row.republished = self._session.around.now, row.republished + 1

        await self._session.call(mark)


class SimSingleton:
    """`storage.leases.PgSingleton`."""

    def __init__(self, session: Session, lease_s: float) -> None:
        self._session = session
        self._lease_s = lease_s

    async def hold(self) -> bool:
        def hold() -> bool:
            held, now, name = (
                self._session.store.tables.singletons,
                self._session.around.now,
                self._session.process.name,
            )
            owner, until = held.get("relay", (name, 0.0))
            if owner == name or until < now:
                held["relay"] = (name, now + self._lease_s)
                return True
            return False

        return await self._session.call(hold)

    async def drop(self) -> None:
        await self._session.call(lambda: self._session.store.tables.singletons.pop("relay", None))


class SimAttempts:
    """`storage.attempts.PgAttempts`: what the gateway writes."""

    def __init__(
        self, session: Session, stream_of: Callable[[str], str], *, send_within_s: float, call_deadline_s: float
    ) -> None:
        self._session = session
        self._store = session.store
        self._stream_of = stream_of
        self._send_within_s, self._until_deadline_s = send_within_s, send_within_s + call_deadline_s

    async def commands(self, refs: Sequence[str]) -> Mapping[str, GatewayCommand | Unreadable]:
        def find() -> dict[str, GatewayCommand | Unreadable]:
            rows = filter(None, map(self._store.tables.outbox.get, refs))
            return {
                row.id: GatewayCommand(ref=row.id, kind=CommandKind(row.type), order=row.body)
                for row in rows
                if isinstance(row.body, PspOrder)
            }

        return await self._session.call(find)

    async def claim(self, claims: Sequence[Claim]) -> Sequence[bool]:
        return await self._session.call(lambda: [self._claim(one) for one in claims])

    def _claim(self, claim: Claim) -> bool:
        operation_id = claim.command.order.operation_id
        if claim.command.ref not in self._store.tables.outbox or self._store.open_attempt(operation_id) is not None:
            return False
        now = self._session.around.now
        self._store.tables.attempts[claim.attempt_id] = AttemptRow(
            id=claim.attempt_id,
            operation_id=operation_id,
            psp=claim.command.order.psp,
            request=claim.request,
            claimed_at=now,
            send_by=now + self._send_within_s,
            deadline_at=now + self._until_deadline_s,
        )
        return True

    async def find(self, operation_id: str) -> Attempt | None:
        return await self._session.call(lambda: self._attempt(self._store.open_attempt(operation_id)))

    def _attempt(self, row: AttemptRow | None) -> Attempt | None:
        if row is None:
            return None
        now = self._session.around.now
        return Attempt(
            id=row.id,
            psp=row.psp,
            request=row.request,
            outcome=row.outcome,
            is_past_deadline=row.deadline_at < now,
            age_ms=int((now - row.claimed_at) * 1000),
            sent_ms=int((now - row.send_by) * 1000),
        )

    async def claim_resend(self, attempt_id: str, *, idempotent_for_s: float) -> bool:
        def claim() -> bool:
            row, now = self._store.tables.attempts[attempt_id], self._session.around.now
            if row.outcome != "unknown" or (row.concluded_at is None and row.deadline_at >= now):
                return False
            if row.claimed_at <= now - idempotent_for_s:
                return False
            row.concluded_at, row.deadline_at = None, now + self._until_deadline_s
            row.send_by = now + self._send_within_s
            return True

        return await self._session.call(claim)

    async def conclude(self, conclusions: Sequence[Conclusion]) -> Sequence[Pointer]:
        rows = await self._session.call(lambda: self._store.conclude(conclusions, self._stream_of))
        return [_pointer(row) for row in rows]


def _pointer(row: OutboxRow) -> Pointer:
    return Pointer(stream=row.stream, ref=row.id, merchant=row.merchant_id)
