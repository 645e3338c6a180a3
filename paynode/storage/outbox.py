"""The outbox as the relay sees it: what is due, and what may have been lost on the road."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

import asyncpg
import orjson

from paynode.domain.ids import MERCHANT, public
from paynode.domain.road import Pointer
from paynode.storage.postgres import Pool, borrowed
from paynode.storage.queries import load

_SQL: Final = load("outbox")


class PgOutbox:
    """Reads and marks rows; never deletes one. Every method raises Unavailable when the server is away."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def take_due(self, count: int) -> Sequence[Pointer]:
        """Rows whose time has come, marked as published: publish them now."""
        async with borrowed(self._pool) as connection:
            rows = await connection.fetch(_SQL["take_due_rows"], count)
        return [_pointer(row) for row in rows]

    async def old_streams(self, after_s: float) -> Sequence[str]:
        """Streams with rows that were published more than `after_s` seconds ago and are not processed."""
        async with borrowed(self._pool) as connection:
            rows = await connection.fetch(_SQL["find_old_streams"], after_s)
        return [row["stream"] for row in rows]

    async def find_lost(
        self, before_ms: Mapping[str, int | None], *, after_s: float, max_s: float, count: int
    ) -> Sequence[Pointer]:
        """The oldest `count` rows of these streams that were published before the given instant, None: at any time.

        And more than `after_s` seconds ago, doubled each time, up to `max_s`.
        """
        bounds = orjson.dumps(dict(before_ms)).decode()
        async with borrowed(self._pool) as connection:
            rows = await connection.fetch(_SQL["find_lost_rows"], after_s, max_s, count, bounds)
        return [_pointer(row) for row in rows]

    async def mark_republished(self, refs: Sequence[str]) -> None:
        """Remember that these are about to be put on their streams again."""
        async with borrowed(self._pool) as connection:
            await connection.execute(_SQL["mark_republished"], refs)


def _pointer(row: asyncpg.Record) -> Pointer:
    merchant = row["merchant_id"]
    return Pointer(stream=row["stream"], ref=row["id"], merchant=public(MERCHANT, merchant) if merchant else "")
