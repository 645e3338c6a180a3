"""What is booked for captures and refunds, and what becomes of it with time."""

from __future__ import annotations

from tests.audit.dossier import Dossier
from tests.audit.operation import Operation
from tests.audit.steps import Accept, Accounts
from tests.audit.sums import AVAILABLE, HELD, PENDING, RESERVE, Sums


def shares(amount: int, fee: int, reserve: int) -> tuple[int, int]:
    """Fee and reserve of an amount by basis points: each its floor, then a unit each to the largest remainders."""
    parts = [fee, reserve, 10_000 - fee - reserve]
    floors = [amount * part // 10_000 for part in parts]
    remainders = [amount * part % 10_000 for part in parts]
    missing = amount - sum(floors)
    for place in sorted(range(3), key=lambda place: -remainders[place])[:missing]:
        floors[place] += 1
    return floors[0], floors[1]


class Bookkeeper:
    """Knows all payments: what one merchant's captures keep pending is a sum over them."""

    def __init__(self, sums: Sums, payments: dict[str, Dossier]) -> None:
        self._sums = sums
        self._payments = payments
        self.day = 0

    def balance(self, of: Accept, account: str) -> int:
        """What stands on an account of a payment's merchant, in the payment's currency."""
        return self._sums.balance(of.merchant, of.currency, account)

    def _post(self, of: Accept, debit: str, credit: str, amount: int) -> None:
        self._sums.post(of.merchant, of.currency, debit, credit, amount)

    def book(self, dossier: Dossier, one: Operation) -> None:
        """What is due for an operation, and was not booked before."""
        due = (
            ("capture", self._capture, one.kind in ("sale", "capture") and one.is_done),
            ("reversal", self._reverse, one.kind in ("sale", "capture") and one.state == "reversed"),
            ("release", self._release, one.kind == "refund" and not one.is_done and one.state == "given_up"),
            ("refund", self._refund, one.kind == "refund" and one.is_done),
            ("refund reversal", self._take_refund_back, one.kind == "refund" and one.state == "reversed"),
        )
        for name, post, is_due in due:
            if is_due and name not in one.booked:
                post(dossier, one)
                one.booked.append(name)
        self._put_aside(dossier, one)

    def _put_aside(self, dossier: Dossier, one: Operation) -> None:
        """What a PSP did once more than it was asked is nobody's yet."""
        owed, aside = f"psp:{dossier.accepted.psp}:receivable", f"suspense:{dossier.accepted.psp}"
        for reference in one.too_many if one.kind != "authorize" else []:
            if reference not in one.booked:
                debit, credit = (aside, owed) if one.kind == "refund" else (owed, aside)
                self._post(dossier.accepted, debit, credit, one.amount)
                one.booked.append(reference)

    # -- captures -----------------------------------------------------------------------------------------------------

    def _capture(self, dossier: Dossier, capture: Operation) -> None:
        """What the PSP owes is the merchant's, but for a fee and a reserve; the rest waits for its day."""
        of, terms = dossier.accepted, dossier.terms
        fee, reserve = shares(capture.amount, terms.fee, terms.reserve)
        is_first = not any("capture" in one.booked for one in dossier.operations)
        fixed = min(terms.fixed, capture.amount - fee - reserve) if is_first else 0
        capture.fee, capture.reserve = fee + fixed, reserve
        capture.rest_pending, capture.rest_reserve = capture.net, reserve
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

    def come(self, dossier: Dossier, capture: Operation) -> None:
        """Whatever has its day by now."""
        if capture.available_on is not None and capture.available_on <= self.day:
            self.make_available(dossier, capture)
        if capture.released_on is not None and capture.released_on <= self.day:
            self.release_reserve(dossier, capture)

    def make_available(self, dossier: Dossier, capture: Operation) -> None:
        """A capture keeps nothing pending any more."""
        capture.rest_pending, capture.is_waiting, capture.available_on = 0, False, None
        self._free(dossier.accepted)

    def release_reserve(self, dossier: Dossier, capture: Operation) -> None:
        """What was held back is the merchant's."""
        self._post(dossier.accepted, RESERVE, AVAILABLE, capture.rest_reserve)
        capture.rest_reserve, capture.released_on = 0, None

    def _free(self, of: Accept) -> None:
        """What is pending and no capture keeps there becomes available, but for debts, which it pays first."""
        surplus = self.balance(of, PENDING) - self.maturing().get((of.merchant, of.currency, "maturing"), 0)
        if surplus > 0:
            self._post(of, PENDING, AVAILABLE, surplus)

    def maturing(self) -> Accounts:
        """What captures keep pending, by merchant and currency; none that is zero."""
        sums: Accounts = {}
        for dossier in self._payments.values():
            key = dossier.accepted.merchant, dossier.accepted.currency, "maturing"
            sums[key] = sums.get(key, 0) + sum(one.rest_pending for one in dossier.operations)
        return {key: amount for key, amount in sums.items() if amount}

    # -- refunds ------------------------------------------------------------------------------------------------------

    def refusal_of_hold(self, dossier: Dossier, refund: Operation) -> str | None:
        """A refund takes what is available, then what is pending. A debt in one is not paid out of the other."""
        available, pending = (self.balance(dossier.accepted, account) for account in (AVAILABLE, PENDING))
        refund.from_available = min(max(available, 0), refund.amount)
        refund.from_pending = refund.amount - refund.from_available
        is_enough = refund.from_pending <= pending and refund.amount <= available + pending
        return None if is_enough else "insufficient_funds"

    def hold(self, dossier: Dossier, refund: Operation) -> None:
        """It keeps what it may need; what it takes of what is pending, its own payment's captures keep no longer."""
        self._post(dossier.accepted, AVAILABLE, HELD, refund.from_available)
        self._post(dossier.accepted, PENDING, HELD, refund.from_pending)
        wanted = refund.from_pending
        for capture in dossier.operations:
            taken = min(capture.rest_pending, wanted)
            capture.rest_pending -= taken
            wanted -= taken

    def _release(self, dossier: Dossier, refund: Operation) -> None:
        """Each part goes back where it came from; what is pending again waits, as far as captures still do."""
        if refund.ours == "surplus":
            return
        self._post(dossier.accepted, HELD, AVAILABLE, refund.from_available)
        self._post(dossier.accepted, HELD, PENDING, refund.from_pending)
        returned = refund.from_pending
        for capture in dossier.operations:
            if capture.is_waiting:
                filled = min(capture.net - capture.rest_pending, returned)
                capture.rest_pending += filled
                returned -= filled
        self._free(dossier.accepted)

    def _refund(self, dossier: Dossier, refund: Operation) -> None:
        """Out of what it held; out of what is available where that was released; a surplus out of suspense."""
        of = dossier.accepted
        source = AVAILABLE if "release" in refund.booked else HELD
        source = f"suspense:{of.psp}" if refund.ours == "surplus" else source
        self._post(of, source, f"psp:{of.psp}:receivable", refund.amount)

    def _take_refund_back(self, dossier: Dossier, refund: Operation) -> None:
        """It did not arrive."""
        of = dossier.accepted
        target = f"suspense:{of.psp}" if refund.ours == "surplus" else AVAILABLE
        self._post(of, f"psp:{of.psp}:receivable", target, refund.amount)
