"""Whole lives of payments: any requests and any evidence, in any order, and the laws that hold all the time."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

from hypothesis import given
from hypothesis import strategies as st

from paynode.domain.folding import fold
from paynode.domain.ledger import Entry
from paynode.domain.payment import Method, Operation, OperationKind, Origin
from paynode.domain.psp import Outcome
from paynode.domain.requesting import RequestKind
from tests.domain.making import LIMITS, History, fact, payment
from tests.domain.test_checks_hold import assert_accepted
from tests.support.properties import law


@dataclass(frozen=True)
class Asks:
    """A merchant asks; `amount` None: all that is left."""

    kind: RequestKind
    amount: int | None
    is_final: bool

    def happen(self, history: History) -> None:
        history.ask(self.kind, amount=self.amount, is_final=self.is_final)


@dataclass(frozen=True)
class Says:
    """A PSP says something about one of the operations there are: of the amount that was asked for, or another one."""

    of: int
    outcome: Outcome
    reference: str | None
    surplus: int | None
    psp: str | None

    def happen(self, history: History) -> None:
        operation = history.payment.operations[self.of % len(history.payment.operations)]
        amount = None if self.surplus is None else operation.money.amount + self.surplus
        reference = self.reference and f"{self.reference}_{operation.id}"
        told = fact(self.outcome, reference=reference, amount=amount, currency=None if amount is None else "EUR")
        told = replace(told, operation_id=operation.id)
        history.tell(replace(told, psp=self.psp) if operation.is_charge else told)


_asks = st.builds(Asks, st.sampled_from(RequestKind), st.sampled_from([None, 1, 300, 999, 1000, 1001]), st.booleans())
_says = st.builds(
    Says,
    st.integers(0, 5),
    # Mostly successes: without them nothing else can be asked for.
    st.sampled_from([Outcome.APPROVED, Outcome.APPROVED, Outcome.APPROVED, *Outcome]),
    st.sampled_from(["a", "a", "a", "b", None]),
    st.sampled_from([0, 0, 0, 0, 1, -1, None]),
    st.sampled_from([None, None, None, "sim", "other"]),
)
steps: Final = st.lists(st.one_of(_asks, _says), max_size=14)
ROUTE: Final = ("sim", "other")
charges: Final = st.sampled_from([OperationKind.SALE, OperationKind.AUTHORIZE])


@law(600)
@given(steps, charges, st.sampled_from(Method), st.sampled_from([0, 500, -500]), st.booleans(), st.booleans())
def test_the_laws_of_money_hold_whatever_happens(
    life: Sequence[Asks | Says],
    kind: OperationKind,
    method: Method,
    available: int,
    is_reversed: bool,
    is_automatic: bool,
) -> None:
    about = replace(
        payment(kind=kind, method=method),
        is_for_pos=is_reversed,
        is_reversed=is_reversed,
        is_automatic=is_automatic,
        route=ROUTE,
    )
    history = History(payment=about).with_wallet(available=available)
    begun = history.books.wallet("EUR").balance
    for step in life:
        version = history.payment.version
        step.happen(history)
        assert_accepted(history.payment)
        wallet = history.books.wallet("EUR")
        assert wallet.held >= 0, "the database refuses anything else"
        assert wallet.balance - begun == _credited(history)
        assert history.payment.version in (version, version + 1)
        assert _trial_balance(history) == 0
    _is_held_for_open_refunds(history)
    _each_fact_is_posted_once(history)
    _each_surplus_is_given_back_once(history)


def _credited(history: History) -> int:
    """What the ledger says that paynode owes the merchant."""
    sums = 0
    for effects in history.effects:
        for entry in effects.entries:
            amount = entry.posting.money.amount
            sums += amount * entry.posting.credit.startswith("merchant:")
            sums -= amount * entry.posting.debit.startswith("merchant:")
    return sums


def _trial_balance(history: History) -> int:
    sums: Counter[str] = Counter()
    for effects in history.effects:
        for entry in effects.entries:
            sums[entry.posting.debit] += entry.posting.money.amount
            sums[entry.posting.credit] -= entry.posting.money.amount
    return sum(sums.values())


def _is_held_for_open_refunds(history: History) -> None:
    waiting = [one for one in history.payment.operations if one.kind is OperationKind.REFUND and one.is_open]
    # One that was given up and is heard of again has nothing held any more.
    held = sum(line.delta.held for effects in history.effects for line in effects.adjustments)
    assert 0 <= held <= sum(one.money.amount for one in waiting)


def _each_fact_is_posted_once(history: History) -> None:
    posted = [
        (line.fact.operation_id, line.fact.kind, line.fact.part)
        for effects in history.effects
        for line in effects.adjustments
    ]
    assert len(posted) == len(set(posted)), "the ledger would refuse it"


def _each_surplus_is_given_back_once(history: History) -> None:
    returns = [one for one in history.payment.operations if one.origin is Origin.SURPLUS]
    assert len({(one.psp, one.target) for one in returns}) == len(returns)
    lines = [entry for effects in history.effects for entry in effects.entries]
    aside = [line for line in lines if line.posting.type.startswith("surplus")]
    assert not any("merchant:" in line.posting.debit + line.posting.credit for line in aside)
    assert not any(line.posting.type.startswith("refund") for line in lines if line.operation_id in _ids(returns))
    for psp in ROUTE:
        # The PSP cannot have given back more than it took; what is left waits for people or for the PSP.
        kept = sum(_moved(line, f"suspense:{psp}") for line in aside if not _is_of_refund(history, line.operation_id))
        assert kept >= 0


def _ids(operations: Sequence[Operation]) -> set[str]:
    return {one.id for one in operations}


def _is_of_refund(history: History, operation_id: str) -> bool:
    """A refund that was made twice leaves a debt: nobody asks a customer to pay it."""
    made = history.payment.operation(operation_id)
    assert made is not None
    return made.kind is OperationKind.REFUND and made.origin is not Origin.SURPLUS


def _moved(line: Entry, account: str) -> int:
    return line.posting.money.amount * ((line.posting.credit == account) - (line.posting.debit == account))


@law(300)
@given(steps, charges)
def test_loading_and_folding_again_gives_the_same_payment(life: Sequence[Asks | Says], kind: OperationKind) -> None:
    """What an actor holds in memory is what another one would load: operations, facts and a few marks."""
    history = History(payment=replace(payment(kind=kind), route=ROUTE))
    for step in life:
        step.happen(history)
    assert fold(history.payment, LIMITS) == history.payment
