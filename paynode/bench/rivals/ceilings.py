"""What the servers give at most: the very rows that paynode writes, by COPY; bare commits; streams alone."""

from __future__ import annotations

from collections.abc import Sequence
from time import perf_counter
from typing import Any, Final

from paynode.bench.rivals.shop import Shop, rate_of
from paynode.storage.postgres import Session
from paynode.streams.client import Redis

_TABLES: Final = ("ledger_entries", "wallet_adjustments", "applied_events")
_PAGE: Final = 1000
_STREAM: Final = "bench:ceiling"
_GROUP: Final = "readers"


async def copy(shop: Shop, *, events: int) -> float:
    """Events a second when the rows of events that paynode has written are copied to tables like its own.

    A thousand events in a transaction; the tables have the same columns, checks and indexes.
    """
    async with shop.connections(1) as [session]:
        # Times as the server has them: to make datetimes of them would be measured too.
        await session.set_type_codec(
            "timestamptz", schema="pg_catalog", encoder=_as_it_is, decoder=_as_it_is, format="tuple"
        )
        pages = [await _rows(session, table, events) for table in _TABLES]
        for table in _TABLES:
            await session.execute(f"DROP TABLE IF EXISTS rivals.{table}")
            await session.execute(f"CREATE TABLE rivals.{table} (LIKE public.{table} INCLUDING ALL)")
        count, begun = len(pages[0]), perf_counter()
        for first in range(0, count, _PAGE):
            async with session.transaction():
                for table, rows in zip(_TABLES, pages, strict=True):
                    records = rows[first : first + _PAGE]
                    await session.copy_records_to_table(table, schema_name="rivals", records=records)
        return count / (perf_counter() - begun)


async def _rows(session: Session, table: str, count: int) -> Sequence[Any]:
    return await session.fetch(f"SELECT * FROM {table} LIMIT {count}")  # noqa: S608 - a name of ours


def _as_it_is(instant: tuple[int]) -> tuple[int]:
    return instant


async def commits(shop: Shop, *, connections: int, seconds: float) -> float:
    """Commits a second of a row that nobody else touches."""

    async def step(session: Session) -> int:
        await session.execute("INSERT INTO rivals.bare DEFAULT VALUES")
        return 1

    async with shop.connections(connections) as sessions:
        await sessions[0].execute("CREATE TABLE IF NOT EXISTS rivals.bare (at timestamptz DEFAULT clock_timestamp())")
        return await rate_of(step, sessions, seconds)


async def streams(redis: Redis, *, events: int) -> tuple[float, float]:
    """Entries a second: put on a stream, a thousand at a time; and read by a group, acknowledged and trimmed."""
    await redis.delete(_STREAM)
    await redis.xgroup_create(_STREAM, _GROUP, id="0", mkstream=True)
    fields: Any = {"event": b"x" * 400, "sig": b"x" * 50}
    begun = perf_counter()
    for _ in range(0, events, _PAGE):
        async with redis.pipeline(transaction=False) as pipeline:
            for _ in range(_PAGE):
                pipeline.xadd(_STREAM, fields)
            await pipeline.execute()
    added, begun = events / (perf_counter() - begun), perf_counter()
    while True:
        answer: Any = await redis.xreadgroup(_GROUP, "reader", {_STREAM: ">"}, count=_PAGE)
        if not answer:
            break
        ids = [entry_id for entry_id, _ in answer[0][1]]
        await redis.xack(_STREAM, _GROUP, *ids)
        await redis.xtrim(_STREAM, minid=ids[-1], approximate=False)
    read = events / (perf_counter() - begun)
    await redis.delete(_STREAM)
    return added, read
