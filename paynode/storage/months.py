"""The months of the ledger, made ahead."""

from __future__ import annotations

from typing import Final

from paynode.domain.months import MonthsMade
from paynode.storage.postgres import Pool, borrowed
from paynode.storage.queries import load

_SQL: Final = load("months")


class PgMonths:
    """Asks as the gateway's role."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def make_months(self) -> MonthsMade:
        """Make those that are missing of this month and the next twelve.

        Raises: Unavailable, also while somebody reads the whole ledger for longer than a lock may be waited for.
        """
        async with borrowed(self._pool) as connection:
            row = await connection.fetchrow(_SQL["make_months"])
        assert row is not None
        return MonthsMade(made=row["made"], held_up=row["held_up"])
