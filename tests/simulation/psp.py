"""The twin of a PSP, with its charge book; it recognises an idempotency key for ever.

It charges and does not answer, answers late, declines, or cannot be reached; whoever asks later is told the truth.
"""

from __future__ import annotations

from dataclasses import dataclass

import anyio
import anyio.lowlevel

from paynode.domain.payment import ChargeOrder
from paynode.domain.psp import Answer, Outcome, PspRequest
from tests.simulation.processes import Lost, Process, Server, Surroundings


@dataclass(frozen=True, slots=True)
class Charge:
    """One line of the book."""

    operation_id: str
    reference: str
    amount: int


class Bank:
    """The PSP's own side: what it was asked and what it did."""

    def __init__(self, around: Surroundings) -> None:
        self.book: list[Charge] = []
        self.known: dict[str, Answer] = {}
        self._around = around

    def perform(self, order: ChargeOrder) -> Answer:
        """Charge, or decline: once for each key."""
        answer = self.known.get(order.operation_id)
        if answer is None:
            answer = self.known[order.operation_id] = self._decide(order)
        return answer

    def _decide(self, order: ChargeOrder) -> Answer:
        if self._around.roll() < 0.1:
            return Answer(outcome=Outcome.DECLINED, reason="insufficient_funds")
        charge = Charge(order.operation_id, f"ch_{len(self.book) + 1}", order.money.amount)
        self.book.append(charge)
        return Answer(
            outcome=Outcome.APPROVED,
            reference=charge.reference,
            amount=charge.amount,
            currency=order.money.currency,
        )


class SimPsp:
    """The adapter, as a gateway has it: nothing here raises but death itself."""

    idempotent_for_ms = 3_600_000

    def __init__(self, bank: Bank, process: Process, around: Surroundings, orders: dict[str, ChargeOrder]) -> None:
        self._bank = bank
        self._process = process
        self._around = around
        self._orders = orders

    def prepare(self, order: ChargeOrder) -> PspRequest:
        return PspRequest(path="/charges", body=b"", idempotency_key=order.operation_id)

    async def send(self, request: PspRequest, *, send_by: float, deadline: float) -> Answer:
        around, order = self._around, self._orders[request.idempotency_key]
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

    async def find(self, our_reference: str, *, deadline: float) -> Answer | None:
        try:
            await self._process.reach(Server.PSP)
            answer = self._bank.known.get(our_reference)
            await self._process.hear(Server.PSP)
        except Lost:
            return Answer(outcome=Outcome.UNKNOWN, reason="timeout")
        if self._around.now > deadline:
            await anyio.lowlevel.checkpoint()
            return Answer(outcome=Outcome.UNKNOWN, reason="timeout")
        return answer
