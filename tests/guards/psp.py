"""A PSP in virtual time: as quick, as down and as forgetful as a test wants it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Final

import anyio

from paynode.domain.money import Money
from paynode.domain.payment import Method, OperationKind, PspOrder
from paynode.domain.psp import Answer, Callback, Capabilities, Outcome, PspRequest, SettlementLine
from paynode.psp.breaker import State
from tests.faults.gateways import CAPABILITIES
from tests.guards.clock import now

APPROVED: Final = Answer(outcome=Outcome.APPROVED, reference="ch_1", amount=1000, currency="EUR")
DECLINED: Final = Answer(outcome=Outcome.DECLINED, reason="insufficient_funds")
REFUSED: Final = Answer(outcome=Outcome.NOT_SENT, reason="connection_refused", is_psp_failure=True)
SILENT: Final = Answer(outcome=Outcome.UNKNOWN, reason="timeout", is_psp_failure=True)

ORDER: Final = PspOrder(
    operation_id="op-1",
    payment_id="pay-1",
    merchant_id="mer-1",
    psp="sim",
    money=Money(amount=1000, currency="EUR"),
    method=Method.TOKEN,
    token="tok",
)
REQUEST: Final = PspRequest(path="/", body=b"", idempotency_key="op-1")


def order(kind: OperationKind) -> PspOrder:
    """An order of a kind."""
    return replace(ORDER, kind=kind, charge_id="op-0")


@dataclass
class Psp:
    """Answers `answer` after `seconds`; `called_at` are the instants of its calls, `busiest` the most at once."""

    answer: Answer | None = APPROVED
    seconds: float = 0.1
    called_at: list[float] = field(default_factory=list)
    under_way: int = 0
    busiest: int = 0
    capabilities: Capabilities = CAPABILITIES

    def prepare(self, order: PspOrder) -> PspRequest:
        return REQUEST

    async def send(self, order: PspOrder, request: PspRequest, *, send_by: float, deadline: float) -> Answer:
        answer = await self._call()
        assert answer is not None
        return answer

    async def find(self, order: PspOrder, *, deadline: float) -> Answer | None:
        return await self._call()

    async def _call(self) -> Answer | None:
        self.called_at.append(now())
        self.under_way += 1
        self.busiest = max(self.busiest, self.under_way)
        try:
            answer = self.answer  # as it is when the call comes
            await anyio.sleep(self.seconds)
            return answer
        finally:
            self.under_way -= 1

    def parse_callback(self, headers: Mapping[str, str], raw: bytes, *, now_s: float) -> Callback | None:
        raise NotImplementedError

    def settlement(self, since: datetime, until: datetime) -> AsyncIterator[SettlementLine]:
        raise NotImplementedError


@dataclass
class Observer:
    """Remembers what was refused, and why."""

    reasons: list[str] = field(default_factory=list)
    retries: int = 0

    def calling(self, psp: str, change: int) -> None: ...
    def called(self, psp: str, operation: str, answer: Answer | None, seconds: float) -> None: ...
    def refused(self, psp: str, operation: str, reason: str) -> None:
        self.reasons.append(reason)

    def retrying(self, psp: str) -> None:
        self.retries += 1

    def breaker_is(self, psp: str, operation: str, state: State) -> None: ...
