"""How things stand, counted over the whole database."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from paynode.domain.census import Census, Waiting
from paynode.storage.postgres import Connection, Pool, borrowed
from paynode.storage.queries import load

_SQL: Final = load("census")


class PgCensus:
    """Counts as the reader's role."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def take(self) -> Census:
        """How things stand now. Raises: Unavailable."""
        async with borrowed(self._pool) as connection:
            return await take(connection)


async def take(connection: Connection) -> Census:
    """How things stand now. Raises: asyncpg's errors, translated by the caller."""
    row = await connection.fetchrow(_SQL["take_census"])
    assert row is not None
    return Census(
        unknown=row["unknown"],
        oldest_unknown_ms=_ms(row["oldest_unknown_s"]),
        dead_letters=row["dead_letters"],
        parked=row["parked"],
        suspects=row["suspects"],
        waiting=await _waiting(connection),
    )


async def _waiting(connection: Connection) -> Mapping[str, Waiting]:
    return {
        row["stream"]: Waiting(due=row["due"], oldest_ms=_ms(row["oldest_s"]), scheduled=row["scheduled"])
        for row in await connection.fetch(_SQL["count_waiting"])
    }


def _ms(seconds: float) -> int:
    # A row that was committed by a slower transaction may be younger than the statement that finds it.
    return max(0, round(seconds * 1000))
