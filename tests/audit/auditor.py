"""The auditor: the books once more, from the design alone, for a reader who knows accounts and no programming.

It knows nothing of the core and shares no rule with it; a test reads its imports. It is told the steps of a history in
their order and keeps a sum for each account. Where it and the core differ, one of them has misunderstood the design.
"""

from __future__ import annotations

from tests.audit.dossier import OPEN, Dossier, Operation
from tests.audit.steps import (
    Accept,
    Accounts,
    Adjust,
    Announce,
    Ask,
    Come,
    EndPayout,
    Join,
    Mend,
    Move,
    Once,
    Outcome,
    PayOut,
    Say,
    Settle,
    Step,
    Terms,
    Wait,
)
from tests.audit.sums import AVAILABLE, HELD, PENDING, RESERVE, Sums
from tests.audit.treasury import HOUSE, Treasury

# What a line of a report is evidence for, by the kind of what it names.
_PROVED = {
    "charge": ("sale", "capture"),
    "refund": ("refund",),
    "reversal": ("sale", "capture", "refund"),
    "fee": (),
}


def shares(amount: int, fee: int, reserve: int) -> tuple[int, int]:
    """Fee and reserve of an amount by basis points: each its floor, then a unit each to the largest remainders."""
    parts = [fee, reserve, 10_000 - fee - reserve]
    floors = [amount * part // 10_000 for part in parts]
    remainders = [amount * part % 10_000 for part in parts]
    missing = amount - sum(floors)
    for place in sorted(range(3), key=lambda place: -remainders[place])[:missing]:
        floors[place] += 1
    return floors[0], floors[1]


def _name_of(step: Once) -> str:
    match step:
        case Ask():
            return step.request
        case Settle():
            return f"{step.psp} {step.kind} {step.reference}"
        case _:
            return step.event


class Auditor:
    """Sums of all accounts, and what is known of each payment."""

    def __init__(self) -> None:
        self.sums = Sums()
        self.treasury = Treasury(self.sums)
        self.terms: dict[str, Terms] = {}
        self.payments: dict[str, Dossier] = {}
        self.owners: dict[str, Dossier] = {}  # the payment of each operation
        self.known: set[str] = set()  # messages that had their effect
        self.day = 0

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
            case Mend():
                pass  # what is put right was right here all the time
        return None

    def balance(self, of: Accept, account: str) -> int:
        """What stands on an account of a payment's merchant, in the payment's currency."""
        return self.sums.balance(of.merchant, of.currency, account)

    def _post(self, of: Accept, debit: str, credit: str, amount: int) -> None:
        self.sums.post(of.merchant, of.currency, debit, credit, amount)

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
        amount = dossier.amount_of(step)
        if refusal is None and step.kind == "refund":
            refusal = self._hold_refusal(dossier.accepted, amount)
        if refusal is not None:
            return refusal
        is_rest = amount == dossier.left and not dossier.of("capture", *OPEN)
        is_last = step.kind == "capture" and (step.is_final or is_rest)
        operation = Operation(name=step.request, kind=step.kind, amount=amount, is_final=is_last)
        if step.kind == "refund":
            operation.from_available = min(max(self.balance(dossier.accepted, AVAILABLE), 0), amount)
            operation.from_pending = amount - operation.from_available
        self._begin(dossier, operation)
        return None

    def _hold_refusal(self, of: Accept, amount: int) -> str | None:
        """A refund takes what is available, then what is pending. A debt in one is not paid out of the other."""
        available, pending = self.balance(of, AVAILABLE), self.balance(of, PENDING)
        from_pending = amount - min(max(available, 0), amount)
        is_enough = from_pending <= pending and amount <= available + pending
        return None if is_enough else "insufficient_funds"

    def _begin(self, dossier: Dossier, operation: Operation) -> None:
        dossier.operations.append(operation)
        self.owners[operation.name] = dossier
        if operation.kind == "refund":
            self._hold(dossier, operation)

    def _say(self, step: Say) -> None:
        dossier = self.owners.get(step.operation)
        if dossier is None:
            return
        (operation,) = [one for one in dossier.operations if one.name == step.operation]
        was_done = operation.state == "done"
        operation.hear(step)
        if operation.kind in ("sale", "capture"):
            self._book_capture(dossier, operation)
        elif operation.kind == "refund":
            self._book_refund(dossier, operation)
        if operation is dossier.charge:
            if dossier.is_given_up and operation.state == "done" and not was_done:
                self._give_back(dossier)
            dossier.is_given_up |= operation.state in ("given_up", "reversed") and not dossier.is_in_review

    def _give_back(self, dossier: Dossier) -> None:
        """What succeeded after it had been given up goes back whole, whatever the merchant has left."""
        of = dossier.accepted
        kind = "refund" if of.kind == "sale" else "void"
        back = Operation(name=f"{of.payment}.back", kind=kind, amount=of.amount, is_ours=True)
        back.from_available = of.amount if kind == "refund" else 0
        self._begin(dossier, back)

    # -- captures -----------------------------------------------------------------------------------------------------

    def _book_capture(self, dossier: Dossier, capture: Operation) -> None:
        if capture.is_done and "capture" not in capture.booked:
            self._capture(dossier, capture)
            capture.booked.append("capture")
        if capture.state == "reversed" and "reversal" not in capture.booked:
            self._reverse(dossier, capture)
            capture.booked.append("reversal")

    def _capture(self, dossier: Dossier, capture: Operation) -> None:
        """What the PSP owes is the merchant's, but for a fee and a reserve; the rest waits for its day."""
        of, terms = dossier.accepted, dossier.terms
        fee, reserve = shares(capture.amount, terms.fee, terms.reserve)
        rest = capture.amount - fee - reserve
        is_first = not any("capture" in one.booked for one in dossier.operations)
        fixed = min(terms.fixed, rest) if is_first else 0
        capture.fee, capture.reserve = fee + fixed, reserve
        capture.rest_pending, capture.rest_reserve = rest - fixed, reserve
        capture.is_waiting = True
        capture.available_on = self.day + terms.available_days if terms.availability == "date" else None
        capture.released_on = self.day + terms.reserve_days
        self._post(of, f"psp:{of.psp}:receivable", PENDING, capture.amount)
        self._post(of, PENDING, "fee_revenue", capture.fee)
        self._post(of, PENDING, RESERVE, capture.reserve)

    def _reverse(self, dossier: Dossier, capture: Operation) -> None:
        """The mirror; of the reserve what is left of it. Nothing of it has a day any more."""
        of = dossier.accepted
        self._post(of, PENDING, f"psp:{of.psp}:receivable", capture.amount)
        self._post(of, "fee_revenue", PENDING, capture.fee)
        self._post(of, RESERVE, PENDING, capture.rest_reserve)
        capture.rest_pending = capture.rest_reserve = 0
        capture.is_waiting, capture.available_on, capture.released_on = False, None, None

    def _wait(self, step: Wait) -> None:
        self.day += step.days
        for dossier in self.payments.values():
            for one in dossier.operations:
                if one.available_on is not None and one.available_on <= self.day:
                    self._make_available(dossier, one)
                if one.released_on is not None and one.released_on <= self.day:
                    self._release_reserve(dossier, one)

    def _come(self, step: Come) -> None:
        dossier = self.owners.get(step.operation)
        for one in dossier.operations if dossier is not None else []:
            if one.name == step.operation and dossier is not None:
                if step.what == "available":
                    self._make_available(dossier, one)
                else:
                    self._release_reserve(dossier, one)

    def _make_available(self, dossier: Dossier, capture: Operation) -> None:
        capture.rest_pending, capture.is_waiting, capture.available_on = 0, False, None
        self._free(dossier.accepted)

    def _release_reserve(self, dossier: Dossier, capture: Operation) -> None:
        self._post(dossier.accepted, RESERVE, AVAILABLE, capture.rest_reserve)
        capture.rest_reserve, capture.released_on = 0, None

    def _free(self, of: Accept) -> None:
        """What is pending and no capture keeps there becomes available, but for debts, which it pays first."""
        surplus = self.balance(of, PENDING) - self.maturing(of.merchant, of.currency)
        if surplus > 0:
            self._post(of, PENDING, AVAILABLE, surplus)

    def maturing(self, merchant: str, currency: str) -> int:
        """What the captures of a merchant in a currency keep pending."""
        return self.all_maturing().get((merchant, currency, "maturing"), 0)

    def all_maturing(self) -> Accounts:
        """The same for all of them; none that is zero."""
        sums: Accounts = {}
        for dossier in self.payments.values():
            key = dossier.accepted.merchant, dossier.accepted.currency, "maturing"
            sums[key] = sums.get(key, 0) + sum(one.rest_pending for one in dossier.operations)
        return {key: amount for key, amount in sums.items() if amount}

    # -- refunds ------------------------------------------------------------------------------------------------------

    def _hold(self, dossier: Dossier, refund: Operation) -> None:
        """It keeps what it may need; what it takes of what is pending, its own payment's captures keep no longer."""
        self._post(dossier.accepted, AVAILABLE, HELD, refund.from_available)
        self._post(dossier.accepted, PENDING, HELD, refund.from_pending)
        wanted = refund.from_pending
        for capture in dossier.operations:
            taken = min(capture.rest_pending, wanted)
            capture.rest_pending -= taken
            wanted -= taken

    def _fill_up(self, dossier: Dossier, returned: int) -> None:
        """What comes back waits again, as far as the payment's captures that still wait can keep it."""
        for capture in dossier.operations:
            if capture.is_waiting:
                net = capture.amount - capture.fee - capture.reserve
                filled = min(net - capture.rest_pending, returned)
                capture.rest_pending += filled
                returned -= filled

    def _book_refund(self, dossier: Dossier, refund: Operation) -> None:
        of, receivable = dossier.accepted, f"psp:{dossier.accepted.psp}:receivable"
        if refund.state == "given_up" and "release" not in refund.booked:
            refund.booked.append("release")
            self._post(of, HELD, AVAILABLE, refund.from_available)
            self._post(of, HELD, PENDING, refund.from_pending)
            self._fill_up(dossier, refund.from_pending)
            self._free(of)
        if refund.is_done and "refund" not in refund.booked:
            refund.booked.append("refund")
            self._post(of, AVAILABLE if "release" in refund.booked else HELD, receivable, refund.amount)
        if refund.state == "reversed" and "reversal" not in refund.booked:
            refund.booked.append("reversal")
            self._post(of, receivable, AVAILABLE, refund.amount)

    # -- settlement ---------------------------------------------------------------------------------------------------

    def _settle(self, step: Settle) -> None:
        """A line is evidence too: what it pays had happened. What waited for it is available now."""
        dossier = self.owners.get(step.operation or "")
        if dossier is None:
            return self.treasury.settle(step, HOUSE, "nothing")
        (meant,) = [one for one in dossier.operations if one.name == step.operation]
        is_as_asked = (step.amount, step.currency) == (meant.amount, dossier.accepted.currency)
        outcome: Outcome = "reversed" if step.kind == "reversal" else "approved"
        is_news = outcome not in meant.said and not (meant.is_done and outcome == "approved")
        if is_as_asked and is_news and meant.kind in _PROVED[step.kind]:
            self._say(Say(f"line {step.reference}", meant.name, outcome))
        self.treasury.settle(step, dossier.accepted.merchant, meant.kind)
        if step.kind == "charge" and dossier.terms.availability == "settlement":
            for one in dossier.operations if meant.kind == "authorize" else [meant]:
                self._make_available(dossier, one)
        return None
