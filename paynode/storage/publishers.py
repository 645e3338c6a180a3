"""Publishers and their keys: made and revoked by the owner, looked up by whoever verifies what they say."""

from __future__ import annotations

import json
import secrets
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final

import anyio

from paynode.domain.publishing import OutsideType, PublisherKey
from paynode.storage.postgres import Connection, Pool, borrowed, translated
from paynode.storage.queries import load

_QUERIES: Final = load("publishers")

_SECRET_BYTES: Final = 32  # as long as the hash that it keys: more would add nothing
# Seconds a look at the table is good for. A revoked key stops within 5: this, and the time the next look takes.
_FRESH_S: Final = 4.0
# A name that is not in the last look is looked for at once, so that a new key works at once; but only so many times in
# a row and so often afterwards, or whoever makes names up could keep the database busy. Then the last look decides.
_LOOKS_MAX: Final = 20
_LOOKS_PER_S: Final = 10.0


class PublisherExists(Exception):
    """The name is, or was, a publisher's."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Created:
    """A new publisher; its secret is shown to its owner once."""

    name: str
    secret: bytes = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Publisher:
    """A publisher as the operator sees it."""

    name: str
    types: tuple[str, ...]
    created_at: datetime
    revoked_at: datetime | None


async def create(
    connection: Connection, name: str, *, types: Sequence[OutsideType], actor: str, note: str = ""
) -> Created:
    """A new publisher with a key that may say events of these types.

    Raises: PublisherExists, also for the name of a revoked one; Unavailable.
    """
    created = Created(name=name, secret=secrets.token_bytes(_SECRET_BYTES))
    words = sorted(set(types))
    with translated():
        async with connection.transaction():
            if await connection.fetchval(_QUERIES["insert_publisher"], name, created.secret, words) is None:
                raise PublisherExists(f"there is, or was, a publisher {name}: choose another name")
            await _record(connection, actor, "publisher.create", name, note, {"types": words})
    return created


async def revoke(connection: Connection, name: str, *, actor: str, note: str = "") -> datetime | None:
    """End a publisher's key: since when it is ended, also when that was before; None for an unknown name."""
    with translated():
        async with connection.transaction():
            row = await connection.fetchrow(_QUERIES["revoke_publisher"], name)
            if row is None:
                return None
            if row["is_news"]:
                await _record(connection, actor, "publisher.revoke", name, note, {})
    revoked_at: datetime = row["revoked_at"]
    return revoked_at


async def _record(
    connection: Connection, actor: str, action: str, subject: str, note: str, detail: Mapping[str, object]
) -> None:
    await connection.execute(_QUERIES["record_publisher_act"], actor, action, subject, note, json.dumps(detail))


async def list_all(connection: Connection) -> tuple[Publisher, ...]:
    """All publishers that there have ever been, the eldest first."""
    with translated():
        rows = await connection.fetch(_QUERIES["list_publishers"])
    return tuple(
        Publisher(
            name=row["name"],
            types=tuple(row["types"]),
            created_at=row["created_at"],
            revoked_at=row["revoked_at"],
        )
        for row in rows
    )


async def keys(connection: Connection) -> Mapping[str, PublisherKey]:
    """The keys that work, by the publishers' names."""
    with translated():
        rows = await connection.fetch(_QUERIES["find_publisher_keys"])
    known = frozenset(OutsideType)
    return {
        row["name"]: PublisherKey(
            secret=row["secret"],
            # A type that this version does not know, of a newer one on the same database, allows nothing here.
            types=frozenset(OutsideType(word) for word in row["types"] if word in known),
        )
        for row in rows
    }


@dataclass(frozen=True, slots=True)
class _Look:
    """What stood in the table; `began_at` is by the monotonic clock, from before it was asked. Looks are numbered."""

    number: int
    began_at: float
    found: Mapping[str, PublisherKey]


class PgPublishers:
    """The keys, as the committer's role reads them; remembered for some seconds. An old look never answers: while the
    database is away nobody is believed, because nobody knows whose key was revoked.
    """

    def __init__(self, pool: Pool, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._pool = pool
        self._clock = clock
        self._look = _Look(0, float("-inf"), {})
        self._lock = anyio.Lock()
        self._begun = 0
        self._looks_left: float = _LOOKS_MAX
        self._counted_at = clock()

    async def key_of(self, publisher: str) -> PublisherKey | None:
        """The key of a publisher; None for one that is unknown or revoked.

        Raises: Unavailable.
        """
        now = self._clock()
        is_old = now - self._look.began_at >= _FRESH_S
        if is_old or (publisher not in self._look.found and self._may_look(now)):
            await self._look_again()
        return self._look.found.get(publisher)

    def _may_look(self, now: float) -> bool:
        self._looks_left = min(_LOOKS_MAX, self._looks_left + (now - self._counted_at) * _LOOKS_PER_S)
        self._counted_at = now
        if self._looks_left < 1:
            return False
        self._looks_left -= 1
        return True

    async def _look_again(self) -> None:
        before = self._begun
        async with self._lock:
            if self._look.number > before:
                return  # somebody has looked while we waited
            self._begun += 1
            number, began_at = self._begun, self._clock()
            async with borrowed(self._pool) as connection:
                self._look = _Look(number, began_at, await keys(connection))
