"""The twin of a PSP, with its charge book; it recognises an idempotency key for ever.

It charges and does not answer, answers late, declines, cannot be reached, or charges once more than it was asked to;
whoever asks later is told the truth.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

import anyio
import anyio.lowlevel

from paynode.domain.attempts import Turn
from paynode.domain.payment import OperationKind, PspOrder
from paynode.domain.psp import Answer, Capabilities, Outcome, PspRequest
from tests.simulation.processes import Lost, Process, Server, Surroundings


@dataclass(frozen=True, slots=True)
class Charge:
    """One line of the book; with `target` it gives back the charge of that reference."""

    operation_id: str
    reference: str
    amount: int
    target: str | None = None


class Bank:
    """The PSP's own side: what it was asked and what it did."""

    def __init__(self, around: Surroundings) -> None:
        self.book: list[Charge] = []
        self.known: dict[str, Answer] = {}
        self._around = around

    def perform(self, order: PspOrder) -> Answer:
        """Charge, or decline: once for each key."""
        answer = self.known.get(order.operation_id)
        if answer is None:
            answer = self.known[order.operation_id] = self._decide(order)
        return answer

    def _decide(self, order: PspOrder) -> Answer:
        if order.kind is OperationKind.SALE and self._around.roll() < 0.1:
            return Answer(outcome=Outcome.DECLINED, reason="insufficient_funds")
        return self.book_once_more(order)

    def book_once_more(self, order: PspOrder) -> Answer:
        """Do it, whether or not it was done before."""
        target = order.charge_reference if order.kind is OperationKind.REFUND else None
        charge = Charge(order.operation_id, f"ch_{len(self.book) + 1}", order.money.amount, target)
        self.book.append(charge)
        return Answer(
            outcome=Outcome.APPROVED,
            reference=charge.reference,
            amount=charge.amount,
            currency=order.money.currency,
        )


class SimPsp:
    """The adapter, as a gateway has it: nothing here raises but death itself."""

    capabilities = Capabilities(
        has_page=True,
        has_token=True,
        can_authorize=True,
        can_capture_partially=True,
        can_capture_repeatedly=True,
        can_refund_partially=True,
        can_cancel_page=True,
        is_callback_binding=True,
        idempotent_for_s=3600.0,
        settle_s=60.0,
    )

    def __init__(self, bank: Bank, process: Process, around: Surroundings) -> None:
        self._bank = bank
        self._process = process
        self._around = around

    def prepare(self, order: PspOrder) -> PspRequest:
        return PspRequest(path="/charges", body=b"", idempotency_key=order.operation_id)

    async def send(self, order: PspOrder, request: PspRequest, *, send_by: float, deadline: float) -> Answer:
        around = self._around
        await self._process.awake()
        if around.now > send_by or self._process.is_cut_off(Server.PSP):
            return Answer(outcome=Outcome.NOT_SENT, reason="too_late")
        try:
            await self._process.reach(Server.PSP)
            answer = self._bank.perform(order)
            await self._process.hear(Server.PSP)
        except Lost:
            return Answer(outcome=Outcome.UNKNOWN, reason="timeout")
        if around.now > deadline:
            return Answer(outcome=Outcome.UNKNOWN, reason="timeout")
        return answer

    @asynccontextmanager
    async def turn_to_send(self, order: PspOrder, *, is_retry: bool, is_urgent: bool) -> AsyncIterator[Turn]:
        yield Turn()

    @asynccontextmanager
    async def turn_to_ask(self) -> AsyncIterator[Turn]:
        yield Turn()

    async def find(self, order: PspOrder, *, deadline: float) -> Answer | None:
        try:
            await self._process.reach(Server.PSP)
            answer = self._bank.known.get(order.operation_id)
            await self._process.hear(Server.PSP)
        except Lost:
            return Answer(outcome=Outcome.UNKNOWN, reason="timeout")
        if self._around.now > deadline:
            await anyio.lowlevel.checkpoint()
            return Answer(outcome=Outcome.UNKNOWN, reason="timeout")
        return answer
