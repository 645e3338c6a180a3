"""Entries as they are read from a stream, and reading them as a member of a group."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from redis.exceptions import ResponseError

from paynode.domain.road import Entry
from paynode.streams.client import Redis, translated

EntryId = tuple[int, int]


def entry_id(text: str) -> EntryId:
    """`1700000000000-3` as numbers that compare as Redis compares them."""
    milliseconds, _, number = text.partition("-")
    return int(milliseconds), int(number)


def entries(raw: Iterable[tuple[bytes, Mapping[bytes, bytes] | None]], name: Callable[[str], str] = str) -> list[Entry]:
    """Entries with their fields as text, called as `name` says. One that was trimmed away while pending has no fields
    any more.
    """
    return [
        Entry(
            id=name(number.decode()),
            fields={_text(field): _text(value) for field, value in fields.items()} if fields else {},
        )
        for number, fields in raw
    ]


def _text(raw: bytes) -> str:
    """What stands there, as text that a database takes: dead letters keep it, whatever somebody has put there."""
    text = raw.decode("utf-8", "replace")
    return text.replace("\0", "\ufffd") if "\0" in text else text


@dataclass(frozen=True, slots=True)
class Member:
    """One consumer of a group on a stream."""

    stream: str
    group: str
    consumer: str

    async def read(
        self, client: Redis, *, after: str, count: int, block_ms: int | None, name: Callable[[str], str] = str
    ) -> list[Entry]:
        """Entries of this consumer's own pending list after an id, or new ones after `>`.

        Raises: GroupMissing, Unavailable.
        """
        with translated():
            # The client's own types cover three protocols at once; ours is 2, a list of (stream, entries).
            answer: Any = await client.xreadgroup(
                self.group, self.consumer, {self.stream: after}, count=count, block=block_ms
            )
        return entries(answer[0][1], name) if answer else []

    async def count_pending(self, client: Redis) -> int:
        """How many entries are delivered to the whole group and not acknowledged.

        Raises: GroupMissing, Unavailable.
        """
        with translated():
            summary: Any = await client.xpending(self.stream, self.group)
        return int(summary["pending"])

    async def last_delivered(self, client: Redis) -> EntryId:
        """How far the group has read; nowhere when it is not there."""
        with translated():
            try:
                groups: Any = await client.xinfo_groups(self.stream)
            except ResponseError as error:
                if str(error) != "no such key":
                    raise
                groups = ()
        found = [group["last-delivered-id"] for group in groups if group["name"] == self.group.encode()]
        return entry_id(found[0].decode()) if found else (0, 0)

    async def make_group(self, client: Redis) -> bool:
        """Make the stream and the group, from the stream's beginning: at `$` what came before would be skipped.

        Says whether there was none.
        """
        with translated():
            try:
                await client.xgroup_create(self.stream, self.group, id="0", mkstream=True)
            except ResponseError as error:
                if not str(error).startswith("BUSYGROUP"):
                    raise
                return False
        return True
