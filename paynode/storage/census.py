"""How things stand, counted over the whole database."""

from __future__ import annotations

from typing import Final

from paynode.domain.census import Census
from paynode.storage.postgres import Pool, borrowed
from paynode.storage.queries import load

_SQL: Final = load("census")


class PgCensus:
    """Counts as the reader's role."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def take(self) -> Census:
        """How things stand now. Raises: Unavailable."""
        async with borrowed(self._pool) as connection:
            row = await connection.fetchrow(_SQL["take_census"])
        assert row is not None
        return Census(
            oldest_unprocessed_ms=round(row["oldest_unprocessed_s"] * 1000),
            unknown=row["unknown"],
            oldest_unknown_ms=round(row["oldest_unknown_s"] * 1000),
            dead_letters=row["dead_letters"],
        )
