"""Tries of operations at PSPs: what is claimed before the first byte leaves, and what is concluded after the last."""

from __future__ import annotations

from dataclasses import dataclass

from paynode.domain.deciding import CommandKind
from paynode.domain.payment import ChargeOrder, Fact, Source
from paynode.domain.psp import Answer, Outcome, PspRequest


@dataclass(frozen=True, slots=True, kw_only=True)
class GatewayCommand:
    """An outbox row for the gateway; `ref` is its id."""

    ref: str
    kind: CommandKind
    order: ChargeOrder


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """Asks for the right to send an operation's bytes, once."""

    attempt_id: str
    command: GatewayCommand
    request: PspRequest


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempt:
    """The attempt of an operation that may have been sent.

    `outcome` is None while it is open; `is_past_deadline` says that nobody can still be sending it or waiting for
    its answer; `age_ms` counts from its claim, by the database's clock.
    """

    id: str
    request: PspRequest
    outcome: Outcome | None
    is_past_deadline: bool
    age_ms: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Suspect:
    """A command over which processes may have died: how often it was tried alone, this time included, since when."""

    attempts: int
    first_failed_at_ms: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Conclusion:
    """The end of a command. Without an answer the command only goes: there was nothing to do or to say.

    `evidence_id` becomes the event id of the evidence.
    """

    command: GatewayCommand
    attempt_id: str | None = None
    answer: Answer | None = None
    source: Source = Source.ANSWER
    evidence_id: str

    @property
    def fact(self) -> Fact | None:
        """The answer as evidence for the merchant's actor."""
        if self.answer is None:
            return None
        order, answer = self.command.order, self.answer
        return Fact(
            event_id=self.evidence_id,
            payment_id=order.payment_id,
            operation_id=order.operation_id,
            outcome=answer.outcome,
            source=self.source,
            reference=answer.reference,
            amount=answer.amount,
            currency=answer.currency,
            page_url=answer.page_url,
            reason=answer.reason,
            psp_at_ms=answer.psp_at_ms,
        )
