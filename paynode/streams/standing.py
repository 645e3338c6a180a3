"""What the streams hold, counted for metrics and for people."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from redis.exceptions import ResponseError

from paynode.domain.census import OnRoad
from paynode.streams.client import Redis, translated


class RedisStanding:
    """Counts; changes nothing."""

    def __init__(self, client: Redis) -> None:
        self._client = client

    async def look(self, groups: Mapping[str, str]) -> Mapping[str, OnRoad]:
        """Of each stream, which has this group, what it holds; one that is not there holds nothing. One round trip.

        Raises: Unavailable.
        """
        with translated():
            async with self._client.pipeline(transaction=False) as pipeline:
                for stream, group in groups.items():
                    pipeline.xlen(stream)
                    pipeline.xpending(stream, group)
                answers: Any = await pipeline.execute(raise_on_error=False)
            return {
                stream: OnRoad(entries=_number(entries), pending=_pending(summary))
                for stream, entries, summary in zip(groups, answers[::2], answers[1::2], strict=True)
            }


def _number(answer: object) -> int:
    if isinstance(answer, Exception):
        raise answer
    assert isinstance(answer, int)
    return answer


def _pending(answer: Any) -> int:
    if isinstance(answer, ResponseError) and str(answer).startswith("NOGROUP"):
        return 0  # nobody has read it yet
    if isinstance(answer, Exception):
        raise answer
    return int(answer["pending"])
