"""The auditor: the books once more, from the design alone, for a reader who knows accounts and no programming.

It knows nothing of the core and shares no rule with it; a test reads its imports. It is told the steps of a history in
their order and keeps a sum for each account. Where it and the core differ, one of them has misunderstood the design.
"""

from __future__ import annotations

from typing import Final

from tests.audit.bookkeeper import Bookkeeper
from tests.audit.dossier import Dossier
from tests.audit.operation import Operation
from tests.audit.steps import (
    Accept,
    Adjust,
    Announce,
    Ask,
    Come,
    EndPayout,
    Join,
    Move,
    Once,
    PayOut,
    Say,
    Settle,
    Step,
    Terms,
    Wait,
)
from tests.audit.sums import Sums
from tests.audit.treasury import HOUSE, Treasury

# What a line of a report is evidence for, by the kind of what it names.
_PROVED: Final[dict[str, tuple[str, ...]]] = {
    "charge": ("sale", "capture"),
    "refund": ("refund",),
    "reversal": ("sale", "capture", "refund"),
    "fee": (),
}


class Auditor:
    """Sums of all accounts, and what is known of each payment."""

    def __init__(self) -> None:
        self.sums = Sums()
        self.treasury = Treasury(self.sums)
        self.terms: dict[str, Terms] = {}
        self.payments: dict[str, Dossier] = {}
        self.owners: dict[str, Dossier] = {}  # the payment of each operation
        self.known: set[str] = set()  # messages that had their effect
        self.bookkeeper = Bookkeeper(self.sums, self.payments)

    def hear(self, step: Step) -> str | None:
        """What a step changes. Returns why it is refused; None when it is not."""
        match step:
            case Join() | Announce():
                self.terms[step.merchant] = step.terms
            case Accept():
                self._accept(step)
            case Say():
                self._say(step)
            case Wait():
                self._wait(step)
            case Come():
                self._come(step)
            case _:
                return self._hear_once(step)
        return None

    def _hear_once(self, step: Once) -> str | None:
        """What is recognised by its name and done once."""
        name = _name_of(step)
        if name in self.known:
            return "known"
        self.known.add(name)
        match step:
            case Ask():
                return self._ask(step)
            case Move():
                return self.treasury.move(step)
            case PayOut():
                return self.treasury.pay_out(step)
            case EndPayout():
                return self.treasury.end_payout(step)
            case Settle():
                self._settle(step)
            case Adjust():
                self.treasury.adjust(step)
        return None

    def _found(self, name: str | None) -> tuple[Dossier, Operation] | None:
        """An operation and its payment, by its name."""
        dossier = self.owners.get(name or "")
        if dossier is None:
            return None
        (operation,) = [one for one in dossier.operations if one.name == name]
        return dossier, operation

    # -- payments -----------------------------------------------------------------------------------------------------

    def _accept(self, step: Accept) -> None:
        charge = Operation(name=step.payment, kind=step.kind, amount=step.amount)
        dossier = Dossier(accepted=step, terms=self.terms[step.merchant], operations=[charge])
        self.payments[step.payment] = self.owners[step.payment] = dossier

    def _ask(self, step: Ask) -> str | None:
        dossier = self.payments.get(step.payment)
        if dossier is None:
            return "nothing"
        refusal = dossier.refusal(step)
        if refusal is not None:
            return refusal
        operation = dossier.operation_of(step)
        if operation.kind == "refund":
            refusal = self.bookkeeper.refusal_of_hold(dossier, operation)
        if refusal is None:
            self._begin(dossier, operation)
        return refusal

    def _begin(self, dossier: Dossier, operation: Operation) -> None:
        dossier.operations.append(operation)
        self.owners[operation.name] = dossier
        if operation.kind == "refund" and operation.ours != "surplus":
            self.bookkeeper.hold(dossier, operation)

    def _say(self, step: Say) -> None:
        found = self._found(step.operation)
        if found is None:
            return
        dossier, operation = found
        charge = dossier.charge
        was_done = charge.is_done
        operation.hear(step)
        charge.is_closed = bool(dossier.of("cancel", "done"))
        charge.judge()
        self.bookkeeper.book(dossier, operation)
        if dossier.is_given_up and charge.state == "done" and not was_done:
            self._give_back(dossier, "late", f"{dossier.accepted.payment}.back")
        for reference in charge.too_many if not charge.is_taken_back else []:
            if dossier.name_of_return(reference) not in self.owners:
                self._give_back(dossier, "surplus", dossier.name_of_return(reference))
        dossier.is_given_up |= charge.state in ("given_up", "reversed") and not dossier.is_in_review

    def _give_back(self, dossier: Dossier, why: str, name: str) -> None:
        """What came too late, or twice, goes back whole, whatever the merchant has left; a surplus never was his."""
        of = dossier.accepted
        kind = "refund" if of.kind == "sale" else "void"
        back = Operation(name=name, kind=kind, amount=of.amount, ours=why)
        back.from_available = of.amount if kind == "refund" else 0
        self._begin(dossier, back)

    # -- time ---------------------------------------------------------------------------------------------------------

    def _wait(self, step: Wait) -> None:
        self.bookkeeper.day += step.days
        for dossier in self.payments.values():
            for one in dossier.operations:
                self.bookkeeper.come(dossier, one)

    def _come(self, step: Come) -> None:
        found = self._found(step.operation)
        if found is not None and step.what == "available":
            self.bookkeeper.make_available(*found)
        elif found is not None:
            self.bookkeeper.release_reserve(*found)

    # -- reports ------------------------------------------------------------------------------------------------------

    def _settle(self, step: Settle) -> None:
        """A line is evidence too: what it pays had happened. What waited for it is available now."""
        found = self._found(step.operation)
        if found is None:
            self.treasury.settle(step, HOUSE, "nothing")
            return
        dossier, meant = found
        is_as_asked = (step.amount, step.currency) == (meant.amount, dossier.accepted.currency)
        if is_as_asked and meant.kind in _PROVED[step.kind]:
            self._prove(step, meant)
        self.treasury.settle(step, dossier.accepted.merchant, meant.kind)
        if step.kind == "charge" and dossier.terms.availability == "settlement":
            for one in dossier.operations if meant.kind == "authorize" else [meant]:
                self.bookkeeper.make_available(dossier, one)

    def _prove(self, step: Settle, meant: Operation) -> None:
        """What a line says of an operation, unless that was known; a reversal is of what was done."""
        known = meant.taken_back | set(meant.references)
        reference = step.reference.removeprefix(f"ref_{meant.name}")
        if step.kind == "reversal" and meant.state != "reversed":
            reference = meant.references[0] if meant.references else reference
            self._say(Say(f"line {step.reference}", meant.name, "reversed", reference=reference))
        elif step.kind != "reversal" and reference not in known:
            self._say(Say(f"line {step.reference}", meant.name, "approved", reference=reference))


def _name_of(step: Once) -> str:
    match step:
        case Ask():
            return step.request
        case Settle():
            return f"{step.psp} {step.kind} {step.reference}"
        case _:
            return step.event
