"""What is left to do, for whoever ends when nothing is."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from paynode.storage.postgres import Pool, borrowed
from paynode.storage.queries import load

_SQL: Final = load("remaining")


async def has_due_work(pool: Pool, streams: Sequence[str]) -> bool:
    """Whether something is due on streams of these forms (as of LIKE). Raises: Unavailable."""
    async with borrowed(pool) as connection:
        return bool(await connection.fetchval(_SQL["find_due_work"], list(streams)))
