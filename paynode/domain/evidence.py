"""What a set of facts says about one operation.

The state is a function of the *set*: each rule below asks "is there a fact that ...", never "was the last fact ...".
So any order and any repetition of the same evidence give the same state, and there is nothing to undo when the PSP's
callback overtakes its answer.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

from paynode.domain.payment import GIVEN_UP, Fact, Operation, OperationKind, OperationState
from paynode.domain.psp import Outcome

# The gateway's word for a first sending whose payment had no time left: no further try.
TOO_LATE: Final = "payment_deadline"

# What our own guards say: another PSP or a later time, but no try that could have worked.
OF_OUR_GUARDS: Final = frozenset({"breaker_open", "bulkhead_full", "pace", "send_by_passed", "pool_wait"})

# The first outcome that some fact has decides: evidence of a charge beats evidence of none, which beats doubt.
# A page that is known to be open beats a call whose outcome was lost: that call was the one that opened it.
_PRECEDENCE: Final = (
    (Outcome.DECLINED, OperationState.DECLINED),
    (Outcome.EXPIRED, OperationState.EXPIRED),
    (Outcome.PENDING, OperationState.PENDING),
    (Outcome.ABSENT, OperationState.FAILED),
    (Outcome.UNKNOWN, OperationState.UNKNOWN),
)

# Operations that move no money: the PSP need not repeat the amount, nor name them.
_WITHOUT_AMOUNT: Final = (OperationKind.VOID, OperationKind.CANCEL)


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """`not_sent_tries_max`: calls of each PSP that provably never left before an operation is given up as failed.
    `doubts_max`: calls that ended in doubt before people must look. `is_unwanted`: nobody waits for it any more, so
    that what was not sent need not be.
    """

    not_sent_tries_max: int
    doubts_max: int
    is_unwanted: bool = False


def weighed(operation: Operation, facts: Sequence[Fact], route: Sequence[str], limits: Limits) -> Operation:
    """The operation as its facts say; `route` are the PSPs that may take a charge."""
    unsent = [fact for fact in facts if fact.outcome is Outcome.NOT_SENT]
    if operation.is_charge and route:
        # Proof that nothing was sent to one is what lets the next one have it.
        operation = replace(operation, psp=route[len(unsent) % len(route)])
    success = booked(operation, facts)
    if success is not None:
        # Also when it is another one of two charges that was taken back: people look at those anyway.
        is_taken_back = any(fact.outcome is Outcome.REVERSED and is_as_asked(operation, fact) for fact in facts)
        state = OperationState.REVERSED if is_taken_back else OperationState.APPROVED
        return replace(operation, state=state, reference=success.reference)
    psps = max(len(route), 1) if operation.is_charge else 1
    return replace(operation, state=_state_without_success(facts, unsent, limits.not_sent_tries_max * psps, limits))


def _state_without_success(
    facts: Sequence[Fact], unsent: Sequence[Fact], tries_max: int, limits: Limits
) -> OperationState:
    outcomes = [fact.outcome for fact in facts]
    if Outcome.APPROVED in outcomes:
        return OperationState.UNKNOWN  # not as asked: in doubt, and the payment is under review
    for outcome, state in _PRECEDENCE:
        if outcome in outcomes:
            is_hopeless = state is OperationState.UNKNOWN and outcomes.count(Outcome.UNKNOWN) > limits.doubts_max
            return OperationState.REVIEW if is_hopeless else state
    tries = sum(fact.reason not in OF_OUR_GUARDS for fact in unsent)
    is_over = limits.is_unwanted or any(fact.reason == TOO_LATE for fact in unsent)
    # What a check has held was not sent either.
    is_unsent = bool(unsent) or (limits.is_unwanted and Outcome.HELD in outcomes)
    is_given_up = tries >= tries_max or (is_over and is_unsent)
    return OperationState.FAILED if is_given_up else OperationState.NEW


def booked(operation: Operation, facts: Sequence[Fact]) -> Fact | None:
    """The first success that is exactly as asked: the one that is posted.

    "First" is the one place where order shows: when a PSP charged twice, one of two equal charges carries the
    posting. Which one makes no difference to any amount, and the payment goes to review either way. What was taken back
    had been given: should that be all that is ever heard of it, it is booked, and so is its reversal.
    """
    for outcome in (Outcome.APPROVED, Outcome.REVERSED):
        for fact in facts:
            if fact.outcome is outcome and is_as_asked(operation, fact):
                return fact
    return None


def is_as_asked(operation: Operation, fact: Fact) -> bool:
    """Whether a success has the amount and currency that were asked for, and a reference to find it by."""
    if operation.kind in _WITHOUT_AMOUNT:
        return fact.amount in (None, operation.money.amount) and fact.currency in (None, operation.money.currency)
    return (
        fact.amount == operation.money.amount
        and fact.currency == operation.money.currency
        and fact.reference is not None
    )


def was_given_up(operation: Operation, facts: Sequence[Fact], limits: Limits) -> bool:
    """Whether it had come to nothing before it succeeded: in the order in which the facts came to the books."""
    success = booked(operation, facts)
    before = facts if success is None else facts[: facts.index(success)]
    return any(
        weighed(operation, before[: count + 1], (), limits).state in GIVEN_UP
        for count, fact in enumerate(before)
        if fact.outcome is not Outcome.APPROVED
    )


def surplus(operation: Operation, facts: Sequence[Fact]) -> tuple[Fact, ...]:
    """What was done more than once: one fact for each of the PSP's references but the one that is booked.

    A success of another amount than asked is not among them: which of two claims about it is true, people must say.
    """
    success, found = booked(operation, facts), dict[str | None, Fact]()
    if success is None or operation.kind in _WITHOUT_AMOUNT or operation.kind is OperationKind.AUTHORIZE:
        return ()
    for fact in facts:
        if fact.outcome is Outcome.APPROVED and is_as_asked(operation, fact):
            found.setdefault(fact.reference, fact)
    return tuple(fact for reference, fact in found.items() if reference != success.reference)


def contradiction(operation: Operation, facts: Sequence[Fact]) -> str | None:
    """Why people must look, in a fixed order of precedence; None when the evidence agrees."""
    # What was taken back had been given, and must be the same.
    successes = [fact for fact in facts if fact.outcome in (Outcome.APPROVED, Outcome.REVERSED)]
    asked, is_bare = operation.money, operation.kind in _WITHOUT_AMOUNT
    if any(fact.currency != asked.currency for fact in successes if not (is_bare and fact.currency is None)):
        return "currency_mismatch"
    if any(fact.amount != asked.amount for fact in successes if not (is_bare and fact.amount is None)):
        return "amount_mismatch"
    if not is_bare and any(fact.reference is None for fact in successes):
        return "reference_missing"
    if not is_bare and len({fact.reference for fact in successes}) > 1:
        return "charged_twice"
    return None


def is_denied(operation: Operation, facts: Sequence[Fact]) -> bool:
    """Whether the PSP said both that it did it and that it did not. An authorization may lapse after it was given."""
    denials = {Outcome.DECLINED} if operation.kind is OperationKind.AUTHORIZE else {Outcome.DECLINED, Outcome.EXPIRED}
    outcomes = {fact.outcome for fact in facts}
    return Outcome.APPROVED in outcomes and bool(denials & outcomes)
