"""Looks while it happens: what must hold at every moment is looked at every fraction of a second, in one snapshot."""

from __future__ import annotations

import time
from collections import Counter, defaultdict, deque
from collections.abc import Mapping, Sequence
from typing import Final

import anyio
import asyncpg

from paynode.config import Settings
from paynode.domain.errors import Transient
from paynode.domain.ids import MERCHANT, public
from paynode.domain.partition import partition_of
from paynode.storage.postgres import Role, Session, close, connect
from tests.support.case import Row
from tests.support.laws_of_books import BUCKETS

_EXAMPLES_MAX: Final = 10
# Ages of what is unprocessed that are remembered, of the last looks.
_AGES: Final = 4000

_HEADS: Final = "SELECT merchant_id::text, seq, hash FROM ledger_heads"
_NEW: Final = """
SELECT e.merchant_id::text, e.seq, e.debit_account AS debit, e.credit_account AS credit, e.amount, e.currency, e.epoch,
    e.prev_hash, e.hash
FROM unnest($1::uuid[], $2::bigint[]) AS k (merchant_id, seq)
JOIN ledger_entries AS e ON e.merchant_id = k.merchant_id AND e.seq > k.seq
ORDER BY e.merchant_id, e.seq
"""
# Of what was seen before: is the last entry still what it was? The chain answers for those before it.
_SEEN: Final = """
SELECT count(*) AS n
FROM unnest($1::uuid[], $2::bigint[], $3::bytea[]) AS k (merchant_id, seq, hash)
JOIN ledger_entries AS e ON e.merchant_id = k.merchant_id AND e.seq = k.seq AND e.hash = k.hash
"""
_WALLETS: Final = "SELECT merchant_id::text, currency, pending, available, reserve, held FROM wallets"
_PARTITIONS: Final = "SELECT partition, owner, epoch FROM partitions"
_OLDEST: Final = """
SELECT coalesce(max(extract(EPOCH FROM clock_timestamp() - greatest(available_at, created_at))), 0)::float8 AS age_s
FROM outbox WHERE available_at <= clock_timestamp()
"""


class Witness:
    """Checks, from one look to the next, that

    - the books balance and each wallet is the fold of its ledger (L5, L6), entry by entry as they come;
    - what was seen of a ledger before is still there, and what is new continues it (L5, L12);
    - epochs rise, and a new entry bears no epoch that was over when we looked before (L13): whoever writes checks its
      epoch in the same transaction, so that an entry that we did not see then was committed under a later one.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._session: Session | None = None
        self._known: dict[str, tuple[int, bytes]] = {}
        self._folded: defaultdict[tuple[str, str], Counter[str]] = defaultdict(Counter)
        self._total: Counter[str] = Counter()
        self._epochs: dict[int, int] = {}
        self.violations: list[str] = []
        self.looks = 0
        self.takeovers = 0
        self.oldest_s = 0.0
        self.looked_at = 0.0
        self.ages: deque[tuple[float, float]] = deque(maxlen=_AGES)
        self.oldest_max_s = 0.0

    async def run(self, *, interval_s: float) -> None:
        """Look until cancelled; while the database is away there is nothing to see."""
        try:
            while True:
                await self.look()
                await anyio.sleep(interval_s)
        finally:
            await self.aclose()

    async def look(self) -> None:
        """Look once."""
        try:
            await self._look(await self._connected())
        except (Transient, OSError, asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError):
            await self.aclose()

    async def aclose(self) -> None:
        """End the session; may be called twice."""
        ending, self._session = self._session, None
        if ending is not None:
            await close(ending)

    async def _connected(self) -> Session:
        if self._session is None or self._session.is_closed():
            self._session = await connect(self._settings, Role.OWNER, application_name="witness")
        return self._session

    async def _look(self, connection: Session) -> None:
        async with connection.transaction(isolation="repeatable_read", readonly=True):
            heads = {row["merchant_id"]: row for row in await connection.fetch(_HEADS)}
            since = {merchant_id: self._known.get(merchant_id, (0, b"")) for merchant_id in heads}
            new = await connection.fetch(_NEW, list(since), [seq for seq, _ in since.values()])
            seen = await connection.fetchrow(
                _SEEN, list(self._known), [k[0] for k in self._known.values()], [k[1] for k in self._known.values()]
            )
            wallets = await connection.fetch(_WALLETS)
            partitions = await connection.fetch(_PARTITIONS)
            oldest = await connection.fetchrow(_OLDEST)
        assert seen is not None
        assert oldest is not None
        if seen["n"] != len(self._known):
            self._tell(f"L5: of {len(self._known)} ledgers that were seen before, {seen['n']} still are what they were")
        self._take_in([dict(row) for row in new])
        self._compare([dict(row) for row in wallets])
        self._follow({row["partition"]: row["epoch"] for row in partitions})
        self.looks += 1
        self.looked_at, self.oldest_s = time.time(), oldest["age_s"]
        self.oldest_max_s = max(self.oldest_max_s, self.oldest_s)
        self.ages.append((self.looked_at, self.oldest_s))

    def _take_in(self, new: Sequence[Row]) -> None:
        for row in new:
            merchant_id, currency, amount = row["merchant_id"], row["currency"], row["amount"]
            seq, last_hash = self._known.get(merchant_id, (0, row["prev_hash"]))
            if row["seq"] != seq + 1 or row["prev_hash"] != last_hash:
                self._tell(f"L5: merchant {merchant_id}: entry {row['seq']} does not continue what ended at {seq}")
            self._known[merchant_id] = (row["seq"], row["hash"])
            for account, change in ((row["credit"], amount), (row["debit"], -amount)):
                owner, _, bucket = account.partition(":")
                if owner == "merchant":
                    self._folded[merchant_id, currency][bucket] += change
                else:
                    self._total[currency] += change
            self._judge_epoch(row)

    def _judge_epoch(self, row: Row) -> None:
        if not self._epochs:
            return
        partition = partition_of(public(MERCHANT, row["merchant_id"]), len(self._epochs))
        if row["epoch"] < self._epochs[partition]:
            self._tell(
                f"L13: merchant {row['merchant_id']}: entry {row['seq']} was written under epoch {row['epoch']}, "
                f"when partition {partition} had epoch {self._epochs[partition]} already"
            )

    def _compare(self, wallets: Sequence[Row]) -> None:
        total = Counter(self._total)
        for row in wallets:
            folded = self._folded[row["merchant_id"], row["currency"]]
            if any(row[bucket] != folded[bucket] for bucket in BUCKETS):
                found = {bucket: row[bucket] for bucket in BUCKETS}
                self._tell(f"L6: the wallet of {row['merchant_id']} is {found}, its ledger sums up to {dict(folded)}")
            total[row["currency"]] += sum(row[bucket] for bucket in BUCKETS)
        for currency, amount in total.items():
            if amount:
                self._tell(f"L5: the books are off by {amount} {currency}")

    def _follow(self, epochs: Mapping[int, int]) -> None:
        for partition, epoch in epochs.items():
            before = self._epochs.get(partition, epoch)
            if epoch < before:
                self._tell(f"L13: the epoch of partition {partition} fell from {before} to {epoch}")
            self.takeovers += max(0, epoch - before)
        self._epochs = dict(epochs)

    def _tell(self, violation: str) -> None:
        if len(self.violations) < _EXAMPLES_MAX:
            self.violations.append(violation)
