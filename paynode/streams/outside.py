"""What outside publishers put on the streams: verified by their keys, read strictly, else told why not."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Protocol

from paynode.domain.errors import Poison
from paynode.domain.keeping import kept
from paynode.domain.message import Message, Unreadable
from paynode.domain.publishing import PublisherKey
from paynode.streams import codec
from paynode.streams.codec import About
from paynode.streams.signing import authenticate, claim


class Keys(Protocol):
    """The publishers' keys. Raises: Unavailable."""

    async def key_of(self, publisher: str) -> PublisherKey | None: ...


class OutsideReader:
    """Reads entries of outside publishers; `now_ms` is in milliseconds since 1970."""

    def __init__(self, keys: Keys, *, partitions: int, now_ms: Callable[[], int]) -> None:
        self._keys = keys
        self._partitions = partitions
        self._now_ms = now_ms

    async def read(self, fields: Mapping[str, str], partition: int) -> Message | Unreadable:
        """What an entry of a partition says, or why nothing can be done with it: the reasons of `signing` and `codec`.

        What it was about is told only when it is known who said so. Raises: Unavailable when the keys are away.
        """
        try:
            claimed = claim(fields)
            key = authenticate(claimed, await self._keys.key_of(claimed.publisher))
        except Poison as poison:
            return _unreadable(fields, poison, About())
        try:
            event = codec.decode(claimed, key, now_ms=self._now_ms(), partition=partition, partitions=self._partitions)
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
