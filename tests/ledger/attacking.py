"""What somebody who has the owner's password can do to a merchant's ledger, as carefully as can be."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

from paynode.domain.ledger import GENESIS, canonical, seal
from paynode.storage.postgres import Session
from paynode.storage.queries import load
from tests.storage import rows

_UNSEALED = frozenset({"is_whole_ms", "epoch", "prev_hash", "hash"})
_COLUMNS = (
    "id, line, merchant_id, seq, payment_id, operation_id, type, debit_account, credit_account, amount, currency, "
    "psp_reference, at, epoch, prev_hash, hash"
)


@dataclass
class Attacker:
    """Works on one merchant's entries, numbered 1 to `last`."""

    owner: Session
    merchant_id: str
    last: int

    @classmethod
    async def of(cls, owner: Session, merchant_id: str) -> Self:
        await owner.execute("ALTER TABLE ledger_entries DISABLE TRIGGER USER")
        last = await owner.fetchval("SELECT max(seq) FROM ledger_entries WHERE merchant_id = $1", merchant_id)
        return cls(owner, merchant_id, last)

    async def run(self, statement: str, *arguments: object) -> None:
        """`$1` is the merchant."""
        await self.owner.execute(statement, self.merchant_id, *arguments)

    async def edit(self, seq: int, change: str) -> None:
        await self.run(f"UPDATE ledger_entries SET {change} WHERE merchant_id = $1 AND seq = $2", seq)

    async def delete(self, first: int, last: int) -> None:
        await self.run("DELETE FROM ledger_entries WHERE merchant_id = $1 AND seq BETWEEN $2 AND $3", first, last)

    async def shift(self, first: int, by: int) -> None:
        """Give the entries from `first` on other numbers."""
        await self.run("UPDATE ledger_entries SET seq = seq + $3 WHERE merchant_id = $1 AND seq >= $2", first, by)

    async def swap(self, one: int, other: int) -> None:
        await self.run(
            "UPDATE ledger_entries SET seq = $2::bigint + $3::bigint - seq WHERE merchant_id = $1 AND seq IN ($2, $3)",
            one,
            other,
        )

    async def insert(self, seq: int) -> None:
        """An entry that never was, a copy of the first one, sealed upon the one before its number."""
        forged = rows.new_id()
        await self.run(
            f"""INSERT INTO ledger_entries ({_COLUMNS})
            SELECT $3, 1, merchant_id, $2, payment_id, $4, type, debit_account, credit_account, amount, currency,
                psp_reference, at, epoch, prev_hash, hash
            FROM ledger_entries WHERE merchant_id = $1 ORDER BY seq LIMIT 1""",
            seq,
            forged,
            rows.new_id(),
        )
        await self.seal(seq, seq, only=forged)

    async def seal(self, first: int, last: int | None = None, *, only: str | None = None) -> None:
        """Seal the entries from `first` to `last` anew, each upon the one before it; or only the one of this id."""
        before = GENESIS
        for row in await self.owner.fetch(load("auditing")["list_rows"], self.merchant_id):
            is_ours = only in (None, row["entry_id"])
            if row["seq"] < first or (last is not None and row["seq"] > last) or not is_ours:
                before = before if row["seq"] == first and only else row["hash"]
                continue
            fields = {name: value for name, value in row.items() if name not in _UNSEALED}
            digest = seal(before, canonical(**fields))
            await self.run(
                "UPDATE ledger_entries SET prev_hash = $4, hash = $5 WHERE merchant_id = $1 AND id = $2 AND line = $3",
                row["entry_id"],
                row["line"],
                before,
                digest,
            )
            before = digest

    async def adapt_head(self) -> None:
        """Make the head the last entry that is there."""
        await self.run("DELETE FROM ledger_heads WHERE merchant_id = $1")
        await self.run(
            """INSERT INTO ledger_heads SELECT merchant_id, seq, hash FROM ledger_entries
            WHERE merchant_id = $1 ORDER BY seq DESC LIMIT 1"""
        )

    async def append(self, count: int) -> None:
        """Entries behind the last, sealed as if paynode had written them; the head stays where it is."""
        last = await self.owner.fetchval("SELECT max(seq) FROM ledger_entries WHERE merchant_id = $1", self.merchant_id)
        for seq in range(last + 1, last + 1 + count):
            await self.insert(seq)
