"""Tries of operations at PSPs: what is claimed before the first byte leaves, and what is concluded after the last."""

from __future__ import annotations

from dataclasses import dataclass

from paynode.domain.deciding import CommandKind
from paynode.domain.payment import Fact, PspOrder, Source
from paynode.domain.psp import Answer, Outcome, PspRequest
from paynode.domain.record import record


@record
class GatewayCommand:
    """An outbox row for the gateway; `ref` is its id, `tries` counts the earlier ones at this PSP that were provably
    not sent."""

    ref: str
    kind: CommandKind
    order: PspOrder
    tries: int = 0


@record
class Claim:
    """Asks for the right to send an operation's bytes, once."""

    attempt_id: str
    command: GatewayCommand
    request: PspRequest


@record
class Attempt:
    """The attempt of an operation that may have been sent.

    `outcome` is None while it is open; `is_past_deadline` says that nobody can still be sending it or waiting for
    its answer; `age_ms` counts from its claim, `sent_ms` from when it was sent at the latest, both by the database's
    clock. `reference` is the PSP's own name of what it opened or charged, once it has told us.
    """

    id: str
    psp: str
    request: PspRequest
    outcome: Outcome | None
    is_past_deadline: bool
    age_ms: int
    sent_ms: int
    reference: str | None = None


@record
class Turn:
    """Leave to call a PSP now, unless `refusal` says why not, or it is to be asked for again after `pause_s`
    seconds."""

    refusal: str = ""
    pause_s: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Postponed:
    """A command that was not begun, and comes again after `pause_s` seconds."""

    command: GatewayCommand
    pause_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Suspect:
    """A command over which processes may have died: how often it was tried alone, this time included, since when."""

    attempts: int
    first_failed_at_ms: int


@record
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
            fraud_check=answer.fraud_check,
        )
