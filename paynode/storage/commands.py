"""Commands as rows: read at their turn, and kept aside when nothing can be done with them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

import asyncpg
import orjson

from paynode.domain.attempts import GatewayCommand, Suspect
from paynode.domain.deciding import CommandKind
from paynode.domain.errors import Poison
from paynode.domain.message import DeadLetter, Unreadable
from paynode.domain.road import commands_stream, lanes
from paynode.storage.bodies import decode_order
from paynode.storage.postgres import Pool, borrowed, confirm
from paynode.storage.queries import load

_SQL: Final = load("commands")


class PgCommands:
    """The rows of the PSPs' streams. Every method raises Unavailable when the server is away."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def read(self, stream: str, refs: Sequence[str]) -> Mapping[str, GatewayCommand | Unreadable]:
        """What the pointers on a stream lead to, by outbox id; one that is missing has been processed."""
        async with borrowed(self._pool) as connection:
            rows = await connection.fetch(_SQL["find_commands"], refs, stream)
            if len(rows) < len(refs):
                await confirm(connection)  # an entry whose row is gone is acknowledged
        return {row["id"]: _command(row, stream) for row in rows}

    async def postpone(self, ref: str, pause_s: float) -> None:
        """A command that is to be begun later: the relay publishes it again. One that is gone has ended."""
        async with borrowed(self._pool) as connection:
            await connection.execute(_SQL["postpone_command"], ref, pause_s)

    async def bury(self, letters: Sequence[DeadLetter]) -> frozenset[str]:
        """Make dead letters of rows; the ids of those that were still there, which the others' processing was not."""
        async with borrowed(self._pool) as connection:
            rows = await connection.fetch(
                _SQL["bury_commands"], orjson.dumps([_letter(letter) for letter in letters]).decode()
            )
        return frozenset(row["id"] for row in rows)

    async def count(self, stream: str, ref: str) -> Suspect:
        """One more try of a command over which somebody may have died: counted when this returns."""
        async with borrowed(self._pool) as connection:
            row = await connection.fetchrow(_SQL["count_suspect"], stream, ref)
        assert row is not None, "it inserts or it updates"
        return Suspect(attempts=row["attempts"], first_failed_at_ms=row["first_failed_at_ms"])

    async def clear(self, stream: str, ref: str) -> None:
        """The try is over, and we live."""
        async with borrowed(self._pool) as connection:
            await connection.execute(_SQL["clear_suspect"], stream, ref)


def _command(row: asyncpg.Record, stream: str) -> GatewayCommand | Unreadable:
    try:
        kind = CommandKind(row["type"])
    except ValueError:
        return _unreadable(row, "type_unknown", row["type"])
    try:
        order = decode_order(row["body"])
    except Poison as poison:
        return _unreadable(row, poison.reason, poison.detail)
    if stream not in lanes(commands_stream(order.psp)):
        return _unreadable(row, "wrong_psp", "the order is for another PSP than the stream")
    return GatewayCommand(ref=row["id"], kind=kind, order=order, tries=row["tries"])


def _unreadable(row: asyncpg.Record, reason: str, detail: str) -> Unreadable:
    return Unreadable(
        ref=row["id"],
        reason=reason,
        detail=detail,
        fields={"ref": row["id"]},
        event_id=row["id"],
        type=row["type"],
        merchant_id=row["merchant_id"],
        payment_id=row["payment_id"],
    )


def _letter(letter: DeadLetter) -> dict[str, object]:
    return {
        "id": letter.id,
        "ref": letter.what.ref,
        "entry_id": letter.entry_id,
        "reason": letter.what.reason,
        "error": letter.what.detail,
        "attempts": letter.attempts,
        "fields": dict(letter.what.fields),
        "first_failed_at_ms": letter.first_failed_at_ms,
    }
