"""The marks of points of sale, in PostgreSQL."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import asyncpg
import orjson

from paynode.domain.accepting import KeyUse, StoredAnswer
from paynode.domain.point_of_sale import Mark, Marked, Marking, Overdue
from paynode.storage.postgres import Connection, Pool, borrowed, confirm
from paynode.storage.queries import load

_SQL: Final = load("point_of_sale")


class PgPointOfSale:
    """Decides as the ingress's or the gateway's role. Every method raises Unavailable; then nobody knows whether it
    was decided, and asking again tells.
    """

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def keep(self, marking: Marking, seen_version: int, use: KeyUse, answer: StoredAnswer) -> Marked:
        """Keep the payment, and the answer with it, if it is authorized in this version and its time has not passed."""
        arguments = (marking.payment_id, seen_version, marking.at, marking.event_id, marking.request_id, marking.stream)
        headers = orjson.dumps(dict(answer.headers)).decode()
        stored = (use.merchant_id, use.path, use.key, answer.status, headers, answer.body)
        async with borrowed(self._pool) as connection:
            return await _decide(connection, "keep_payment", *arguments, *stored)

    async def reverse(self, marking: Marking) -> Marked:
        """Reverse the payment if its time has passed."""
        arguments = (marking.payment_id, marking.at, marking.event_id, marking.request_id, marking.stream)
        async with borrowed(self._pool) as connection:
            return await _decide(connection, "reverse_payment", *arguments)

    async def overdue(self, *, grace_s: float, count: int) -> Sequence[Overdue]:
        """Payments whose time passed more than `grace_s` seconds ago, the oldest first."""
        async with borrowed(self._pool) as connection:
            rows = await connection.fetch(_SQL["find_overdue"], grace_s, count)
        return [Overdue(payment_id=row["payment_id"], merchant_id=row["merchant_id"]) for row in rows]


async def _decide(connection: Connection, statement: str, *arguments: object) -> Marked:
    row: asyncpg.Record | None = await connection.fetchrow(_SQL[statement], *arguments)
    assert row is not None, "the function answers with one row"
    if row["verdict"] is not None and not row["is_new"]:
        await confirm(connection)  # decided by somebody who may not know it himself
    return Marked(
        mark=None if row["verdict"] is None else Mark(row["verdict"]), is_new=row["is_new"], left_s=row["left_s"]
    )
