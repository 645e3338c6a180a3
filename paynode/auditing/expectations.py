"""What each merchant's ledger is held against, looked up while the ledger is read: on disk, whatever there is of it.

Anchors come by time and the ledger by merchant. A table in a temporary file turns the one into the other in constant
memory; nothing in it outlives the process.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from types import TracebackType
from typing import Final, Self

from paynode.domain.anchoring import Named
from paynode.domain.ledger import Head
from paynode.domain.verifying import Anchored, Expected

# Both tables are read by merchant. The same head in two anchors is said once, by the first.
_SCHEMA: Final = """
PRAGMA journal_mode = OFF;
PRAGMA synchronous = OFF;
CREATE TABLE ends (
    merchant TEXT PRIMARY KEY, opening_seq INTEGER, opening_hash BLOB, seq INTEGER, hash BLOB
) WITHOUT ROWID;
CREATE TABLE anchored (
    merchant TEXT, seq INTEGER, hash BLOB, anchor INTEGER, PRIMARY KEY (merchant, seq, hash)
) WITHOUT ROWID;
"""


class Expectations:
    """Openings, heads and anchored heads by merchant."""

    def __init__(self) -> None:
        self._directory = TemporaryDirectory(prefix="paynode-")
        self._table = sqlite3.connect(Path(self._directory.name) / "expected", isolation_level=None)
        self._table.executescript(_SCHEMA)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._table.close()
        self._directory.cleanup()

    def add_anchored(self, anchor: int, named: Iterable[Named]) -> None:
        """The heads that an anchor names."""
        self._fill(
            "INSERT OR IGNORE INTO anchored VALUES (?, ?, ?, ?)",
            ((merchant_id, head.seq, head.hash, anchor) for merchant_id, head in named),
        )

    def add_ends(self, ends: Iterable[tuple[str, Expected]]) -> None:
        """Openings and heads."""
        self._fill("INSERT OR REPLACE INTO ends VALUES (?, ?, ?, ?, ?)", map(_end, ends))

    def of(self, merchant_id: str) -> Expected:
        """All that is known of a merchant; of an unknown one that there should be nothing."""
        anchored = tuple(
            Anchored(head=Head(seq=seq, hash=digest), anchor=anchor)
            for seq, digest, anchor in self._table.execute(
                "SELECT seq, hash, anchor FROM anchored WHERE merchant = ? ORDER BY seq, anchor", [merchant_id]
            )
        )
        row = self._table.execute(
            "SELECT opening_seq, opening_hash, seq, hash FROM ends WHERE merchant = ?", [merchant_id]
        ).fetchone()
        if row is None:
            return Expected(anchored=anchored)
        opening_seq, opening_hash, seq, digest = row
        return Expected(
            opening=Head(seq=opening_seq, hash=opening_hash),
            head=None if seq is None else Head(seq=seq, hash=digest),
            anchored=anchored,
        )

    def merchants(self) -> Iterator[str]:
        """Everybody of whom anything is known, in their order."""
        for (merchant_id,) in self._table.execute(
            "SELECT merchant FROM ends UNION SELECT merchant FROM anchored ORDER BY 1"
        ):
            yield merchant_id

    def count_entries(self) -> int:
        """How many entries there should be, by the heads."""
        return self._sum("seq - opening_seq")

    def count_retired(self) -> int:
        """How many entries the openings stand for."""
        return self._sum("opening_seq")

    def _sum(self, what: str) -> int:
        (total,) = self._table.execute(f"SELECT coalesce(sum({what}), 0) FROM ends").fetchone()  # noqa: S608 - ours
        return int(total)

    def _fill(self, statement: str, rows: Iterable[tuple[object, ...]]) -> None:
        self._table.execute("BEGIN")
        self._table.executemany(statement, rows)
        self._table.execute("COMMIT")


def _end(one: tuple[str, Expected]) -> tuple[object, ...]:
    merchant_id, expected = one
    head = (None, None) if expected.head is None else (expected.head.seq, expected.head.hash)
    return (merchant_id, expected.opening.seq, expected.opening.hash, *head)
