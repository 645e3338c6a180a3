"""The dead-letter streams: what is watched. What lasts is the table."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final

from redis.exceptions import ResponseError

from paynode.domain.dead_letters import Grave
from paynode.domain.message import DeadLetter
from paynode.domain.road import dead_stream
from paynode.streams.client import Redis, translated

# Entries of one XRANGE: a letter may weigh 64 KiB.
_PAGE: Final = 100

_UUID: Final = re.compile(rb"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")


class RedisGraves:
    """Every method raises Unavailable."""

    def __init__(self, client: Redis) -> None:
        self._client = client

    async def marks(self, streams: Sequence[str]) -> dict[str, str]:
        """A mark for each dead-letter stream that has entries; it is another one after every change."""
        with translated():
            async with self._client.pipeline(transaction=False) as pipeline:
                for stream in streams:
                    pipeline.xinfo_stream(stream)
                answers: Any = await pipeline.execute(raise_on_error=False)
            return {stream: mark for stream, answer in zip(streams, answers, strict=True) if (mark := _mark(answer))}

    async def graves(self, stream: str) -> Sequence[Grave]:
        """All entries of a dead-letter stream, each with the letter that it shows."""
        found: list[Grave] = []
        after = "-"
        while True:
            with translated():
                raw: Any = await self._client.xrange(stream, min=after, count=_PAGE)
            for number, fields in raw:
                found.append(Grave(entry_id=number.decode(), letter=_letter(fields)))
            if len(raw) < _PAGE:
                return found
            after = f"({found[-1].entry_id}"

    async def bury(self, letters: Sequence[DeadLetter]) -> None:
        """Show letters on their dead-letter streams."""
        if not letters:
            return
        with translated():
            async with self._client.pipeline(transaction=False) as pipeline:
                for letter in letters:
                    fields: Any = fields_of(letter)
                    pipeline.xadd(dead_stream(letter.stream), fields)
                await pipeline.execute()

    async def remove(self, stream: str, entry_ids: Sequence[str]) -> None:
        """Show these entries no more."""
        for start in range(0, len(entry_ids), _PAGE):
            with translated():
                await self._client.xdel(stream, *entry_ids[start : start + _PAGE])


def fields_of(letter: DeadLetter) -> dict[str, str]:
    """A dead letter as an entry: the original fields and what is known of it. Ours win over a stranger's of their
    names: nobody may say of himself which letter he is."""
    what = letter.what
    first_failed_at = datetime.fromtimestamp(letter.first_failed_at_ms / 1000, UTC)
    return {
        **what.fields,
        "letter": letter.id,
        "reason": what.reason,
        "error": what.detail,
        "attempts": str(letter.attempts),
        "first_failed_at": first_failed_at.isoformat(timespec="milliseconds").removesuffix("+00:00") + "Z",
        "stream": letter.stream,
        "entry_id": letter.entry_id,
    }


def _letter(fields: Mapping[bytes, bytes]) -> str | None:
    """Which letter an entry shows. What anybody may have put here is asked of a database: a UUID or nothing."""
    shown = fields.get(b"letter", b"")
    return shown.decode() if _UUID.fullmatch(shown) else None


def _mark(answer: Any) -> str:
    """Every addition moves the last id, every removal the length. Empty for a stream without entries."""
    if isinstance(answer, ResponseError) and str(answer) == "no such key":
        return ""
    if isinstance(answer, Exception):
        raise answer
    return f"{answer['length']} {answer['last-generated-id'].decode()}" if answer["length"] else ""
