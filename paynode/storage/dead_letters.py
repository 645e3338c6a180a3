"""Dead letters: shown to operators, resolved by them, and compared with the dead-letter streams."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

import asyncpg
import orjson

from paynode.domain.dead_letters import (
    AuditLine,
    LetterFilter,
    LetterInFull,
    LetterStatus,
    LetterView,
    Resolution,
    Resolving,
)
from paynode.domain.message import DeadLetter, Unreadable
from paynode.storage.postgres import Pool, borrowed
from paynode.storage.queries import load

_SQL: Final = load("dead_letters")
_VERBS: Final = {Resolving.REQUEUE: _SQL["requeue_letter"], Resolving.DISCARD: _SQL["discard_letter"]}


class PgLetters:
    """Shows letters, as the reader's role. Every method raises Unavailable when the server is away."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def index(self, asked: LetterFilter, *, before_id: str | None, limit: int) -> Sequence[LetterView]:
        """At most `limit` letters, newest first, older than `before_id`."""
        async with borrowed(self._pool) as connection:
            rows = await connection.fetch(
                _SQL["list_letters"],
                asked.status,
                asked.reason,
                asked.merchant_id,
                asked.stream,
                asked.since,
                asked.until,
                before_id,
                limit,
            )
        return [_view(row) for row in rows]

    async def find(self, letter_id: str) -> LetterInFull | None:
        """One letter with everything about it."""
        async with borrowed(self._pool) as connection:
            row = await connection.fetchrow(_SQL["select_letter"], letter_id)
            if row is None:
                return None
            lines = await connection.fetch(_SQL["list_letter_audit"], letter_id)
        return LetterInFull(
            letter=_view(row),
            fields=_fields(row["fields"]),
            message=None if row["message"] is None else orjson.loads(row["message"]),
            parked=row["parked"],
            audit=[
                AuditLine(
                    at=line["at"],
                    actor=line["actor"],
                    action=line["action"],
                    note=line["note"],
                    detail=orjson.loads(line["detail"]),
                )
                for line in lines
            ],
        )


class PgResolving:
    """The operator's two verbs, as the gateway's role. Raises Unavailable, Conflict."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def resolve(self, verb: Resolving, letter_id: str, *, actor: str, note: str) -> Resolution:
        """Requeue or discard, with the audit row in the same transaction; says what came of it."""
        async with borrowed(self._pool) as connection:
            return Resolution(await connection.fetchval(_VERBS[verb], letter_id, actor, note))


class PgGraves:
    """What is to stand on the dead-letter streams, and the housekeeping around it, as the gateway's role.

    Every method raises Unavailable when the server is away.
    """

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def open_letters(self) -> Mapping[str, str]:
        """The ids of all letters that wait for an operator, each with the stream that it came from."""
        async with borrowed(self._pool) as connection:
            rows = await connection.fetch(_SQL["list_open_letters"])
        return {row["id"]: row["stream"] for row in rows}

    async def letters(self, ids: Sequence[str]) -> Sequence[DeadLetter]:
        """Those of them that still wait, oldest first."""
        async with borrowed(self._pool) as connection:
            rows = await connection.fetch(_SQL["read_letters"], ids)
        return [_letter(row) for row in rows]

    async def release_stranded(self) -> int:
        """Put back on the road what waits behind a letter that is resolved already; how many rows."""
        async with borrowed(self._pool) as connection:
            return int(await connection.fetchval(_SQL["release_stranded"]))

    async def forget_suspects(self, kept_s: float) -> int:
        """Forget suspects that nobody has tried for so long; how many."""
        async with borrowed(self._pool) as connection:
            tag = await connection.execute(_SQL["forget_suspects"], kept_s)
        return int(tag.rpartition(" ")[2])


def _view(row: asyncpg.Record) -> LetterView:
    return LetterView(
        id=row["id"],
        status=LetterStatus(row["status"]),
        stream=row["stream"],
        entry_id=row["entry_id"],
        row_id=row["row_id"],
        event_id=row["event_id"],
        type=row["type"],
        merchant_id=row["merchant_id"],
        payment_id=row["payment_id"],
        reason=row["reason"],
        error=row["error"],
        attempts=row["attempts"],
        first_failed_at=row["first_failed_at"],
        resolved_at=row["resolved_at"],
        resolved_by=row["resolved_by"],
        can_requeue=row["can_requeue"],
    )


def _letter(row: asyncpg.Record) -> DeadLetter:
    return DeadLetter(
        id=row["id"],
        stream=row["stream"],
        entry_id=row["entry_id"],
        what=Unreadable(ref=row["row_id"], reason=row["reason"], detail=row["error"], fields=_fields(row["fields"])),
        attempts=row["attempts"],
        first_failed_at_ms=row["first_failed_at_ms"],
    )


def _fields(raw: str) -> Mapping[str, str]:
    """The original fields. A value that is no text, which nothing of ours writes, is shown as JSON."""
    return {
        name: value if isinstance(value, str) else orjson.dumps(value).decode()
        for name, value in orjson.loads(raw).items()
    }
