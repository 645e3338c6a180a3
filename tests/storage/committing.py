"""The committer at work on one merchant's books, as in a worker: its own session, its lease, its one statement."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from paynode.config import Settings
from paynode.domain.batch import Batch, HeadChange, Lease, WalletChange
from paynode.domain.booking import Adjustment
from paynode.domain.ledger import NO_ENTRIES, Entry, Head, append
from paynode.domain.money import Money
from paynode.domain.postings import AVAILABLE, BusinessFact, Posting
from paynode.domain.wallet import Delta, Wallet
from paynode.storage.books import PgBooks
from paynode.storage.postgres import Session
from tests.storage import rows, world

_LEASE = Lease(partition=0, epoch=1)


@dataclass
class Committer:
    """Writes losses off: what needs neither a payment nor an event. `waits`: seconds of each commit."""

    books: PgBooks
    merchant_id: str
    head: Head = NO_ENTRIES
    wallet: Wallet = field(default_factory=lambda: Wallet(currency="EUR"))
    waits: list[float] = field(default_factory=list)

    async def commit(self, count: int) -> None:
        """So many facts in one batch; above 200 entries they are copied."""
        base_seq, base_version = self.head.seq, self.wallet.version
        entries, adjustments = list[Entry](), list[Adjustment]()
        for _ in range(count):
            lines, adjustment = self._post()
            entries += lines
            adjustments.append(adjustment)
        batch = _batch(
            entries,
            adjustments,
            HeadChange(merchant_id=self.merchant_id, base_seq=base_seq, head=self.head),
            WalletChange(merchant_id=self.merchant_id, base_version=base_version, wallet=self.wallet),
        )
        began = time.perf_counter()
        await self.books.commit(batch)
        self.waits.append(time.perf_counter() - began)

    def _post(self) -> tuple[tuple[Entry, ...], Adjustment]:
        posting = Posting(type="adjustment", debit="loss", credit=AVAILABLE, money=Money(amount=1, currency="EUR"))
        operation, at_ms = rows.new_id(), time.time_ns() // 1_000_000
        fact = BusinessFact(
            operation_id=operation, kind="adjustment", payment_id=None, reference="", postings=(posting,)
        )
        entry_id, delta = rows.new_id(), Delta.of(fact.postings)
        self.head, entries = append(
            self.head, fact, entry_id=entry_id, merchant_id=self.merchant_id, at_ms=at_ms, epoch=_LEASE.epoch
        )
        self.wallet = self.wallet.apply(delta)
        return entries, Adjustment(
            id=entry_id, merchant_id=self.merchant_id, fact=fact, currency="EUR", delta=delta, at_ms=at_ms
        )


@asynccontextmanager
async def committer(settings: Settings, owner: Session) -> AsyncIterator[Committer]:
    """A committer for a merchant of its own."""
    shop = await world.open_shop(owner)
    await owner.execute("UPDATE partitions SET owner = 'test', epoch = $1", _LEASE.epoch)
    books = PgBooks(settings, name="test")
    yield Committer(books, shop.id)
    await books.aclose()


def _batch(entries: list[Entry], adjustments: list[Adjustment], head: HeadChange, wallet: WalletChange) -> Batch:
    return Batch(
        id=rows.new_id(),
        leases=(_LEASE,),
        claims=(),
        facts=(),
        payments=(),
        made=(),
        entries=tuple(entries),
        adjustments=tuple(adjustments),
        heads=(head,),
        wallets=(wallet,),
        payouts=(),
        commands=(),
        events=(),
        letters=(),
        parked=(),
        verdicts=(),
        decided=(),
    )
