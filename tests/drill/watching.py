"""What was committed before the loss: the ledger as somebody outside read it, and how far into the WAL it reached."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final, TypeAlias

import anyio
import asyncpg

from paynode.config import Settings
from paynode.storage.postgres import Role, Session, session

# Seconds between two looks: so much younger may be what was committed and seen by nobody.
LOOK_S: Final = 0.25
# Seconds that a transaction may take from the stamp on its entries to its commit; a look reads so far back again.
_COMMIT_S: Final = 15.0

_READ: Final = """
SELECT id::text, line, type, amount, currency, encode(hash, 'hex') AS hash,
    extract(EPOCH FROM at)::float8 AS at
FROM ledger_entries
WHERE at > to_timestamp($1)
"""

Key: TypeAlias = tuple[str, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """A line of the ledger: `at` in seconds of the epoch; its commit stands in the WAL before `before_lsn`."""

    type: str
    amount: int
    currency: str
    hash: str
    at: float
    before_lsn: int = 0


@dataclass(slots=True)
class Watched:
    """Everything that was seen."""

    entries: dict[Key, Entry] = field(default_factory=dict)
    looks: int = 0

    async def follow(self, settings: Settings) -> None:
        """Look until cancelled."""
        async with session(settings, Role.OWNER, application_name="drill") as connection:
            while True:
                await self.look(connection)
                await anyio.sleep(LOOK_S)

    async def look(self, connection: Session) -> None:
        """The entries first and the place in the WAL after them, which is behind the commit of whatever was visible."""
        newest = max((entry.at for entry in self.entries.values()), default=0.0)
        rows = await connection.fetch(_READ, newest - _COMMIT_S)
        lsn = parse_lsn(await connection.fetchval("SELECT pg_current_wal_insert_lsn()::text"))
        for key, entry in _entries(rows, lsn).items():
            self.entries.setdefault(key, entry)
        self.looks += 1


async def read_ledger(settings: Settings) -> Mapping[Key, Entry]:
    """All that a ledger has."""
    async with session(settings, Role.OWNER, application_name="drill", statement_timeout_ms=0) as connection:
        return _entries(await connection.fetch(_READ, 0.0), 0)


def parse_lsn(text: str) -> int:
    """PostgreSQL's spelling of a place in the WAL, as a number of bytes."""
    high, low = text.split("/")
    return (int(high, 16) << 32) + int(low, 16)


def broken_promises(seen: Mapping[Key, Entry], found: Mapping[Key, Entry], archived_to: int) -> list[Key]:
    """Entries whose commit was in the archive, and that are not there any more, or not as they were."""
    return [
        key
        for key, entry in seen.items()
        if entry.before_lsn <= archived_to and (key not in found or found[key].hash != entry.hash)
    ]


def lost_entries(seen: Mapping[Key, Entry], found: Mapping[Key, Entry]) -> list[Entry]:
    """Entries that are not there any more, the oldest first."""
    return sorted((entry for key, entry in seen.items() if key not in found), key=lambda entry: entry.at)


def captured(entries: Iterable[Entry]) -> Mapping[str, int]:
    """What they say was captured, by currency, in minor units."""
    sums: Counter[str] = Counter()
    for entry in entries:
        if entry.type == "capture":
            sums[entry.currency] += entry.amount
    return dict(sums)


def _entries(rows: Iterable[asyncpg.Record], before_lsn: int) -> dict[Key, Entry]:
    found = {}
    for row in rows:
        fields = dict(row)
        key = str(fields.pop("id")), int(str(fields.pop("line")))
        found[key] = Entry(before_lsn=before_lsn, **fields)  # by name: the columns are the fields
    return found
