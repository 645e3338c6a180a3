"""What outside publishers put on the streams: verified by their keys, read strictly, else told why not."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

from paynode.domain.errors import Poison
from paynode.domain.keeping import kept
from paynode.domain.message import Message, Unreadable
from paynode.domain.publishing import PublisherKey
from paynode.streams import codec
from paynode.streams.codec import About
from paynode.streams.signing import Claim, authenticate, claim


class Keys(Protocol):
    """The publishers' keys. Raises: Unavailable."""

    async def key_of(self, publisher: str) -> PublisherKey | None: ...


class OutsideReader:
    """Reads entries of outside publishers; `now_ms` is in milliseconds since 1970."""

    def __init__(self, keys: Keys, *, partitions: int, now_ms: Callable[[], int]) -> None:
        self._keys = keys
        self._partitions = partitions
        self._now_ms = now_ms

    async def read(self, entries: Sequence[Mapping[str, str]], partition: int) -> list[Message | Unreadable]:
        """What each entry of a partition says, or why nothing can be done with it: a reason of `signing` or `codec`.

        What it was about is told only when it is known who said so. Raises: Unavailable when the keys are away.
        """
        keys: dict[str, PublisherKey | None] = {}  # of those that have been named here: one look for all their events
        found: list[Message | Unreadable] = []
        now_ms = self._now_ms()
        for fields in entries:
            try:
                claimed = claim(fields)
                if claimed.publisher not in keys:
                    keys[claimed.publisher] = await self._keys.key_of(claimed.publisher)
                key = authenticate(claimed, keys[claimed.publisher])
            except Poison as poison:
                found.append(_unreadable(fields, poison, About()))
            else:
                found.append(self._read(fields, claimed, key, partition, now_ms))
        return found

    def _read(
        self, fields: Mapping[str, str], claimed: Claim, key: PublisherKey, partition: int, now_ms: int
    ) -> Message | Unreadable:
        try:
            event = codec.decode(claimed, key, now_ms=now_ms, partition=partition, partitions=self._partitions)
        except Poison as poison:
            return _unreadable(fields, poison, codec.about(claimed))
        return Message(ref=None, merchant_id=event.merchant_id, content=event, fields=kept(fields))


def _unreadable(fields: Mapping[str, str], poison: Poison, about: About) -> Unreadable:
    return Unreadable(
        ref=None,
        reason=poison.reason,
        detail=poison.detail,
        fields=kept(fields),
        event_id=about.event_id,
        type=about.type,
        merchant_id=about.merchant_id,
    )
