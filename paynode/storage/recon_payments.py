"""Operations that have not ended, beside what is under way for them."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Final

import asyncpg

from paynode.domain.payment import OperationKind, OperationState
from paynode.domain.psp import Outcome
from paynode.domain.reconciling import Sweep, Window
from paynode.domain.stuck import Cure, OpenOperation
from paynode.storage.postgres import Pool, borrowed
from paynode.storage.queries import load

_SQL: Final = load("recon_payments")

_BEFORE_ALL: Final = "00000000-0000-0000-0000-000000000000"


class PgOpenOperations:
    """Looks as the reader's role, in pages of `page_size`. Raises Unavailable."""

    def __init__(self, pool: Pool, *, page_size: int) -> None:
        self._pool = pool
        self._page_size = page_size

    async def made_within(self, window: Window, after: str | None) -> Sweep[OpenOperation]:
        """What was made within a window and has not ended."""
        return await self._sweep("list_operations", window, after)

    async def doubted_still(self, window: Window, after: str | None) -> Sweep[OpenOperation]:
        """What something was wrong with before, outside of the window."""
        return await self._sweep("list_doubted", window, after)

    async def _sweep(self, statement: str, window: Window, after: str | None) -> Sweep[OpenOperation]:
        since, until = (datetime.fromtimestamp(ms / 1000, UTC) for ms in (window.since_ms, window.until_ms))
        async with borrowed(self._pool) as connection:
            rows = await connection.fetch(_SQL[statement], since, until, after or _BEFORE_ALL, self._page_size)
            ids = [row["id"] for row in rows]
            found = await connection.fetch(_SQL["read_open_operations"], ids) if ids else []
        return Sweep(found=[_operation(row) for row in found], after=ids[-1] if ids else None)


class PgMending:
    """Writes as the gateway's role. Raises Unavailable, Conflict."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def mend(self, break_id: str, *, event_id: str, cure: Cure, stream: str) -> bool:
        """Put an operation back on its way; False when something is by now, or it was tried too often."""
        async with borrowed(self._pool) as connection:
            return bool(await connection.fetchval(_SQL["mend_operation"], break_id, event_id, cure, stream))


def _operation(row: asyncpg.Record) -> OpenOperation:
    return OpenOperation(
        id=row["id"],
        payment_id=row["payment_id"],
        merchant_id=row["merchant_id"],
        psp=row["psp"],
        kind=OperationKind(row["kind"]),
        state=OperationState(row["state"]),
        amount=row["amount"],
        currency=row["currency"],
        created_ms=row["created_ms"],
        is_pos=row["is_pos"],
        is_in_review=row["is_in_review"],
        is_stuck=row["is_stuck"],
        has_attempt=row["has_attempt"],
        outcome=None if row["outcome"] is None else Outcome(row["outcome"]),
    )
