"""The ledger as an auditor reads it: all of it in one snapshot, a page at a time, in the order of the chains."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Final

import asyncpg

from paynode.config import Settings
from paynode.domain.ledger import Head
from paynode.domain.verifying import Expected, Row
from paynode.storage.postgres import Connection, Pool, Role, borrowed, confirm, session, translated
from paynode.storage.queries import load

_SQL: Final = load("auditing")

# Rows that are held at a time.
_PAGE: Final = 2000


@dataclass(frozen=True, slots=True, kw_only=True)
class Balance:
    """What an account was debited and credited in all, in minor units."""

    account: str
    currency: str
    debits: int
    credits: int

    @property
    def amount(self) -> int:
        """Debits less credits: positive for what we have, negative for what we owe."""
        return self.debits - self.credits


class Snapshot:
    """One instant of the ledger; `merchant_id` None: of all. Raises: asyncpg's errors, which `snapshot` translates."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    async def ends(self, merchant_id: str | None) -> AsyncIterator[Sequence[tuple[str, Expected]]]:
        """Openings and heads by merchant, of those that have a head."""
        async for page in self._pages("list_ends", merchant_id):
            yield [_expected(row) for row in page]

    async def rows(self, merchant_id: str | None) -> AsyncIterator[Sequence[Row]]:
        """Every entry, by merchant and number."""
        async for page in self._pages("list_rows", merchant_id):
            yield [Row(**row) for row in page]

    async def periods(
        self, since: datetime, until: datetime, merchant_id: str | None
    ) -> AsyncIterator[Sequence[tuple[str, Expected]]]:
        """What the entries of a period follow and where they end, by merchant."""
        async for page in self._pages("list_periods", since, until, merchant_id):
            yield [_expected(row) for row in page]

    async def period_rows(
        self, since: datetime, until: datetime, merchant_id: str | None
    ) -> AsyncIterator[Sequence[Row]]:
        """The entries of a period, by merchant and number."""
        async for page in self._pages("list_period_rows", since, until, merchant_id):
            yield [Row(**row) for row in page]

    async def balances(self, merchant_id: str | None) -> Sequence[Balance]:
        """The trial balance."""
        return [
            Balance(
                account=row["account"],
                currency=row["currency"],
                debits=int(row["debits"]),
                credits=int(row["credits"]),
            )
            for row in await self._connection.fetch(_SQL["list_balances"], merchant_id)
        ]

    async def is_late(self) -> bool:
        """Whether this server follows another one, and may not have all that was committed there."""
        return bool(await self._connection.fetchval(_SQL["ask_recovery"]))

    async def _pages(self, query: str, *arguments: object) -> AsyncIterator[Sequence[asyncpg.Record]]:
        cursor = await self._connection.cursor(_SQL[query], *arguments)
        while page := await cursor.fetch(_PAGE):
            yield page


def _expected(row: asyncpg.Record) -> tuple[str, Expected]:
    opening = Head(seq=row["opening_seq"], hash=row["opening_hash"])
    return row["merchant_id"], Expected(opening=opening, head=Head(seq=row["seq"], hash=row["hash"]))


@asynccontextmanager
async def snapshot(settings: Settings, *, application_name: str, is_signed: bool = False) -> AsyncIterator[Snapshot]:
    """One instant of the ledger, for as long as it is read. Without a time-out: it depends on the ledger's size.

    `is_signed`: what is read will be vouched for, so that the end waits until all of it is on every server that counts.
    Raises: Unavailable.
    """
    async with session(settings, Role.READER, application_name=application_name, statement_timeout_ms=0) as connection:
        with translated():
            async with connection.transaction(isolation="repeatable_read", readonly=True):
                yield Snapshot(connection)
            if is_signed:
                await confirm(connection)


class PgHeads:
    """The heads of all ledgers, as the reader's role."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def read(self, each: Callable[[str, Head], None]) -> None:
        """Hand over every head of one snapshot, in the order of merchants.

        When this returns, all of it is durable on every server that counts. Raises: Unavailable.
        """
        async with borrowed(self._pool) as connection:
            async with connection.transaction(isolation="repeatable_read", readonly=True):
                async for row in connection.cursor(_SQL["list_heads"], prefetch=_PAGE):
                    each(row["merchant_id"], Head(seq=row["seq"], hash=row["hash"]))
            await confirm(connection)  # an anchor vouches for it: nothing that a failover may take back
