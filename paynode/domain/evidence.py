"""What a set of facts says about one operation.

The state is a function of the *set*: each rule below asks "is there a fact that ...", never "was the last fact ...".
So any order and any repetition of the same evidence give the same state, and there is nothing to undo when the PSP's
callback overtakes its answer.

A charge has one PSP at a time. What another one says of it, that had it before, changes nothing of its state; but money
that moved there is surplus, like money that moved twice.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from itertools import takewhile
from typing import Final, TypeAlias

from paynode.domain.payment import GIVEN_UP, Fact, Operation, OperationKind, OperationState
from paynode.domain.psp import Outcome
from paynode.domain.record import record

# A PSP, and that PSP's name of what it did.
Place: TypeAlias = tuple[str, str | None]

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

# As long as nothing else is known, a charge may go on to the next PSP.
_NOWHERE_YET: Final = (Outcome.NOT_SENT, Outcome.HELD)

# What was taken back had been given.
_SUCCESSES: Final = (Outcome.APPROVED, Outcome.REVERSED)

# Operations that move no money: the PSP need not repeat the amount, nor name them.
_WITHOUT_AMOUNT: Final = (OperationKind.VOID, OperationKind.CANCEL)


@record
class Limits:
    """`not_sent_tries_max`: calls of each PSP that provably never left before an operation is given up as failed.
    `doubts_max`: calls that ended in doubt before people must look. `is_unwanted`: nobody waits for it any more, so
    that what was not sent need not be.
    """

    not_sent_tries_max: int
    doubts_max: int
    is_unwanted: bool = False


def holder(operation: Operation, facts: Sequence[Fact], route: Sequence[str]) -> str:
    """The PSP that has an operation: proof that nothing was sent to one is what lets the next one have the charge.

    Once anything else is known, whoever told it, the charge stays where it is. So this is read from the order in which
    facts came to the books: what was known before it went on decides where it is, and what comes later does not.
    """
    if not operation.is_charge or not route:
        return operation.psp
    unsent = sum(
        fact.outcome is Outcome.NOT_SENT for fact in takewhile(lambda fact: fact.outcome in _NOWHERE_YET, facts)
    )
    return route[unsent % len(route)]


def placed(operation: Operation, fact: Fact, facts: Sequence[Fact], route: Sequence[str]) -> Fact:
    """A new fact about an operation as the books keep it: who told it is kept only of another PSP than its own."""
    return replace(fact, psp=None) if fact.psp == holder(operation, facts, route) else fact


def own(facts: Sequence[Fact]) -> list[Fact]:
    """What the PSP has said that has the operation, or had it by then."""
    return [fact for fact in facts if fact.psp is None]


def weighed(operation: Operation, facts: Sequence[Fact], route: Sequence[str], limits: Limits) -> Operation:
    """The operation as its facts say; `route` are the PSPs that may take a charge."""
    # Money moved at a PSP of which that had been ruled out: it is not asked of one more.
    if not limits.is_unwanted and any(fact.psp and fact.outcome in _SUCCESSES for fact in facts):
        limits = replace(limits, is_unwanted=True)
    psp, facts = holder(operation, facts, route), own(facts)
    success, reference = booked(operation, facts), operation.reference
    if success is not None:
        # Also when it is another one of two charges that was taken back: people look at those anyway.
        is_taken_back = any(fact.outcome is Outcome.REVERSED and is_as_asked(operation, fact) for fact in facts)
        state, reference = OperationState.REVERSED if is_taken_back else OperationState.APPROVED, success.reference
    else:
        psps = max(len(route), 1) if operation.is_charge else 1
        state = _state_without_success(facts, limits.not_sent_tries_max * psps, limits)
    if (psp, state, reference) == (operation.psp, operation.state, operation.reference):
        return operation
    return replace(operation, psp=psp, state=state, reference=reference)


def _state_without_success(facts: Sequence[Fact], tries_max: int, limits: Limits) -> OperationState:
    outcomes = [fact.outcome for fact in facts]
    unsent = [fact for fact in facts if fact.outcome is Outcome.NOT_SENT]
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
    for outcome in _SUCCESSES:
        for fact in own(facts):
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


def place_of(operation: Operation, fact: Fact) -> Place:
    """Where the money of a success is: the PSP, and that PSP's name of the charge."""
    return fact.psp or operation.psp, fact.reference


def was_given_up(operation: Operation, facts: Sequence[Fact], limits: Limits) -> bool:
    """Whether it had come to nothing before it succeeded: in the order in which the facts came to the books."""
    success = booked(operation, facts)
    before = facts if success is None else facts[: facts.index(success)]
    return any(
        weighed(operation, before[: count + 1], (), limits).state in GIVEN_UP
        for count, fact in enumerate(before)
        if fact.outcome is not Outcome.APPROVED
    )


def surplus(operation: Operation, facts: Sequence[Fact]) -> Mapping[Place, Fact]:
    """What was done more than once, or by another PSP: one fact for each place of money but the one that is booked.

    A success of another amount than asked is not among them: which of two claims about it is true, people must say.
    """
    success, found = booked(operation, facts), dict[Place, Fact]()
    if operation.kind in _WITHOUT_AMOUNT:
        return found
    for fact in facts:
        if fact.outcome is Outcome.APPROVED and is_as_asked(operation, fact):
            found.setdefault(place_of(operation, fact), fact)
    if success is not None:
        found.pop(place_of(operation, success), None)
    return found


def to_give_back(operation: Operation, facts: Sequence[Fact]) -> Mapping[Place, Fact]:
    """The surplus of a charge, unless anything of it was taken back: then people must say what is whose."""
    is_clear = operation.is_charge and all(fact.outcome is not Outcome.REVERSED for fact in facts)
    return surplus(operation, facts) if is_clear else {}


def contradiction(operation: Operation, facts: Sequence[Fact], given_back: Collection[Place] = ()) -> str | None:
    """Why people must look, in a fixed order of precedence; None when the evidence agrees.

    `given_back`: where a surplus was and is no more.
    """
    # What was taken back had been given, and must be the same.
    successes = [fact for fact in facts if fact.outcome in _SUCCESSES]
    asked, is_bare = operation.money, operation.kind in _WITHOUT_AMOUNT
    if any(fact.currency != asked.currency for fact in successes if not (is_bare and fact.currency is None)):
        return "currency_mismatch"
    if any(fact.amount != asked.amount for fact in successes if not (is_bare and fact.amount is None)):
        return "amount_mismatch"
    if not is_bare and any(fact.reference is None for fact in successes):
        return "reference_missing"
    if is_bare:
        return None
    explained = to_give_back(operation, facts).keys() & set(given_back)
    places = {place_of(operation, fact) for fact in successes} - explained
    if any(psp != operation.psp for psp, _ in places):
        return "charged_elsewhere"
    return "charged_twice" if len(places) > 1 else None


def is_denied(operation: Operation, facts: Sequence[Fact]) -> bool:
    """Whether the PSP said both that it did it and that it did not. An authorization may lapse after it was given."""
    denials = {Outcome.DECLINED} if operation.kind is OperationKind.AUTHORIZE else {Outcome.DECLINED, Outcome.EXPIRED}
    outcomes = {fact.outcome for fact in own(facts)}
    return Outcome.APPROVED in outcomes and bool(denials & outcomes)
