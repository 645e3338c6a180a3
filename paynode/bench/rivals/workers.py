"""Workers on a stream: one transaction for every message, and the loop of forty lines that takes hundreds at once."""

from __future__ import annotations

from collections.abc import Sequence
from time import perf_counter
from typing import Any, Final

import anyio
import orjson

from paynode.bench.rivals.shop import Shop, new_id
from paynode.storage.postgres import Session
from paynode.streams.client import Redis

_STREAM: Final = "bench:rivals"
_GROUP: Final = "workers"
_PAGE: Final = 500
# Recognised by its id, as a good engineer would: what is delivered twice counts once.
_ONE: Final = """
WITH line AS (
    INSERT INTO rivals.ledger (id, merchant_id, amount, currency, reference) VALUES ($1, $2, $3, $4, $5)
    ON CONFLICT DO NOTHING
    RETURNING amount
)
UPDATE rivals.wallets SET balance = balance + line.amount FROM line WHERE merchant_id = $2
"""
_MANY: Final = """
WITH lines AS (
    INSERT INTO rivals.ledger (id, merchant_id, amount, currency, reference)
    SELECT * FROM unnest($1::uuid[], $2::uuid[], $3::bigint[], $4::text[], $5::text[])
    ON CONFLICT DO NOTHING
    RETURNING merchant_id, amount
), sums AS (
    SELECT merchant_id, sum(amount) AS amount FROM lines GROUP BY merchant_id ORDER BY merchant_id
)
UPDATE rivals.wallets AS w SET balance = balance + s.amount FROM sums AS s WHERE w.merchant_id = s.merchant_id
"""


async def fill(redis: Redis, shop: Shop, events: int) -> None:
    """Put so many events on the rivals' stream, of the merchants in turns."""
    await redis.delete(_STREAM)
    await redis.xgroup_create(_STREAM, _GROUP, id="0", mkstream=True)
    for first in range(0, events, _PAGE):
        async with redis.pipeline(transaction=False) as pipeline:
            for number in range(first, min(first + _PAGE, events)):
                event = {
                    "id": new_id(),
                    "merchant_id": shop.merchants[number % len(shop.merchants)],
                    "amount": 1,
                    "currency": "EUR",
                    "reason": "backlog",
                    "reference": str(number),
                }
                pipeline.xadd(_STREAM, {"event": orjson.dumps(event)})
            await pipeline.execute()


async def per_message(redis: Redis, shop: Shop, *, tasks: int, events: int) -> float:
    """Events a second of a worker that writes and acknowledges every message by itself, so many at a time."""

    async def work(session: Session) -> None:
        while found := await _read(redis, 1):
            [(entry_id, event)] = found
            await session.execute(_ONE, *_row(event))
            await redis.xack(_STREAM, _GROUP, entry_id)

    await fill(redis, shop, events)
    async with shop.connections(tasks) as sessions:
        begun = perf_counter()
        async with anyio.create_task_group() as group:
            for session in sessions:
                group.start_soon(work, session)
        return events / (perf_counter() - begun)


async def batch_loop(redis: Redis, shop: Shop, *, events: int) -> float:
    """Events a second of the loop: read 500, write them with one statement, acknowledge them with one command."""
    await fill(redis, shop, events)
    async with shop.connections(1) as [session]:
        begun = perf_counter()
        while found := await _read(redis, _PAGE):
            await session.execute(_MANY, *zip(*(_row(event) for _, event in found), strict=True))
            await redis.xack(_STREAM, _GROUP, *(entry_id for entry_id, _ in found))
        return events / (perf_counter() - begun)


async def _read(redis: Redis, count: int) -> Sequence[tuple[bytes, dict[str, Any]]]:
    answer: Any = await redis.xreadgroup(_GROUP, "worker", {_STREAM: ">"}, count=count)
    return [(entry_id, orjson.loads(fields[b"event"])) for entry_id, fields in answer[0][1]] if answer else []


def _row(event: dict[str, Any]) -> tuple[Any, ...]:
    return event["id"], event["merchant_id"], event["amount"], event["currency"], event["reference"]
