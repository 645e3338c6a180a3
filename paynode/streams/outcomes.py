"""Telling publishers what became of their events, on the stream of outcomes of the merchant's partition."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from paynode.domain.ids import MERCHANT, public
from paynode.domain.partition import partition_of
from paynode.domain.publishing import Result, Verdict
from paynode.domain.road import outcomes_stream
from paynode.streams.client import Redis, translated
from paynode.streams.outcome_events import encode
from paynode.streams.outside import Keys
from paynode.streams.signing import sign


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
        entries = [entry for verdict in verdicts if (entry := await self._entry(verdict)) is not None]
        if not entries:
            return
        # Not a MULTI: the streams may live on different nodes, and an outcome told twice harms nobody.
        with translated():
            async with self._client.pipeline(transaction=False) as pipeline:
                for stream, fields in entries:
                    pipeline.xadd(stream, fields, maxlen=self._entries_max, approximate=True)
                await pipeline.execute()

    async def _entry(self, verdict: Verdict) -> tuple[str, Any] | None:
        if verdict.result is Result.DEAD_LETTER:
            return None
        key = await self._keys.key_of(verdict.publisher)
        if key is None:
            return None  # revoked meanwhile: what is not signed would be worth nothing
        raw = encode(verdict, outcome_id=self._new_id(), now_ms=self._now_ms())
        partition = partition_of(public(MERCHANT, verdict.merchant_id), self._partitions)
        return outcomes_stream(partition), sign(raw, verdict.publisher, key.secret)
