"""Messages that somebody died over: how often each was tried, counted before the try."""

from __future__ import annotations

from typing import Final

from paynode.domain.batch import Lease
from paynode.storage.postgres import Pool, borrowed
from paynode.storage.queries import load

_SQL: Final = load("suspects")


class PgSuspects:
    """Counts. Every method raises Unavailable when the server is away."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def count(self, stream: str, entry: str) -> int:
        """One more try of this message is about to begin; how many that makes."""
        async with borrowed(self._pool) as connection:
            return int(await connection.fetchval(_SQL["count_try"], stream, entry))

    async def uncount(self, stream: str, entry: str) -> None:
        """The try is over, and nobody has died of it."""
        async with borrowed(self._pool) as connection:
            # The order matters: a second try becomes a first one, and is not forgotten with it.
            if (await connection.execute(_SQL["forget_try"], stream, entry)).endswith(" 0"):
                await connection.execute(_SQL["uncount_try"], stream, entry)

    async def is_waiting(self, ref: str, stream: str) -> bool:
        """Whether an outbox row is still to be processed by whoever reads this stream."""
        async with borrowed(self._pool) as connection:
            return bool(await connection.fetchval(_SQL["is_waiting"], ref, stream))

    async def tries(self, stream: str, entry: str) -> int:
        """How many tries have begun."""
        async with borrowed(self._pool) as connection:
            return int(await connection.fetchval(_SQL["read_tries"], stream, entry) or 0)

    async def acquit(self, lease: Lease, stream: str) -> None:
        """What was inherited with this lease is through: nobody on this stream is suspected any more."""
        async with borrowed(self._pool) as connection:
            await connection.execute(_SQL["acquit_stream"], lease.partition, lease.epoch, stream)
