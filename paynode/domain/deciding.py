"""What one piece of evidence about a payment leads to: `decide(state, evidence) -> state, effects`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum

from paynode.domain.evidence import Limits, Place, own, to_give_back
from paynode.domain.folding import absorb, with_operation
from paynode.domain.payment import (
    Fact,
    Operation,
    OperationKind,
    OperationState,
    Origin,
    Payment,
    Source,
)
from paynode.domain.psp import Capabilities, Outcome
from paynode.domain.record import record


class CommandKind(StrEnum):
    """What the gateway is asked to do with an operation."""

    SUBMIT = "psp.submit"  # ask for it: the first sending of its bytes
    INQUIRE = "psp.inquire"  # find out what became of it; send the same bytes again if the PSP never saw them


@record
class Command:
    """A command to the gateway of `psp`, due after `delay_ms` milliseconds (before jitter)."""

    kind: CommandKind
    operation_id: str
    psp: str
    delay_ms: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """When to ask or try again, all in milliseconds; and what the PSPs can do.

    `inquiry_ladder_ms`: the pause before the n-th inquiry; after the last one people must look.
    `pending_inquiry_ms`: the pause before the PSP is asked about what it has promised to tell.
    `not_sent_tries_max`: calls that provably never left before the operation is failed.
    """

    inquiry_ladder_ms: tuple[int, ...]
    pending_inquiry_ms: int = 600_000
    not_sent_tries_max: int
    not_sent_retry_ms: int
    not_sent_retry_max_ms: int
    capabilities: Mapping[str, Capabilities] = field(default_factory=dict)

    @property
    def limits(self) -> Limits:
        """Where trying and asking end."""
        return Limits(not_sent_tries_max=self.not_sent_tries_max, doubts_max=len(self.inquiry_ladder_ms))

    def inquiry_delay_ms(self, asked: int) -> int:
        """The pause before the next inquiry when `asked` calls have ended in doubt (at least one)."""
        return self.inquiry_ladder_ms[min(asked, len(self.inquiry_ladder_ms)) - 1]

    def retry_delay_ms(self, tries: int, psps: int) -> int:
        """The pause after `tries` calls (at least one) that were not sent; none while some PSP has not been tried."""
        rounds, place = divmod(tries, psps)
        if place:
            return 0
        # 30 doublings are far beyond any maximum; the bound keeps the number small.
        return min(self.not_sent_retry_ms << min(rounds - 1, 30), self.not_sent_retry_max_ms)


@record
class Decision:
    """What follows. `made` are new operations; `event` names the change for the timeline, None when nothing was new."""

    payment: Payment
    made: tuple[Operation, ...] = ()
    commands: tuple[Command, ...] = ()
    event: str | None = None


def decide(payment: Payment, fact: Fact, policy: Policy, new_id: Callable[[], str]) -> Decision:
    """Fold one fact into a payment and say what is due now that was not before."""
    after = absorb(payment, fact, policy.limits)
    if after is payment:
        return Decision(payment=payment, commands=_ask_again(payment, fact, policy))
    made = (*_giving_back(payment, after, new_id), *_giving_back_surplus(after, new_id))
    for one in made:
        after = with_operation(after, one, policy.limits)
    submits = tuple(Command(kind=CommandKind.SUBMIT, operation_id=one.id, psp=one.psp) for one in made)
    return Decision(
        payment=after,
        made=made,
        commands=(*_commands(after, after.facts[-1], policy), *submits),
        event=event_of(payment, after),
    )


def event_of(before: Payment, after: Payment) -> str:
    """What the change is called on the timeline: by what it did to the payment as merchants see it."""
    if after.status is not before.status:
        return f"payment.{after.status}"
    if after.amounts.refunded != before.amounts.refunded:
        return "payment.refunded"
    return "payment.updated"


def _commands(after: Payment, fact: Fact, policy: Policy) -> tuple[Command, ...]:
    """Only the fact that is in doubt asks again: others, arriving meanwhile, would start a second ladder."""
    operation = after.operation(fact.operation_id)
    assert operation is not None, "it was folded"
    if fact.psp is not None:
        return ()  # what another PSP says is neither a try of this one's nor a doubt about it
    count = sum(known.outcome is fact.outcome for known in own(after.facts_of(operation)))
    match fact.outcome, operation.state:
        case Outcome.UNKNOWN, OperationState.UNKNOWN:
            return (_command(CommandKind.INQUIRE, operation, policy.inquiry_delay_ms(count)),)
        case Outcome.NOT_SENT, OperationState.NEW:
            psps = max(len(after.route), 1) if operation.is_charge else 1
            return (_command(CommandKind.SUBMIT, operation, policy.retry_delay_ms(count, psps)),)
        case ((Outcome.PENDING | Outcome.UNKNOWN | Outcome.ABSENT), OperationState.PENDING):
            # It was promised, whatever a later question came to: somebody must go on asking.
            return (_command(CommandKind.INQUIRE, operation, policy.pending_inquiry_ms),)
        case _:
            return ()


def _ask_again(payment: Payment, fact: Fact, policy: Policy) -> tuple[Command, ...]:
    """An inquiry that heard what is known already: the PSP still owes the end, and its callback may be lost."""
    operation = payment.operation(fact.operation_id)
    is_waiting = operation is not None and operation.state is OperationState.PENDING
    if (
        operation is None
        or not is_waiting
        or fact.psp not in (None, operation.psp)
        or fact.outcome not in (Outcome.PENDING, Outcome.ABSENT)
        or fact.source is not Source.INQUIRY
    ):
        return ()
    return (_command(CommandKind.INQUIRE, operation, policy.pending_inquiry_ms),)


def _command(kind: CommandKind, operation: Operation, delay_ms: int) -> Command:
    return Command(kind=kind, operation_id=operation.id, psp=operation.psp, delay_ms=delay_ms)


# -- giving back ------------------------------------------------------------------------------------------------------


def _giving_back(before: Payment, after: Payment, new_id: Callable[[], str]) -> tuple[Operation, ...]:
    """What succeeded although it was given up, or nobody waits for it, goes back in the transaction that books it."""
    if before.charge.state is OperationState.APPROVED or after.charge.state is not OperationState.APPROVED:
        return ()
    if before.is_reversed:
        return (giving_back(after, Origin.REVERSAL, new_id()),)
    if before.is_given_up:
        return (giving_back(after, Origin.LATE_SUCCESS, new_id()),)
    return ()


def _giving_back_surplus(after: Payment, new_id: Callable[[], str]) -> tuple[Operation, ...]:
    """What was charged twice, or where nothing had been sent, goes back: once for each charge that is too many."""
    found = to_give_back(after.charge, after.facts_of(after.charge))
    known = {(one.psp, one.target) for one in after.operations}
    return tuple(_giving_back_at(place, after, new_id()) for place in found if place not in known)


def _giving_back_at(place: Place, payment: Payment, operation_id: str) -> Operation:
    """Holds nothing of the merchant's: what it gives back never was there."""
    psp, reference = place
    operation = giving_back(payment, Origin.SURPLUS, operation_id)
    return replace(operation, psp=psp, target=reference, hold_available=0)


def giving_back(payment: Payment, origin: Origin, operation_id: str) -> Operation:
    """The void of an authorization, or the refund of a sale: whole, whatever the merchant has left."""
    is_sale = payment.charge.kind is OperationKind.SALE
    return Operation(
        id=operation_id,
        kind=OperationKind.REFUND if is_sale else OperationKind.VOID,
        money=payment.money,
        psp=payment.charge.psp,
        origin=origin,
        # The money came in with the same facts that now send it back: it is there, or the wallet shows the lack.
        hold_available=payment.money.amount if is_sale else 0,
        reason=origin.value,
    )
