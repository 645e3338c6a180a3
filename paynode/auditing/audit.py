"""Following all chains at once: rows come by merchant and number, and are held against what is expected of each."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from paynode.auditing.expectations import Expectations
from paynode.domain.verifying import Chain, Fault, Row

# Merchants whose faults are told one by one.
FAULTS_MAX: Final = 100


class Audit:
    """Counts, and the first fault of each merchant; the first hundred merchants by their ids."""

    def __init__(self, expectations: Expectations) -> None:
        self.merchants = self.entries = self.broken = self.unanchored = 0
        self.faults: list[Fault] = []
        self._expectations = expectations
        self._listed = expectations.merchants()
        self._next = next(self._listed, None)
        self._chain: Chain | None = None
        self._merchant_id = ""

    def follow(self, rows: Iterable[Row]) -> None:
        """The next rows."""
        for row in rows:
            if self._chain is None or row.merchant_id != self._merchant_id:
                self._end_chain()
                self._chain = self._begin(row.merchant_id)
            self._chain.follow(row)
            self.entries += 1

    def end(self) -> None:
        """There are no more rows: whoever had none is looked at too."""
        self._end_chain()
        self._pass_over(None)

    def _begin(self, merchant_id: str) -> Chain:
        self._pass_over(merchant_id)
        if self._next == merchant_id:
            self._next = next(self._listed, None)
        self._merchant_id = merchant_id
        return Chain(merchant_id, self._expectations.of(merchant_id))

    def _pass_over(self, merchant_id: str | None) -> None:
        """Merchants before this one, or all that are left, of whom something is known and nothing is there."""
        while self._next is not None and (merchant_id is None or self._next < merchant_id):
            missing, self._next = self._next, next(self._listed, None)
            self._chain = Chain(missing, self._expectations.of(missing))
            self._end_chain()

    def _end_chain(self) -> None:
        chain, self._chain = self._chain, None
        if chain is None:
            return
        chain.end()
        self.merchants += 1
        if chain.fault is None:
            self.unanchored += chain.last.seq - chain.vouched
            return
        self.broken += 1
        if len(self.faults) < FAULTS_MAX:
            self.faults.append(chain.fault)
