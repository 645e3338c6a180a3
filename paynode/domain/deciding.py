"""What one piece of evidence about a payment leads to: `decide(state, evidence) -> state, effects`."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from paynode.domain.folding import absorb
from paynode.domain.money import FeePlan
from paynode.domain.payment import Fact, OperationState, Payment
from paynode.domain.postings import BusinessFact, due
from paynode.domain.psp import Outcome


class CommandKind(StrEnum):
    """What the gateway is asked to do with an operation."""

    SUBMIT = "psp.submit"  # charge it, or open its page: the first sending of its bytes
    INQUIRE = "psp.inquire"  # find out what became of it; send the same bytes again if the PSP never saw them


@dataclass(frozen=True, slots=True, kw_only=True)
class Command:
    """A command to the gateway, due after `delay_ms` milliseconds (before jitter)."""

    kind: CommandKind
    operation_id: str
    delay_ms: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """When to ask or try again; all in milliseconds.

    `inquiry_ladder_ms`: the pause before the n-th inquiry; its last rung repeats, because no timer ends `unknown`.
    `not_sent_tries_max`: calls that provably never left before the payment is failed.
    """

    inquiry_ladder_ms: tuple[int, ...]
    not_sent_tries_max: int
    not_sent_retry_ms: int
    not_sent_retry_max_ms: int

    def inquiry_delay_ms(self, asked: int) -> int:
        """The pause before the next inquiry when `asked` calls have ended in doubt (at least one)."""
        return self.inquiry_ladder_ms[min(asked, len(self.inquiry_ladder_ms)) - 1]

    def retry_delay_ms(self, tries: int) -> int:
        """The pause after `tries` calls (at least one) that were not sent."""
        # 30 doublings are far beyond any maximum; the bound keeps the number small.
        return min(self.not_sent_retry_ms << min(tries - 1, 30), self.not_sent_retry_max_ms)


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """What follows. `event` names the change for the timeline; None when the evidence said nothing new."""

    payment: Payment
    business_facts: tuple[BusinessFact, ...] = ()
    commands: tuple[Command, ...] = ()
    event: str | None = None


def decide(payment: Payment, fact: Fact, fees: FeePlan, policy: Policy) -> Decision:
    """Fold one fact into a payment and say what is due now that was not before."""
    after = absorb(payment, fact, tries_max=policy.not_sent_tries_max)
    if after is payment:
        return Decision(payment=payment)
    return Decision(
        payment=after,
        business_facts=_newly_due(payment, after, fees),
        commands=_commands(after, fact, policy),
        event=f"payment.{after.status}" if after.status is not payment.status else "payment.updated",
    )


def _newly_due(before: Payment, after: Payment, fees: FeePlan) -> tuple[BusinessFact, ...]:
    posted = {(fact.operation_id, fact.kind, fact.part) for fact in due(before, fees)}
    return tuple(fact for fact in due(after, fees) if (fact.operation_id, fact.kind, fact.part) not in posted)


def _commands(after: Payment, fact: Fact, policy: Policy) -> tuple[Command, ...]:
    """Only the fact that is in doubt asks again: others, arriving meanwhile, would start a second ladder."""
    operation = after.operation
    count = sum(known.outcome is fact.outcome for known in after.facts)
    if fact.outcome is Outcome.UNKNOWN and operation.state is OperationState.UNKNOWN:
        delay_ms = policy.inquiry_delay_ms(count)
        return (Command(kind=CommandKind.INQUIRE, operation_id=operation.id, delay_ms=delay_ms),)
    if fact.outcome is Outcome.NOT_SENT and operation.state is OperationState.NEW:
        delay_ms = policy.retry_delay_ms(count)
        return (Command(kind=CommandKind.SUBMIT, operation_id=operation.id, delay_ms=delay_ms),)
    return ()
