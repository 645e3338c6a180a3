"""The deciding part: charges and sessions, each of them once, and booked before anybody is told."""

from __future__ import annotations

import asyncio
import heapq
import logging
import secrets
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from weakref import WeakValueDictionary

from paynode.sim.callbacks import Courier, Event
from paynode.sim.faults import Faults
from paynode.sim.journal import Journal
from paynode.sim.records import Charge, Session, now_ms
from paynode.sim.scripts import Script

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """What a caller asks to be charged, with the key and the hash that recognise a repetition."""

    reference: str
    amount: int
    currency: str
    idempotency_key: str
    request_hash: str


class Acquirer:
    """Keeps at most one charge per Idempotency-Key and per session.

    Indexes change only after the line is on the disk: what an inquiry or a repetition sees survives a kill.
    """

    def __init__(
        self, *, book: Journal, sessions: Journal, courier: Courier, faults: Faults, session_ttl_s: float
    ) -> None:
        self._book = book
        self._session_file = sessions
        self._courier = courier
        self._faults = faults
        self._session_ttl_ms = int(session_ttl_s * 1000)
        self.charges: list[Charge] = []
        self._sessions: dict[str, Session] = {}
        self._by_key: dict[str, Charge | Session] = {}
        self._charges_of: defaultdict[str, list[Charge]] = defaultdict(list)
        self._sessions_of: defaultdict[str, list[Session]] = defaultdict(list)
        self._turns: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()
        self._expiries: list[tuple[int, str]] = []
        self._restore()

    def turn(self, idempotency_key: str) -> asyncio.Lock:
        """Whoever comes with the same key waits for the first."""
        lock = self._turns.get(idempotency_key)
        if lock is None:
            lock = self._turns[idempotency_key] = asyncio.Lock()
        return lock

    def of_key(self, idempotency_key: str) -> Charge | Session | None:
        return self._by_key.get(idempotency_key)

    def session(self, session_id: str) -> Session | None:
        return self._sessions.get(session_id)

    def charges_of(self, reference: str) -> list[Charge]:
        """Approved ones first: they are the final word on a reference."""
        return sorted(self._charges_of.get(reference, ()), key=lambda charge: not charge.is_approved)

    def sessions_of(self, reference: str) -> list[Session]:
        return list(self._sessions_of.get(reference, ()))

    async def charge(self, order: Order, script: Script) -> Charge:
        """Decide and book one token charge; the caller holds the key's turn and found nothing kept."""
        assert order.idempotency_key not in self._by_key, "one Idempotency-Key, one charge"
        charge = await self._book_charge(order, script, session_id=None)
        self._by_key[charge.idempotency_key] = charge
        return charge

    async def open_session(self, order: Order, *, return_url: str, description: str) -> Session:
        """Open a payment page; the caller holds the key's turn and found nothing kept."""
        assert order.idempotency_key not in self._by_key, "one Idempotency-Key, one session"
        created_ms = now_ms()
        session = Session(
            id=f"cs_{secrets.token_urlsafe(24)}",  # whoever knows it may pay: 192 bits
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
        self._know_session(session)
        return session

    async def settle_session(self, session: Session, script: Script) -> None:
        """Charge or decline what the page asks for, unless the session has ended; the caller holds its turn."""
        if session.status != "open":
            return
        order = Order(
            reference=session.reference,
            amount=session.amount,
            currency=session.currency,
            idempotency_key=session.idempotency_key,
            request_hash=session.request_hash,
        )
        session.charge = await self._book_charge(order, script, session_id=session.id)

    async def expire_sessions(self) -> None:
        """Close what nobody paid in time, for ever."""
        while True:
            while self._expiries and self._expiries[0][0] <= now_ms():
                _, session_id = heapq.heappop(self._expiries)
                await self._expire(self._sessions[session_id])
            until_next_ms = self._expiries[0][0] - now_ms() if self._expiries else 1000
            # At most a second: a session opened meanwhile may be the next, and a set clock is noticed.
            await asyncio.sleep(min(max(until_next_ms, 1), 1000) / 1000)

    async def _expire(self, session: Session) -> None:
        async with self.turn(session.idempotency_key):
            if session.status != "open":
                return
            await self._session_file.append({"op": "expired", "id": session.id})
            session.is_expired = True
        self._courier.announce(Event.of_expired(session))

    async def _book_charge(self, order: Order, script: Script, *, session_id: str | None) -> Charge:
        script = self._faults.changed(script)
        charge = Charge(
            id=f"ch_{secrets.token_hex(12)}",
            reference=order.reference,
            idempotency_key=order.idempotency_key,
            request_hash=order.request_hash,
            amount=order.amount + script.surplus_minor,
            currency=order.currency,
            decline_code=script.decline_code,
            created_ms=now_ms(),
            session_id=session_id,
        )
        await self._book.append(charge.book_line())
        self._know_charge(charge)
        self._courier.announce(Event.of_charge(charge), times=script.callback_times, delay_ms=script.callback_delay_ms)
        return charge

    def _know_charge(self, charge: Charge) -> None:
        self.charges.append(charge)
        self._charges_of[charge.reference].append(charge)

    def _know_session(self, session: Session) -> None:
        self._sessions[session.id] = session
        self._by_key[session.idempotency_key] = session
        self._sessions_of[session.reference].append(session)
        heapq.heappush(self._expiries, (session.expires_ms, session.id))

    def _restore(self) -> None:
        for line in self._session_file.lines():
            if line["op"] == "opened":
                self._know_session(Session.of_opened_line(line))
            else:
                self._sessions[str(line["id"])].is_expired = True
        for line in self._book.lines():
            charge = Charge.of_book_line(line)
            self._know_charge(charge)
            if charge.session_id is None:
                self._by_key[charge.idempotency_key] = charge
            elif session := self._sessions.get(charge.session_id):
                session.charge = charge
            else:
                log.error("charge %s names a session that the session file does not hold", charge.id)
        undelivered = self._courier.announce_again(self._events())
        log.info("%d charges read back, %d callbacks still owed", len(self.charges), undelivered)

    def _events(self) -> Iterator[Event]:
        for charge in self.charges:
            yield Event.of_charge(charge)
        for session in self._sessions.values():
            if session.is_expired:
                yield Event.of_expired(session)
