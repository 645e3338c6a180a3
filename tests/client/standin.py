"""A stand-in for paynode, as a publisher sees it: reads events by the real codec, decides simply, tells by the real
`Outcomes`. What was decided once is told again, and never done again.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any, Final

import anyio
from uuid_utils import uuid7

from paynode.app.parts import now_ms
from paynode.domain.errors import Unavailable
from paynode.domain.message import Message, Unreadable
from paynode.domain.publishing import OutsideEvent, OutsideType, PublisherKey, Result, Verdict, WalletMovement
from paynode.domain.road import PARTITIONS_KEY, events_stream
from paynode.streams.client import Redis
from paynode.streams.entries import entries
from paynode.streams.outcomes import Outcomes
from paynode.streams.outside import OutsideReader

PARTITIONS: Final = 4
NAME: Final = "loyalty"
SECRET: Final = b"a secret of 32 bytes, or so to say"
# More than this nobody has.
FUNDS: Final = 1000


class FixedKeys:
    """Keys that somebody wrote down."""

    def __init__(self, keys: Mapping[str, PublisherKey]) -> None:
        self.keys = dict(keys)
        self.asked: Counter[str] = Counter()

    async def key_of(self, publisher: str) -> PublisherKey | None:
        self.asked[publisher] += 1
        return self.keys.get(publisher)


def all_types(secret: bytes = SECRET) -> PublisherKey:
    return PublisherKey(secret=secret, types=frozenset(OutsideType))


class StandIn:
    """Answers while it runs; `is_deaf` lets it read and say nothing."""

    def __init__(self, client: Redis) -> None:
        self.client = client
        self.keys = FixedKeys({NAME: all_types()})
        self.read: list[Message] = []
        self.unreadable: list[Unreadable] = []
        self.verdicts: dict[str, Verdict] = {}
        self.is_deaf = False
        self.judge: Callable[[OutsideEvent], tuple[Result, str | None]] = by_funds
        self._reader = OutsideReader(self.keys, partitions=PARTITIONS, now_ms=now_ms)
        self.outcomes = self._outcomes(self.keys)
        self._after = dict.fromkeys(range(PARTITIONS), "0-0")

    def _outcomes(self, keys: FixedKeys) -> Outcomes:
        return Outcomes(
            self.client, keys, partitions=PARTITIONS, entries_max=100, new_id=lambda: str(uuid7()), now_ms=now_ms
        )

    async def mark_out(self) -> None:
        await self.client.set(PARTITIONS_KEY, PARTITIONS)

    async def forge(self, verdict: Verdict, secret: bytes) -> None:
        """Tell an outcome with another key than the publisher's."""
        await self._outcomes(FixedKeys({verdict.publisher: all_types(secret)})).tell([verdict])

    async def run(self) -> None:
        while True:
            try:
                for partition in range(PARTITIONS):
                    await self._answer(partition)
            except Unavailable:
                pass
            await anyio.sleep(0.005)

    async def _answer(self, partition: int) -> None:
        found: Any = await self.client.xrange(events_stream(partition), min=f"({self._after[partition]}")
        for entry in entries(found):
            self._after[partition] = entry.id
            [meaning] = await self._reader.read([entry.fields], partition)
            if isinstance(meaning, Unreadable):
                self.unreadable.append(meaning)
                continue
            self.read.append(meaning)
            assert isinstance(meaning.content, OutsideEvent)
            verdict = self.verdicts.setdefault(
                meaning.content.id, Verdict.of(meaning.content, *self.judge(meaning.content))
            )
            if not self.is_deaf and verdict.content_sha256 == meaning.content.content_sha256:
                await self.outcomes.tell([verdict])


def by_funds(event: OutsideEvent) -> tuple[Result, str | None]:
    """Debits of more than there is are refused."""
    is_debit = event.type is OutsideType.WALLET_DEBIT
    if is_debit and isinstance(event.data, WalletMovement) and event.data.money.amount > FUNDS:
        return Result.REFUSED, "insufficient_funds"
    return Result.APPLIED, None


@asynccontextmanager
async def standing_in(client: Redis) -> AsyncIterator[StandIn]:
    standin = StandIn(client)
    async with anyio.create_task_group() as group:
        group.start_soon(standin.run)
        yield standin
        group.cancel_scope.cancel()
