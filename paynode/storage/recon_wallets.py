"""Wallets beside what stands behind them; and the way back when they differ."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import groupby
from typing import Final

import asyncpg
import orjson

from paynode.domain.balancing import MerchantLook, WalletLook
from paynode.domain.ledger import NO_ENTRIES, Head
from paynode.domain.verifying import Row
from paynode.domain.wallet import Delta
from paynode.storage.postgres import Pool, borrowed
from paynode.storage.queries import load

_SQL: Final = load("recon_wallets")

# Seconds for one page, and how many times fewer merchants are on it when they are looked at from the beginning: behind
# a mark is seconds of work, behind the beginning may be years.
_PAGE_S: Final = 600.0
_LONGER: Final = 50
_BEFORE_ALL: Final = "00000000-0000-0000-0000-000000000000"


class PgWalletLooks:
    """Looks as the reader's role, in pages of `page_size` merchants or entries. All of it raises Unavailable."""

    def __init__(self, pool: Pool, *, page_size: int) -> None:
        self._pool = pool
        self._page_size = page_size

    async def page(self, after: str | None, *, is_full: bool) -> Sequence[MerchantLook]:
        """The merchants that follow one by their ids; none when there are no more."""
        count = max(1, self._page_size // _LONGER) if is_full else self._page_size
        async with borrowed(self._pool) as connection, connection.transaction(readonly=True):
            await connection.execute(_SQL["allow_seconds"], str(round(_PAGE_S * 1000)))
            rows = await connection.fetch(_SQL["read_wallets"], after or _BEFORE_ALL, count, is_full, timeout=_PAGE_S)
        return [_look(list(of_merchant)) for _, of_merchant in groupby(rows, lambda row: row["merchant_id"])]

    async def entries(self, merchant_id: str, behind: int, until: int) -> Sequence[Row]:
        """A page of a merchant's entries with numbers above `behind`, up to `until`."""
        async with borrowed(self._pool) as connection:
            rows = await connection.fetch(_SQL["read_chain"], merchant_id, behind, until, self._page_size)
        return [Row(**row) for row in rows]


class PgWalletRepairs:
    """Writes as the gateway's role, by functions. All of it raises Unavailable, Conflict."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def advance(self, looks: Sequence[MerchantLook]) -> None:
        """Remember up to where these merchants' wallets were found to be right."""
        marks = [_mark(look, wallet) for look in looks for wallet in look.wallets]
        async with borrowed(self._pool) as connection:
            await connection.execute(_SQL["advance_watermarks"], orjson.dumps(marks).decode())

    async def forget(self, merchants: Iterable[str]) -> None:
        """Look at these from the beginning until they agree again."""
        async with borrowed(self._pool) as connection:
            await connection.execute(_SQL["forget_watermarks"], list(merchants))

    async def correct(self, break_id: str) -> bool:
        """Make the wallet of a break what its ledger says; False when that is not, or not any more, definite."""
        async with borrowed(self._pool) as connection:
            return bool(await connection.fetchval(_SQL["correct_wallet"], break_id))


def _look(rows: Sequence[asyncpg.Record]) -> MerchantLook:
    first = rows[0]
    return MerchantLook(
        merchant_id=first["merchant_id"],
        head=_head(first, "head"),
        mark=_head(first, "mark"),
        entries=first["entries"],
        is_whole=first["is_whole"],
        wallets=tuple(
            WalletLook(
                currency=row["currency"],
                ledger=_delta(row, "ledger"),
                adjusted=_delta(row, "adjusted"),
                wallet=_delta(row, "wallet"),
            )
            for row in rows
            if row["currency"] is not None
        ),
    )


def _head(row: asyncpg.Record, of: str) -> Head:
    return Head(seq=row[f"{of}_seq"], hash=row[f"{of}_hash"]) if row[f"{of}_seq"] else NO_ENTRIES


def _delta(row: asyncpg.Record, of: str) -> Delta:
    return Delta(
        pending=row[f"{of}_pending"],
        available=row[f"{of}_available"],
        reserve=row[f"{of}_reserve"],
        held=row[f"{of}_held"],
    )


def _mark(look: MerchantLook, wallet: WalletLook) -> dict[str, object]:
    return {
        "merchant_id": look.merchant_id,
        "currency": wallet.currency,
        "seq": look.head.seq,
        "base_seq": 0 if look.is_whole else look.mark.seq,
        "hash": look.head.hash.hex(),
        "pending": wallet.ledger.pending,
        "available": wallet.ledger.available,
        "reserve": wallet.ledger.reserve,
        "held": wallet.ledger.held,
    }
