"""The auditor: the books once more, from the design alone, for a reader who knows accounts and no programming.

It knows nothing of the core and shares no rule with it; a test reads its imports. It is told the steps of a history in
their order and keeps a sum for each account. Where it and the core differ, one of them has misunderstood the design.
"""

from __future__ import annotations

from tests.audit.dossier import Dossier, Operation
from tests.audit.steps import Accept, Accounts, Ask, Join, Move, Say, Step, Terms

PENDING, AVAILABLE, RESERVE, HELD = (f"merchant:{one}" for one in ("pending", "available", "reserve", "held"))


def shares(amount: int, fee: int, reserve: int) -> tuple[int, int]:
    """Fee and reserve of an amount by basis points: each its floor, then a unit each to the largest remainders."""
    parts = [fee, reserve, 10_000 - fee - reserve]
    floors = [amount * part // 10_000 for part in parts]
    remainders = [amount * part % 10_000 for part in parts]
    missing = amount - sum(floors)
    for place in sorted(range(3), key=lambda place: -remainders[place])[:missing]:
        floors[place] += 1
    return floors[0], floors[1]


class Auditor:
    """Sums of all accounts, and what is known of each payment."""

    def __init__(self) -> None:
        self.accounts: Accounts = {}
        self.terms: dict[str, Terms] = {}
        self.payments: dict[str, Dossier] = {}
        self.owners: dict[str, Dossier] = {}  # the payment of each operation
        self.events: set[str] = set()

    def hear(self, step: Step) -> str | None:
        """What a step changes. Returns why it is refused; None when it is not."""
        match step:
            case Join():
                self.terms[step.merchant] = step.terms
            case Accept():
                self._accept(step)
            case Ask():
                return self._ask(step)
            case Say():
                self._say(step)
            case Move():
                return self._move(step)
        return None

    def balance(self, merchant: str, currency: str, account: str) -> int:
        """Credits less debits, in minor units."""
        return self.accounts.get((merchant, currency, account), 0)

    def _post(self, of: Accept | Move, debit: str, credit: str, amount: int) -> None:
        for account, change in ((debit, -amount), (credit, amount)):
            key = of.merchant, of.currency, account
            self.accounts[key] = self.accounts.get(key, 0) + change
            if not self.accounts[key]:
                del self.accounts[key]

    # -- payments -----------------------------------------------------------------------------------------------------

    def _accept(self, step: Accept) -> None:
        charge = Operation(name=step.payment, kind=step.kind, amount=step.amount)
        self.payments[step.payment] = Dossier(accepted=step, operations=[charge])
        self.owners[step.payment] = self.payments[step.payment]

    def _ask(self, step: Ask) -> str | None:
        dossier = self.payments.get(step.payment)
        if dossier is None or step.request in self.events:
            return "skipped"
        self.events.add(step.request)
        refusal = dossier.refusal(step)
        if refusal is None and step.kind == "refund":
            refusal = self._hold_refusal(dossier.accepted, dossier.amount_of(step))
        if refusal is not None:
            return refusal
        amount, has_captures = dossier.amount_of(step), bool(dossier.of("capture", "open", "unknown", "review"))
        is_last = step.kind == "capture" and (step.is_final or (amount == dossier.left and not has_captures))
        operation = Operation(name=step.request, kind=step.kind, amount=amount, is_final=is_last)
        if step.kind == "refund":
            available = max(self.balance(dossier.accepted.merchant, dossier.accepted.currency, AVAILABLE), 0)
            operation.from_available = min(available, amount)
            operation.from_pending = amount - operation.from_available
        self._begin(dossier, operation)
        return None

    def _hold_refusal(self, of: Accept, amount: int) -> str | None:
        """A refund takes what is available, then what is pending. A debt in one is not paid out of the other."""
        available = self.balance(of.merchant, of.currency, AVAILABLE)
        pending = self.balance(of.merchant, of.currency, PENDING)
        from_pending = amount - min(max(available, 0), amount)
        is_enough = from_pending <= pending and amount <= available + pending
        return None if is_enough else "insufficient_funds"

    def _begin(self, dossier: Dossier, operation: Operation) -> None:
        dossier.operations.append(operation)
        self.owners[operation.name] = dossier
        if operation.kind == "refund":
            operation.booked.append("hold")
            self._post(dossier.accepted, AVAILABLE, HELD, operation.from_available)
            self._post(dossier.accepted, PENDING, HELD, operation.from_pending)

    def _say(self, step: Say) -> None:
        dossier = self.owners.get(step.operation)
        if dossier is None:
            return
        (operation,) = [one for one in dossier.operations if one.name == step.operation]
        was_done = operation.state == "done"
        operation.hear(step)
        self._book(dossier, operation)
        if operation is dossier.charge:
            is_late = dossier.is_given_up and operation.state == "done" and not was_done
            if is_late:
                self._give_back(dossier)
            dossier.is_given_up |= operation.state in ("given_up", "reversed") and not dossier.is_in_review

    def _book(self, dossier: Dossier, operation: Operation) -> None:
        """What is due for an operation, and was not booked before."""
        if operation.kind in ("sale", "capture"):
            self._book_capture(dossier, operation)
        elif operation.kind == "refund":
            self._book_refund(dossier, operation)

    def _book_capture(self, dossier: Dossier, operation: Operation) -> None:
        of, receivable = dossier.accepted, f"psp:{dossier.accepted.psp}:receivable"
        if operation.is_done and "capture" not in operation.booked:
            operation.booked.append("capture")
            terms = self.terms[of.merchant]
            operation.fee, operation.reserve = shares(operation.amount, terms.fee, terms.reserve)
            operation.fee += min(terms.fixed, operation.amount - operation.fee - operation.reserve)
            self._post(of, receivable, PENDING, operation.amount)
            self._post(of, PENDING, "fee_revenue", operation.fee)
            self._post(of, PENDING, RESERVE, operation.reserve)
        if operation.state == "reversed" and "reversal" not in operation.booked:
            operation.booked.append("reversal")
            self._post(of, PENDING, receivable, operation.amount)
            self._post(of, "fee_revenue", PENDING, operation.fee)
            self._post(of, RESERVE, PENDING, operation.reserve)

    def _book_refund(self, dossier: Dossier, operation: Operation) -> None:
        of, receivable = dossier.accepted, f"psp:{dossier.accepted.psp}:receivable"
        if operation.state == "given_up" and "release" not in operation.booked:
            operation.booked.append("release")
            self._post(of, HELD, AVAILABLE, operation.from_available)
            self._post(of, HELD, PENDING, operation.from_pending)
        if operation.is_done and "refund" not in operation.booked:
            operation.booked.append("refund")
            source = AVAILABLE if "release" in operation.booked else HELD
            self._post(of, source, receivable, operation.amount)
        if operation.state == "reversed" and "reversal" not in operation.booked:
            operation.booked.append("reversal")
            self._post(of, receivable, AVAILABLE, operation.amount)

    def _give_back(self, dossier: Dossier) -> None:
        """What succeeded after it had been given up goes back whole, whatever the merchant has left."""
        of = dossier.accepted
        kind = "refund" if of.kind == "sale" else "void"
        back = Operation(name=f"{of.payment}.back", kind=kind, amount=of.amount, is_ours=True)
        back.from_available = of.amount if kind == "refund" else 0
        self._begin(dossier, back)

    # -- wallets ------------------------------------------------------------------------------------------------------

    def _move(self, step: Move) -> str | None:
        if step.event in self.events:
            return "skipped"
        self.events.add(step.event)
        if step.kind == "credit":
            self._post(step, "suspense:internal", AVAILABLE, step.amount)
            return None
        if step.amount > self.balance(step.merchant, step.currency, AVAILABLE):
            return "insufficient_funds"
        self._post(step, AVAILABLE, "suspense:internal", step.amount)
        return None
