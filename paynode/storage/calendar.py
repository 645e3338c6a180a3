"""What the calendar brings, in PostgreSQL."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import orjson

from paynode.domain.ids import MERCHANT, public
from paynode.domain.maturing import Due, MaturityKind
from paynode.domain.partition import partition_of
from paynode.domain.road import events_stream
from paynode.storage.books_bodies import encode_maturity
from paynode.storage.postgres import Pool, borrowed
from paynode.storage.queries import load

_SQL: Final = load("calendar")


class PgDiary:
    """As the gateway's role: it may tell the actors and sees nothing of the books. Every method raises Unavailable."""

    def __init__(self, pool: Pool, *, partitions: int) -> None:
        self._pool = pool
        self._partitions = partitions

    async def due(self, count: int) -> Sequence[Due]:
        """What has come by now, the eldest first; not what the actors have been told already."""
        async with borrowed(self._pool) as connection:
            rows = await connection.fetch(_SQL["find_matured"], count)
        return [
            Due(
                merchant_id=row["merchant_id"],
                payment_id=row["payment_id"],
                operation_id=row["operation_id"],
                kind=MaturityKind(row["kind"]),
            )
            for row in rows
        ]

    async def tell(self, due: Sequence[Due]) -> None:
        """Put it on its way to the merchants' actors."""
        async with borrowed(self._pool) as connection:
            await connection.execute(_SQL["tell_actors"], orjson.dumps([self._row(one) for one in due]).decode())

    def _row(self, due: Due) -> dict[str, object]:
        maturity = due.maturity
        return {
            "id": maturity.id,
            "stream": events_stream(partition_of(public(MERCHANT, due.merchant_id), self._partitions)),
            "type": maturity.kind,
            "merchant_id": due.merchant_id,
            "payment_id": due.payment_id,
            "operation_id": due.operation_id,
            "body": orjson.Fragment(encode_maturity(maturity)),
        }
