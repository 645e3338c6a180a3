"""A message dies, the operator mends what kept it from being read, requeues it, and it takes effect once."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import anyio

from paynode.client.credentials import text_of
from paynode.client.events import Event, Signer, money_of
from paynode.config import Settings
from paynode.domain import ids
from paynode.domain.publishing import OutsideType, WalletMovement
from paynode.domain.road import dead_stream, events_stream
from paynode.storage.postgres import Session
from paynode.streams.client import Redis
from tests.support.installation import installed
from tests.support.verbs import Said, paynode
from tests.support.waiting import wait_until

SECRET = bytes(range(32))
AMOUNT = 4200


def credit(merchant_id: str) -> Event:
    signer = Signer(name="billing", secret=text_of(SECRET))
    data = WalletMovement(money=money_of(AMOUNT, "EUR"), reason="bonus", reference="b-1")
    return signer.sign(OutsideType.WALLET_CREDIT, ids.public(ids.MERCHANT, merchant_id), data)


async def publish(road: Redis, event: Event) -> str:
    """Put an event on its partition; the stream."""
    stream = events_stream(event.partition(32))
    fields: Any = dict(event.fields)
    await road.xadd(stream, fields)
    return stream


async def test_a_credit_of_a_publisher_that_was_made_too_late_is_requeued_and_booked_once(
    settings: Settings, redis_url: str, tmp_path: Path, owner: Session, road: Redis
) -> None:
    async with installed(settings, redis_url, tmp_path) as installation:
        installation.start("worker")
        installation.start("scheduler", PAYNODE_UNDERTAKER__INTERVAL_S="0.2")
        [merchant] = await installation.merchants(1)
        event = credit(merchant.id)
        stream = await publish(road, event)

        async def letters() -> list[dict[str, Any]]:
            said = await paynode(settings, "dlq", "list", "--reason", "publisher_unknown", "--output", "json")
            return list(said.json["data"])

        async def has_died() -> bool:
            return bool(await letters())

        await wait_until(has_died, "the event is a dead letter", 30)
        [letter] = await letters()
        assert (letter["stream"], letter["can_requeue"]) == (stream, True)
        await wait_until(lambda: _shown(road, stream, [letter["id"]]), "the dead-letter stream shows it once", 20)

        # Requeued before it is mended it dies again, and is a letter of its own.
        assert (await paynode(settings, "dlq", "requeue", letter["id"])).code == 0

        async def died_again() -> bool:
            return [one["id"] for one in await letters()] not in ([], [letter["id"]])

        await wait_until(died_again, "it is a dead letter again", 30)
        [again] = await letters()
        await wait_until(lambda: _shown(road, stream, [again["id"]]), "and the stream shows the new one alone", 20)

        await owner.execute(
            "INSERT INTO publishers (name, secret, types) VALUES ('billing', $1, $2)",
            SECRET,
            [OutsideType.WALLET_CREDIT],
        )
        said: list[Said] = []

        async def requeue() -> None:
            said.append(await paynode(settings, "dlq", "requeue", "--all", "--yes", "--note", "the publisher was made"))

        async with anyio.create_task_group() as operators:
            operators.start_soon(requeue)
            operators.start_soon(requeue)
        assert sum("1 of 1 done" in one.out for one in said) == 1

        async def balance() -> int | None:
            found: int | None = await owner.fetchval("SELECT balance FROM wallets WHERE merchant_id = $1", merchant.id)
            return found

        async def is_credited() -> bool:
            return await balance() == AMOUNT

        await wait_until(is_credited, "the credit is booked", 30)
        await publish(road, event)  # and what the publisher says again is recognised
        await wait_until(lambda: _is_through(road, stream), "the stream is read to its end", 30)
        await wait_until(lambda: _shown(road, stream, []), "the dead-letter stream shows nothing any more", 20)
        assert await balance() == AMOUNT
        assert await owner.fetchval("SELECT count(*) FROM wallet_adjustments") == 1
        assert await owner.fetchval("SELECT count(*) FROM outbox") == 0
        assert await letters() == []
        assert await installation.broken_laws() == []


async def _shown(road: Redis, stream: str, letters: list[str]) -> bool:
    entries: Any = await road.xrange(dead_stream(stream))
    return [fields[b"letter"].decode() for _, fields in entries] == letters


async def _is_through(road: Redis, stream: str) -> bool:
    return await road.xlen(stream) == 0
