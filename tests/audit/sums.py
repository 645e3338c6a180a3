"""Sums of accounts: the naive fold of all postings."""

from __future__ import annotations

from tests.audit.steps import Accounts

PENDING, AVAILABLE, RESERVE, HELD = (f"merchant:{one}" for one in ("pending", "available", "reserve", "held"))


class Sums:
    """Credits less debits of each account, in minor units, by merchant and currency."""

    def __init__(self) -> None:
        self.accounts: Accounts = {}

    def balance(self, merchant: str, currency: str, account: str) -> int:
        """What stands on an account."""
        return self.accounts.get((merchant, currency, account), 0)

    def post(self, merchant: str, currency: str, debit: str, credit: str, amount: int) -> None:
        """Move an amount from one account to another."""
        for account, change in ((debit, -amount), (credit, amount)):
            key = merchant, currency, account
            self.accounts[key] = self.accounts.get(key, 0) + change
            if not self.accounts[key]:
                del self.accounts[key]
