"""The deciding part: every operation once, and booked before anybody is told."""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections.abc import Iterator
from weakref import WeakValueDictionary

from paynode.sim.bodies import Order
from paynode.sim.callbacks import Courier, Event
from paynode.sim.faults import Faults
from paynode.sim.journal import Journal
from paynode.sim.memory import Memory
from paynode.sim.records import CHANGES, Entry, Kind, Session, now_ms, prefix_of
from paynode.sim.refusals import Refusal
from paynode.sim.report import Report
from paynode.sim.scripts import APPROVE, Script
from paynode.sim.standing import Standing, refusal_of_cancel

log = logging.getLogger(__name__)


class Acquirer:
    """Keeps at most one operation per Idempotency-Key, one charge per session, and never gives more than there is.

    Memory changes only after the line is on the disk: what an inquiry or a repetition sees survives a kill.
    """

    def __init__(
        self,
        *,
        book: Journal,
        sessions: Journal,
        courier: Courier,
        faults: Faults,
        report: Report,
        session_ttl_s: float,
    ) -> None:
        self._book = book
        self._session_file = sessions
        self._courier = courier
        self._faults = faults
        self._report = report
        self._session_ttl_ms = int(session_ttl_s * 1000)
        self._turns: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()
        self.memory = Memory()
        self._restore()

    def turn(self, name: str) -> asyncio.Lock:
        """Whoever comes with the same key, or to the same charge, waits for the first."""
        lock = self._turns.get(name)
        if lock is None:
            lock = self._turns[name] = asyncio.Lock()
        return lock

    async def charge(self, order: Order, script: Script) -> Entry:
        """Decide and book one charge on a token; the caller holds the key's turn and found nothing kept."""
        return await self._book_entry(order, script)

    async def open_session(self, order: Order, *, return_url: str, description: str) -> Session:
        """Open a payment page; the caller holds the key's turn and found nothing kept."""
        created_ms = now_ms()
        session = Session(
            id=f"cs_{secrets.token_urlsafe(24)}",  # whoever knows it may pay: 192 bits
            kind=order.kind,
            reference=order.reference,
            idempotency_key=order.idempotency_key,
            request_hash=order.request_hash,
            amount=order.amount,
            currency=order.currency,
            return_url=return_url,
            description=description,
            created_ms=created_ms,
            expires_ms=created_ms + self._session_ttl_ms,
        )
        await self._session_file.append(session.opened_line())
        self.memory.know_session(session)
        return session

    async def settle_session(self, session: Session, script: Script) -> None:
        """Charge or decline what the page asks for, unless the session has ended; the caller holds its turn."""
        if session.status == "open":
            order = Order(
                kind=session.kind,
                reference=session.reference,
                amount=session.amount,
                currency=session.currency,
                idempotency_key=session.idempotency_key,
                request_hash=session.request_hash,
            )
            await self._book_entry(order, script, session_id=session.id)

    async def follow(self, order: Order, *, of: str, charge_id: str | None, is_final: bool = False) -> Entry:
        """Capture, void or refund; the caller holds the key's turn and found nothing kept.

        Raises: Refusal when there is no such charge.
        """
        standing = self.memory.standing(of, charge_id)
        if standing is None:
            raise Refusal(404, "charge_unknown", "there is no approved charge of that name; nothing was done")
        async with self.turn(standing.charge.id):
            code = standing.refusal(order.kind, order.amount, order.currency)
            is_declined = code is None and standing.charge.declines == order.kind
            script = Script(decline_code="do_not_honor" if is_declined else code)
            is_void = order.kind is Kind.VOID and script.decline_code is None
            return await self._book_entry(
                order,
                script,
                amount=standing.remaining if is_void else order.amount,
                charge_id=standing.charge.id,
                is_final=is_final,
                is_refused=code is not None,
            )

    async def cancel(self, order: Order, *, of: str) -> Entry:
        """Close an open page; the caller holds the key's turn and found nothing kept.

        Raises: Refusal when there is no such page.
        """
        sessions = self.memory.sessions_of(of)
        if not sessions:
            raise Refusal(404, "session_unknown", "there is no page of that name; nothing was done")
        async with self.turn(sessions[0].idempotency_key):
            session = sessions[0]
            code = refusal_of_cancel(session)
            return await self._book_entry(
                order,
                Script(decline_code=code),
                amount=session.amount,
                session_id=session.id,
                is_refused=code is not None,
            )

    async def reverse(self, reference: str) -> Entry:
        """Take back an approved sale or capture, or let an approved refund fail. Raises: Refusal."""
        entries = [one for one in self.memory.entries_of(reference) if one.is_approved]
        if not entries or entries[0].kind not in (Kind.SALE, Kind.CAPTURE, Kind.REFUND):
            raise Refusal(404, "charge_unknown", "no approved sale, capture or refund has that reference")
        standing = self.memory.standing_of(entries[0])
        async with self.turn(standing.charge.id):
            if self.memory.change_of(entries[0]) is not None:
                raise Refusal(409, "already_reversed", "it was taken back before")
            return await self._book_change(Kind.REVERSAL, entries[0], entries[0].amount)

    async def lapse(self, standing: Standing) -> None:
        """Let go of what is left of an authorization."""
        async with self.turn(standing.charge.id):
            if standing.remaining:
                await self._book_change(Kind.LAPSE, standing.charge, standing.remaining)

    async def expire(self, session: Session) -> None:
        """Close a page that nobody paid in time."""
        async with self.turn(session.idempotency_key):
            if session.status != "open":
                return
            await self._session_file.append({"op": "expired", "id": session.id})
            session.is_expired = True
        self._courier.announce(Event.of(session.public(), session.expires_ms))

    async def _book_entry(
        self,
        order: Order,
        script: Script,
        *,
        amount: int | None = None,
        session_id: str | None = None,
        charge_id: str | None = None,
        is_final: bool = False,
        is_refused: bool = False,
    ) -> Entry:
        script = self._faults.changed(order.kind, script)
        entry = Entry(
            id=f"{prefix_of(order.kind)}_{secrets.token_hex(12)}",
            kind=order.kind,
            reference=order.reference,
            idempotency_key=order.idempotency_key,
            request_hash=order.request_hash,
            amount=(order.amount if amount is None else amount) + script.surplus_minor,
            currency=order.currency,
            decline_code=script.decline_code,
            created_ms=now_ms(),
            session_id=session_id,
            charge_id=charge_id,
            is_final=is_final,
            is_refused=is_refused,
            declines=script.declines,
        )
        await self._append(entry, script)
        return entry

    async def _book_change(self, kind: Kind, changed: Entry, amount: int) -> Entry:
        entry = Entry(
            id=f"{prefix_of(kind)}_{secrets.token_hex(12)}",
            kind=kind,
            reference=changed.reference,
            idempotency_key="",  # nobody asked for it
            request_hash="",
            amount=amount,
            currency=changed.currency,
            decline_code=None,
            created_ms=now_ms(),
            charge_id=changed.id,
        )
        await self._append(entry, self._faults.changed(kind, APPROVE))
        return entry

    async def _append(self, entry: Entry, script: Script) -> None:
        await self._book.append(entry.book_line())
        self._know(entry)
        told = self.memory.told(entry)
        event = Event.of(told, entry.created_ms, instead=self._faults.twisted("callback", told))
        self._courier.announce(event, times=script.callback_times, delay_ms=script.callback_delay_ms)

    def _know(self, entry: Entry) -> None:
        self.memory.know(entry)
        changed = self.memory.entry(str(entry.charge_id)) if entry.kind in CHANGES else None
        self._report.know(entry, changed)

    def _restore(self) -> None:
        self.memory.read_back_sessions(self._session_file.lines())
        for line in self._book.lines():
            self._know(Entry.of_book_line(line))
        undelivered = self._courier.announce_again(self._events())
        log.info("%d entries read back, %d callbacks still owed", len(self.memory.entries), undelivered)

    def _events(self) -> Iterator[Event]:
        for entry in self.memory.entries:
            yield Event.of(self.memory.told(entry), entry.created_ms)
        for session in self.memory.sessions():
            if session.is_expired:
                yield Event.of(session.public(), session.expires_ms)
