"""The tables that the rivals write: a ledger keyed by UUIDv7 and a wallet, as anybody would make them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from time import perf_counter
from typing import Final

import anyio
import asyncpg
import uuid_utils

from paynode.storage.postgres import Session

_MAKE: Final = """
CREATE SCHEMA rivals;
CREATE TABLE rivals.ledger (
    id uuid PRIMARY KEY, merchant_id uuid NOT NULL, amount bigint NOT NULL, currency text NOT NULL,
    reference text NOT NULL, at timestamptz NOT NULL DEFAULT clock_timestamp()
);
CREATE TABLE rivals.wallets (merchant_id uuid PRIMARY KEY, balance bigint NOT NULL DEFAULT 0);
CREATE FUNCTION rivals.credit(id uuid, merchant uuid, amount bigint, reference text) RETURNS void LANGUAGE sql AS $$
    INSERT INTO rivals.ledger VALUES (id, merchant, amount, 'EUR', reference);
    UPDATE rivals.wallets SET balance = balance + amount WHERE merchant_id = merchant;
$$;
"""
_DROP: Final = "DROP SCHEMA IF EXISTS rivals CASCADE"


@dataclass(frozen=True, slots=True, kw_only=True)
class Shop:
    """A database with those tables, and the merchants (UUIDs) that have wallets there."""

    url: str
    merchants: Sequence[str]

    @asynccontextmanager
    async def connections(self, count: int) -> AsyncIterator[list[Session]]:
        """So many sessions."""
        sessions = [await asyncpg.connect(self.url) for _ in range(count)]
        try:
            yield sessions
        finally:
            for one in sessions:
                await one.close()

    async def count(self) -> tuple[int, int]:
        """Lines of the ledger, and the sum of the wallets."""
        async with self.connections(1) as [session]:
            lines = await session.fetchval("SELECT count(*) FROM rivals.ledger")
            return int(lines), int(await session.fetchval("SELECT coalesce(sum(balance), 0) FROM rivals.wallets"))


@asynccontextmanager
async def open_shop(url: str, *, merchants: int = 1) -> AsyncIterator[Shop]:
    """The tables, until it is closed."""
    ids = [new_id() for _ in range(merchants)]
    shop = Shop(url=url, merchants=ids)
    async with shop.connections(1) as [session]:
        await session.execute(_DROP)
        await session.execute(_MAKE)
        await session.execute("INSERT INTO rivals.wallets (merchant_id) SELECT unnest($1::uuid[])", ids)
    try:
        yield shop
    finally:
        async with shop.connections(1) as [session]:
            await session.execute(_DROP)


def new_id() -> str:
    return str(uuid_utils.uuid7())


async def rate_of(step: Callable[[Session], Awaitable[int]], sessions: Sequence[Session], seconds: float) -> float:
    """Events a second that so many sessions get done, each doing one step after the other."""
    done, begun = 0, perf_counter()

    async def work(session: Session) -> None:
        nonlocal done
        while perf_counter() - begun < seconds:
            count = await step(session)  # first: `done` may have risen meanwhile
            done += count

    async with anyio.create_task_group() as group:
        for session in sessions:
            group.start_soon(work, session)
    return done / (perf_counter() - begun)
