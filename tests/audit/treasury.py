"""What moves without a payment of its own: wallets, payouts, the lines of PSPs' reports, the operators' postings."""

from __future__ import annotations

from tests.audit.steps import Adjust, EndPayout, Move, PayOut, Settle
from tests.audit.sums import AVAILABLE, PENDING, RESERVE, Sums

# Whose books take what is no merchant's.
HOUSE = "house"


class Treasury:
    """Payouts by the event that asked for them; the rest is sums."""

    def __init__(self, sums: Sums) -> None:
        self._sums = sums
        self.payouts: dict[str, tuple[PayOut, str]] = {}

    def move(self, step: Move) -> str | None:
        """Refused: a debit of more than is available, a write-off of more than is lacking."""
        available = self._sums.balance(step.merchant, step.currency, AVAILABLE)
        accounts = step.merchant, step.currency
        if step.kind == "credit":
            self._sums.post(*accounts, "suspense:internal", AVAILABLE, step.amount)
        elif step.kind == "debit":
            if step.amount > available:
                return "insufficient_funds"
            self._sums.post(*accounts, AVAILABLE, "suspense:internal", step.amount)
        else:
            if step.amount > -available:
                return "nothing_to_write_off"
            self._sums.post(*accounts, "loss", AVAILABLE, step.amount)
        return None

    def pay_out(self, step: PayOut) -> str | None:
        """What is available may leave, but for what pending and reserve lack."""
        pending, available, reserve = (
            self._sums.balance(step.merchant, step.currency, account) for account in (PENDING, AVAILABLE, RESERVE)
        )
        if step.amount > max(0, available + min(0, pending) + min(0, reserve)):
            return "insufficient_funds"
        self._sums.post(step.merchant, step.currency, AVAILABLE, "payout_transit", step.amount)
        self.payouts[step.event] = step, "created"
        return None

    def end_payout(self, step: EndPayout) -> str | None:
        """A payout ends once."""
        payout, state = self.payouts.get(step.payout, (None, ""))
        if payout is None or payout.merchant != step.merchant or state != "created":
            return "payout_not_open"
        self.payouts[step.payout] = payout, step.end
        account = "bank" if step.end == "paid" else AVAILABLE
        self._sums.post(payout.merchant, payout.currency, "payout_transit", account, payout.amount)
        return None

    def settle(self, step: Settle, merchant: str, about: str) -> None:
        """What the PSP paid or kept. `about`: the kind of what it names, `nothing`: put aside until it is explained."""
        accounts, owed, aside = (merchant, step.currency), f"psp:{step.psp}:receivable", f"suspense:{step.psp}"
        if step.kind == "fee":
            self._sums.post(*accounts, "psp_fee_expense", owed, step.amount)
            self._sums.post(*accounts, owed, "bank", step.amount)
        elif step.kind == "charge" or (about == "refund" and step.kind == "reversal"):
            self._sums.post(*accounts, "bank", owed, step.amount)
            if about == "nothing":
                self._sums.post(*accounts, owed, aside, step.amount)
        else:
            self._sums.post(*accounts, owed, "bank", step.amount)
            if about == "nothing":
                self._sums.post(*accounts, aside, owed, step.amount)

    def adjust(self, step: Adjust) -> None:
        """Whatever was decided."""
        self._sums.post(step.merchant, step.currency, step.debit, step.credit, step.amount)
