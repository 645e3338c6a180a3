"""Telling publishers what became of their events, on the stream of outcomes of the merchant's partition."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any, Final

from paynode.domain.ids import MERCHANT, public
from paynode.domain.partition import partition_of
from paynode.domain.publishing import Result, Verdict
from paynode.domain.road import outcomes_stream
from paynode.streams.client import Redis, translated
from paynode.streams.outcome_events import encode
from paynode.streams.outside import Keys
from paynode.streams.signing import EVENT_FIELD, SIGNATURE_FIELD, sign

# One command for many entries: a command for each cost the client seven times as much, and the server no less.
_TELL: Final = """
for i = 4, #ARGV, 2 do
    redis.call('XADD', KEYS[1], 'MAXLEN', '~', ARGV[1], '*', ARGV[2], ARGV[i], ARGV[3], ARGV[i + 1])
end
"""
# Merchants whose streams are remembered.
_MERCHANTS: Final = 10_000
# Events and signatures in one command: Lua takes some thousands of values, and nobody else is served meanwhile.
_TOLD_AT_ONCE: Final = 1000


@lru_cache(maxsize=_MERCHANTS)
def _stream_of(merchant_id: str, partitions: int) -> str:
    return outcomes_stream(partition_of(public(MERCHANT, merchant_id), partitions))


class Outcomes:
    """Tells verdicts. A stream keeps about `entries_max`: who misses one publishes the event again and is told."""

    def __init__(
        self,
        client: Redis,
        keys: Keys,
        *,
        partitions: int,
        entries_max: int,
        new_id: Callable[[], str],
        now_ms: Callable[[], int],
    ) -> None:
        self._client = client
        self._keys = keys
        self._partitions = partitions
        self._entries_max = entries_max
        self._new_id = new_id
        self._now_ms = now_ms

    async def tell(self, verdicts: Sequence[Verdict]) -> None:
        """Put outcomes on their streams, in order. Dead letters are not told, nor is a publisher without a key.

        Raises: Unavailable; then some may have been told and some not, and who misses one asks again.
        """
        streams: dict[str, list[str]] = {}
        now_ms, told = self._now_ms(), [one for one in verdicts if one.result is not Result.DEAD_LETTER]
        keys = {name: await self._keys.key_of(name) for name in {one.publisher for one in told}}
        for verdict in told:
            if (key := keys[verdict.publisher]) is None:
                continue  # revoked meanwhile: what is not signed would be worth nothing
            raw = encode(verdict, outcome_id=self._new_id(), now_ms=now_ms)
            stream = _stream_of(verdict.merchant_id, self._partitions)
            streams.setdefault(stream, []).extend(sign(raw, verdict.publisher, key.secret).values())
        for stream, fields in streams.items():
            for first in range(0, len(fields), _TOLD_AT_ONCE):
                await self._tell(stream, fields[first : first + _TOLD_AT_ONCE])

    async def _tell(self, stream: str, fields: Sequence[str]) -> None:
        client: Any = self._client  # its types cover answers of three protocols at once
        with translated():
            await client.eval(_TELL, 1, stream, self._entries_max, EVENT_FIELD, SIGNATURE_FIELD, *fields)
