"""Signed credits on the streams, for workers to find."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

import uuid_utils

from paynode.config import Settings
from paynode.domain.ids import MERCHANT, public
from paynode.domain.money import FeePlan, Money
from paynode.domain.partition import partition_of
from paynode.domain.publishing import OutsideEvent, OutsideType, WalletMovement
from paynode.domain.road import events_stream
from paynode.domain.terms import Terms
from paynode.storage import publishers
from paynode.storage.merchants import create_many
from paynode.storage.postgres import Role, session
from paynode.streams.client import Redis, commands_client
from paynode.streams.codec import encode

# Entries of one pipeline, and merchants of one statement.
_PAGE: Final = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class Town:
    """Merchants (UUIDs), the publisher that moves their money, and the partitions there are."""

    merchants: Sequence[str]
    publisher: str
    secret: bytes
    partitions: int

    def entry(self, merchant_id: str, number: int) -> tuple[str, dict[str, str]]:
        """The stream and the fields of one more credit."""
        fields = encode(credit(merchant_id, number), self.publisher, self.secret)
        return events_stream(partition_of(public(MERCHANT, merchant_id), self.partitions)), fields


async def found(settings: Settings, merchants: int) -> Town:
    """New merchants without fees, and a publisher of their own."""
    name = f"bench-{uuid_utils.uuid7()}"
    terms = Terms(fees=FeePlan(fixed=0, basis_points=0))
    ids: list[str] = []
    async with session(settings, Role.OWNER, application_name="bench") as owner:
        for first in range(0, merchants, _PAGE):
            names = [f"{name} {number}" for number in range(first, min(first + _PAGE, merchants))]
            ids += [one.id for one in await create_many(owner, names, terms=terms, psps=["sim"])]
        publisher = await publishers.create(owner, name, types=[OutsideType.WALLET_CREDIT], actor="bench")
    return Town(merchants=ids, publisher=name, secret=publisher.secret, partitions=settings.streams.partitions)


async def is_empty(settings: Settings) -> bool:
    """Whether nothing at all is in this Redis."""
    async with commands_client(settings) as redis:
        return not await redis.dbsize()


def credit(merchant_id: str, number: int) -> OutsideEvent:
    """One minor unit."""
    return OutsideEvent(
        id=str(uuid_utils.uuid7()),
        source="bench",
        type=OutsideType.WALLET_CREDIT,
        at=datetime.now(UTC),
        merchant_id=merchant_id,
        data=WalletMovement(money=Money(amount=1, currency="EUR"), reason="backlog", reference=str(number)),
    )


async def heap_up(redis: Redis, town: Town, events: int, *, repeated: float = 0.0) -> None:
    """Put credits on the streams: of the only merchant, or of many by Zipf's law, each half as often as the one before
    at twice its rank. A share of them is said once more.
    """
    chance = random.Random(1)  # noqa: S311 - the same crowd each time
    weights = [1 / (rank + 1) for rank in range(len(town.merchants))]
    whose = chance.choices(town.merchants, weights, k=events)
    for first in range(0, events, _PAGE):
        async with redis.pipeline(transaction=False) as pipeline:
            for number, merchant_id in enumerate(whose[first : first + _PAGE], start=first):
                stream, fields = town.entry(merchant_id, number)
                for _ in range(2 if chance.random() < repeated else 1):
                    pipeline.xadd(stream, dict(fields.items()))
            await pipeline.execute()


async def found_hot(settings: Settings, events: int) -> str:
    """A new merchant (its UUID) with so many credits on its stream."""
    town = await found(settings, 1)
    async with commands_client(settings) as redis:
        await heap_up(redis, town, events)
    return town.merchants[0]
