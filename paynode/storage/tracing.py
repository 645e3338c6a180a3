"""One payment from every table that knows of it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import asyncpg
import orjson

from paynode.domain.tracing import PaymentInFull, Step
from paynode.storage.postgres import Pool, borrowed
from paynode.storage.queries import load

_SQL: Final = load("tracing")


class PgTracing:
    """Looks as the reader's role. All of it raises Unavailable."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def find(self, payment_id: str) -> PaymentInFull | None:
        """A payment, whoever's it is, with its operations and requests."""
        async with borrowed(self._pool) as connection:
            row = await connection.fetchrow(_SQL["select_payment"], payment_id)
            if row is None:
                return None
            operations = await connection.fetch(_SQL["list_operations"], payment_id)
            requests = await connection.fetch(_SQL["list_requests"], payment_id)
        return PaymentInFull(
            id=row["id"],
            merchant_id=row["merchant_id"],
            members=orjson.loads(row["members"]),
            operations=[orjson.loads(one["members"]) for one in operations],
            requests=[orjson.loads(one["members"]) for one in requests],
        )

    async def steps(self, payment_id: str) -> Sequence[Step]:
        """All that happened to a payment, oldest first."""
        async with borrowed(self._pool) as connection:
            return [_step(row) for row in await connection.fetch(_SQL["list_steps"], payment_id)]


def _step(row: asyncpg.Record) -> Step:
    return Step(
        at=row["at"],
        what=row["what"],
        id=row["id"],
        operation_id=row["operation_id"],
        detail=orjson.loads(row["detail"]),
    )
