"""A transaction for every event: by BEGIN and COMMIT, by one statement, by a function of the database."""

from __future__ import annotations

from typing import Final

from paynode.bench.rivals.shop import Shop, new_id, rate_of
from paynode.storage.postgres import Session

_INSERT: Final = (
    "INSERT INTO rivals.ledger (id, merchant_id, amount, currency, reference) VALUES ($1, $2, $3, 'EUR', $4)"
)
_UPDATE: Final = "UPDATE rivals.wallets SET balance = balance + $2 WHERE merchant_id = $1"
_BOTH: Final = (
    "WITH line AS (INSERT INTO rivals.ledger (id, merchant_id, amount, currency, reference) "
    "VALUES ($1, $2, $3, 'EUR', $4)) UPDATE rivals.wallets SET balance = balance + $3 WHERE merchant_id = $2"
)
_CALL: Final = "SELECT rivals.credit($1, $2, $3, $4)"


async def row_lock(shop: Shop, *, connections: int, seconds: float) -> float:
    """Events a second of BEGIN, INSERT, UPDATE of the wallet, COMMIT."""
    [merchant] = shop.merchants

    async def step(session: Session) -> int:
        async with session.transaction():
            await session.execute(_INSERT, new_id(), merchant, 1, "bench")
            await session.execute(_UPDATE, merchant, 1)
        return 1

    async with shop.connections(connections) as sessions:
        return await rate_of(step, sessions, seconds)


async def one_statement(shop: Shop, *, connections: int, seconds: float) -> float:
    """Events a second of one statement that does both."""
    return await _repeat(shop, _BOTH, connections, seconds)


async def function(shop: Shop, *, connections: int, seconds: float) -> float:
    """Events a second of a function that does both."""
    return await _repeat(shop, _CALL, connections, seconds)


async def _repeat(shop: Shop, statement: str, connections: int, seconds: float) -> float:
    [merchant] = shop.merchants

    async def step(session: Session) -> int:
        await session.execute(statement, new_id(), merchant, 1, "bench")
        return 1

    async with shop.connections(connections) as sessions:
        return await rate_of(step, sessions, seconds)
