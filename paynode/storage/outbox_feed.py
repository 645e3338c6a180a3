"""The outbox as a road of its own: what is due, read where it is kept, while the streams cannot be had."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Final

from paynode.domain.detour import DueRow, TakenRow
from paynode.domain.ids import MERCHANT, public
from paynode.domain.road import pos_lane
from paynode.storage.postgres import Pool, borrowed
from paynode.storage.queries import load

_SQL: Final = load("outbox_feed")

# Before every row.
_BEGINNING: Final = (datetime(1970, 1, 1, tzinfo=UTC), "00000000-0000-0000-0000-000000000000")


class PgDueRows:
    """A partition's rows. Its pool is not one of those that look up by key: here the order of an index is wanted."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def page(self, stream: str, after: DueRow | None, count: int) -> Sequence[DueRow]:
        """Due rows of a stream, oldest first, behind `after`; before them the oldest of its lane that is read first.

        `count` of each. Raises: Unavailable.
        """
        at, row_id = _BEGINNING if after is None else (after.at, after.id)
        async with borrowed(self._pool) as connection:
            rows = await connection.fetch(_SQL["find_due_rows"], stream, at, row_id, count, pos_lane(stream))
        return [
            DueRow(
                id=row["id"],
                merchant=public(MERCHANT, row["merchant_id"]) if row["merchant_id"] else "",
                at=row["available_at"],
                is_pos=row["is_pos"],
            )
            for row in rows
        ]


class PgCommandRows:
    """A PSP's commands, for several gateways at once. A row stays with who took it for `idle_ms` unless it is renewed.

    Every method raises Unavailable when the server is away.
    """

    def __init__(self, pool: Pool, *, idle_ms: int) -> None:
        self._pool = pool
        self._idle_ms = idle_ms

    async def take(self, stream: str, count: int) -> Sequence[TakenRow]:
        """Commands that are due and in nobody's hands, now in ours."""
        async with borrowed(self._pool) as connection:
            rows = await connection.fetch(_SQL["take_commands"], stream, count, self._idle_ms)
        return [TakenRow(id=row["id"], times=row["taken"]) for row in rows]

    async def renew(self, refs: Sequence[str]) -> None:
        """These are still in our hands."""
        async with borrowed(self._pool) as connection:
            await connection.execute(_SQL["renew_commands"], refs, self._idle_ms)

    async def release(self, refs: Sequence[str]) -> None:
        """These are in nobody's hands any more."""
        async with borrowed(self._pool) as connection:
            await connection.execute(_SQL["release_commands"], refs)
