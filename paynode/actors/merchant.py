"""A merchant's actor: it holds the merchant's books and the payments in hand, and decides in order.

What it decides stands only in memory until the committer has written it. After any failure the actor is thrown away
with all it knew, and another one loads what the database holds.
"""

from __future__ import annotations

import traceback
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Final, NamedTuple, Protocol

from anyio.abc import TaskGroup

from paynode.domain.adjusting import adjust
from paynode.domain.batch import Booked, Lease
from paynode.domain.booking import Effects, MerchantBooks, Surroundings, answer, book, mature
from paynode.domain.maturing import Maturity
from paynode.domain.mending import BooksAdjustment
from paynode.domain.message import Message, letter_of
from paynode.domain.moving import end_payout, move, on_request, pay_out
from paynode.domain.payment import Fact, Payment
from paynode.domain.psp import Outcome
from paynode.domain.publishing import OutsideEvent, PayoutEnd, PayoutOrder, Result, Verdict, WalletMovement
from paynode.domain.report import ReportLine
from paynode.domain.requesting import Request
from paynode.domain.road import is_on_pos_lane
from paynode.domain.settling import settle
from paynode.runtime.mailbox import Actor

# Money has moved, there or back.
_MOVED: Final = (Outcome.APPROVED, Outcome.REVERSED)


class Delivery(NamedTuple):
    """A message with the stream entry it came by."""

    stream: str
    entry_id: str
    message: Message


class Decided(NamedTuple):
    """What one entry led to, on its way to the committer. `message` is what it brought, if that could be read."""

    entry_id: str
    booked: Booked
    message: Message | None = None

    @property
    def is_pos(self) -> bool:
        """Whether somebody stands at a till and waits for it."""
        return is_on_pos_lane(self.entry_id)


class Outlet(Protocol):
    """Takes what actors have decided; waits when the committer is behind."""

    async def submit(self, decided: Sequence[Decided]) -> None: ...


class Around(Protocol):
    """Makes the surroundings of a decision: the time now, fresh ids, the rules."""

    def __call__(self, lease: Lease) -> Surroundings: ...


class MerchantActor:
    """One merchant under one lease."""

    __slots__ = (
        "_actor",
        "_around",
        "_books",
        "_expected",
        "_group",
        "_in_hand",
        "_lease",
        "_mailbox_size",
        "_outlet",
        "_payments",
    )

    def __init__(self, lease: Lease, outlet: Outlet, around: Around, group: TaskGroup, *, mailbox_size: int) -> None:
        self._lease = lease
        self._outlet = outlet
        self._around = around
        self._books: MerchantBooks | None = None
        self._payments: dict[str, Payment] = {}
        self._in_hand: Counter[str] = Counter()
        self._expected = 0
        self._group = group
        self._mailbox_size = mailbox_size
        # Only while something is expected. It refers back to us: with it an actor that is forgotten would be a circle,
        # which lives until a full collection of the garbage, and those are far apart.
        self._actor: Actor[Delivery] | None = None

    def expect(self, message: Message, payment_id: str | None) -> bool:
        """One more message comes. Keep its payment in hand; says whether that must be loaded first.

        For a request it is loaded again: a mark at a point of sale is written beside us, and its request follows it.
        """
        self._expected += 1
        if payment_id is None:
            return False
        self._in_hand[payment_id] += 1
        return payment_id not in self._payments or isinstance(message.content, Request)

    @property
    def is_idle(self) -> bool:
        """Whether everything that was expected is committed: then the database knows all that this actor does."""
        return self._expected == 0

    @property
    def needs_books(self) -> bool:
        """Whether the merchant's books must be loaded first."""
        return self._books is None

    def load(self, books: MerchantBooks | None, payments: Mapping[str, Payment]) -> None:
        """Take what was loaded, unless what is in hand is as new: it may stand on decisions that are not committed."""
        if self._books is None:
            self._books = books
        for payment_id, loaded in payments.items():
            known = self._payments.get(payment_id)
            is_older = known is None or (known.version < loaded.version and not known.is_held_up)
            if payment_id in self._in_hand and is_older:
                self._payments[payment_id] = loaded

    async def put(self, delivery: Delivery) -> None:
        """Hand over a message; waits while the mailbox is full."""
        if self._actor is None:
            self._actor = Actor(self._decide, self._group, capacity=self._mailbox_size)
        await self._actor.put(delivery)

    def settle(self, payment_id: str | None) -> None:
        """One message is committed; forget the payment it was about when no other is in hand."""
        self._expected -= 1
        if self.is_idle:
            self._actor = None
        if payment_id is None:
            return
        self._in_hand[payment_id] -= 1
        if self._in_hand[payment_id] <= 0:
            del self._in_hand[payment_id]
            self._payments.pop(payment_id, None)

    # -- deciding -------------------------------------------------------------------------------------------------

    async def _decide(self, deliveries: Sequence[Delivery]) -> None:
        around = self._around(self._lease)
        await self._outlet.submit([self._decide_one(delivery, around) for delivery in deliveries])

    def _decide_one(self, delivery: Delivery, around: Surroundings) -> Decided:
        """Never fails: the next message must not wait because nobody can decide upon this one."""
        try:
            booked = self._book(delivery, around)
        except Exception as bug:  # noqa: BLE001 - whatever fails here is this message's, and no other's
            # Deciding is pure: the same message would fail in the same way for ever, and it has changed nothing.
            booked = self._bury(delivery, "decision_failed", _where(bug), around)
        return Decided(delivery.entry_id, booked, delivery.message)

    def _book(self, delivery: Delivery, around: Surroundings) -> Booked:
        match delivery.message.content:
            case Fact() as fact:
                return self._book_evidence(delivery, fact, around)
            case Request() as request:
                return self._answer(delivery, request, around)
            case OutsideEvent() as event:
                return self._book_movement(delivery, event, around)
            case Maturity() as maturity:
                return self._mature(delivery, maturity, around)
            case ReportLine() as line:
                return self._settle(delivery, line, around)
            case BooksAdjustment() as adjustment:
                return self._adjust(delivery, adjustment, around)

    def _book_evidence(self, delivery: Delivery, fact: Fact, around: Surroundings) -> Booked:
        before, payment = self._books, self._payments.get(fact.payment_id)
        if before is None or payment is None or payment.operation(fact.operation_id) is None:
            # The ingress inserts a payment before anything can be said about it: this row was not written by paynode.
            detail = f"no payment {fact.payment_id} with operation {fact.operation_id}"
            return self._bury(delivery, "payment_unknown", detail, around)
        if payment.is_held_up and fact.outcome not in _MOVED:  # money that moved waits for nobody
            return Booked(lease=self._lease, effects=Effects(claim=delivery.message.ref, is_parked=True))
        after, payment, effects = book(before, payment, fact, around)
        self._books, self._payments[payment.id] = after, payment
        return Booked(lease=self._lease, effects=effects, before=before, after=after)

    def _answer(self, delivery: Delivery, request: Request, around: Surroundings) -> Booked:
        before, payment = self._books, self._payments.get(request.payment_id)
        if before is None or payment is None:
            return self._bury(delivery, "payment_unknown", f"no payment {request.payment_id}", around)
        if payment.is_held_up:
            return Booked(lease=self._lease, effects=Effects(claim=delivery.message.ref, is_parked=True))
        after, payment, effects = answer(before, payment, request, around)
        self._books, self._payments[payment.id] = after, payment
        return Booked(lease=self._lease, effects=effects, before=before, after=after)

    def _book_movement(self, delivery: Delivery, event: OutsideEvent, around: Surroundings) -> Booked:
        before = self._books
        if before is None:
            return self._bury(delivery, "merchant_unknown", f"no merchant {event.merchant_id}", around)
        ref = delivery.message.ref
        match event.data:
            case WalletMovement() as movement:
                self._books, effects = move(before, event, movement, ref, around)
            case PayoutOrder() as order:
                self._books, effects = pay_out(before, event, order, ref, around)
            case PayoutEnd() as end:
                self._books, effects = end_payout(before, event, end, ref, around)
            case asked:
                payment = self._payments.get(asked.payment_id)
                self._books, payment, effects = on_request(before, payment, event, asked, ref, around)
                if payment is not None:
                    self._payments[payment.id] = payment
        return Booked(lease=self._lease, effects=effects, before=before, after=self._books)

    def _mature(self, delivery: Delivery, maturity: Maturity, around: Surroundings) -> Booked:
        before, payment = self._books, self._payments.get(maturity.payment_id)
        if before is None or payment is None:
            return self._bury(delivery, "payment_unknown", f"no payment {maturity.payment_id}", around)
        if payment.is_held_up:
            return Booked(lease=self._lease, effects=Effects(claim=delivery.message.ref, is_parked=True))
        after, payment, effects = mature(before, payment, maturity, around)
        self._books, self._payments[payment.id] = after, payment
        return Booked(lease=self._lease, effects=effects, before=before, after=after)

    def _settle(self, delivery: Delivery, line: ReportLine, around: Surroundings) -> Booked:
        before, payment = self._books, self._payments.get(line.payment_id or "")
        if before is None or (line.payment_id is not None and payment is None):
            return self._bury(delivery, "payment_unknown", f"no payment {line.payment_id}", around)
        self._books, payment, effects = settle(before, payment, line, around)
        if payment is not None:
            self._payments[payment.id] = payment
        return Booked(lease=self._lease, effects=effects, before=before, after=self._books)

    def _adjust(self, delivery: Delivery, adjustment: BooksAdjustment, around: Surroundings) -> Booked:
        before = self._books
        if before is None:
            return self._bury(delivery, "merchant_unknown", f"no merchant {delivery.message.merchant_id}", around)
        self._books, effects = adjust(before, adjustment, around)
        return Booked(lease=self._lease, effects=effects, before=before, after=self._books)

    def _bury(self, delivery: Delivery, reason: str, detail: str, around: Surroundings) -> Booked:
        payment = self._payments.get(delivery.message.payment_id or "")
        if payment is not None and isinstance(delivery.message.content, Fact):
            # What comes later about it waits behind this letter.
            self._payments[payment.id] = replace(payment, is_held_up=True)
        return burial(self._lease, delivery, reason, detail, around)


def burial(lease: Lease, delivery: Delivery, reason: str, detail: str, around: Surroundings) -> Booked:
    """The effects of a message that could be read and can never work: a letter in its place."""
    message = delivery.message
    letter = letter_of(
        message,
        letter_id=around.new_id(),
        stream=delivery.stream,
        entry_id=delivery.entry_id,
        reason=reason,
        detail=detail,
        now_ms=around.now_ms,
    )
    verdict = None
    if isinstance(message.content, OutsideEvent):
        verdict = Verdict.of(message.content, Result.DEAD_LETTER, reason)
    return Booked(lease=lease, effects=Effects(claim=message.ref, letter=letter, verdict=verdict))


def _where(bug: Exception) -> str:
    """What failed and where; not the words of the exception, which may quote a customer's."""
    place = traceback.extract_tb(bug.__traceback__)[-1]
    return f"{type(bug).__name__} in {Path(place.filename).name}:{place.lineno} ({place.name})"
