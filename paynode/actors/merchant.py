"""A merchant's actor: it holds the merchant's books and the payments in hand, and decides in order.

What it decides stands only in memory until the committer has written it. After any failure the actor is thrown away
with all it knew, and another one loads what the database holds.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from anyio.abc import TaskGroup

from paynode.domain.batch import Booked, Lease
from paynode.domain.booking import Effects, MerchantBooks, Surroundings, book
from paynode.domain.message import DeadLetter, Message, Unreadable
from paynode.domain.payment import Payment
from paynode.runtime.mailbox import Actor


@dataclass(frozen=True, slots=True)
class Delivery:
    """A message with the stream entry it came by."""

    stream: str
    entry_id: str
    message: Message


@dataclass(frozen=True, slots=True)
class Decided:
    """What one entry led to, on its way to the committer."""

    entry_id: str
    booked: Booked


class Outlet(Protocol):
    """Takes what actors have decided; waits when the committer is behind."""

    async def submit(self, decided: Sequence[Decided]) -> None: ...


class Around(Protocol):
    """Makes the surroundings of a decision: the time now, fresh ids, the rules."""

    def __call__(self, lease: Lease) -> Surroundings: ...


class MerchantActor:
    """One merchant under one lease."""

    __slots__ = ("_actor", "_around", "_books", "_in_hand", "_lease", "_outlet", "_payments")

    def __init__(self, lease: Lease, outlet: Outlet, around: Around, group: TaskGroup, *, mailbox_size: int) -> None:
        self._lease = lease
        self._outlet = outlet
        self._around = around
        self._books: MerchantBooks | None = None
        self._payments: dict[str, Payment] = {}
        self._in_hand: Counter[str] = Counter()
        self._actor: Actor[Delivery] = Actor(self._decide, group, capacity=mailbox_size)

    def expect(self, payment_id: str) -> bool:
        """Keep the payment in hand for one more message; says whether it must be loaded first."""
        self._in_hand[payment_id] += 1
        return payment_id not in self._payments

    @property
    def needs_books(self) -> bool:
        """Whether the merchant's books must be loaded first."""
        return self._books is None

    def load(self, books: MerchantBooks | None, payments: Mapping[str, Payment]) -> None:
        """Take what was loaded; what is in hand already is newer and stays."""
        if self._books is None:
            self._books = books
        for payment_id in self._in_hand:
            if payment_id not in self._payments and payment_id in payments:
                self._payments[payment_id] = payments[payment_id]

    async def put(self, delivery: Delivery) -> None:
        """Hand over a message; waits while the mailbox is full."""
        await self._actor.put(delivery)

    def settle(self, payment_id: str) -> None:
        """One message about the payment is committed; forget the payment when no other is in hand."""
        self._in_hand[payment_id] -= 1
        if self._in_hand[payment_id] <= 0:
            del self._in_hand[payment_id]
            self._payments.pop(payment_id, None)

    async def _decide(self, deliveries: Sequence[Delivery]) -> None:
        around = self._around(self._lease)
        await self._outlet.submit([self._decide_one(delivery, around) for delivery in deliveries])

    def _decide_one(self, delivery: Delivery, around: Surroundings) -> Decided:
        message = delivery.message
        before, payment = self._books, self._payments.get(message.fact.payment_id)
        if before is None or payment is None or payment.operation.id != message.fact.operation_id:
            return Decided(delivery.entry_id, self._bury(delivery, around))
        self._books, after, effects = book(before, payment, message.fact, around)
        self._payments[payment.id] = after
        return Decided(delivery.entry_id, Booked(lease=self._lease, effects=effects, before=before, after=self._books))

    def _bury(self, delivery: Delivery, around: Surroundings) -> Booked:
        # The ingress inserts a payment before anything can be said about it: this row was not written by paynode.
        fact = delivery.message.fact
        what = Unreadable(
            ref=delivery.message.ref,
            reason="payment_unknown",
            detail=f"no payment {fact.payment_id} with operation {fact.operation_id}",
            fields={"ref": delivery.message.ref},
        )
        letter = DeadLetter(id=around.new_id(), stream=delivery.stream, entry_id=delivery.entry_id, what=what)
        return Booked(lease=self._lease, effects=Effects(claim=delivery.message.ref, letter=letter))
