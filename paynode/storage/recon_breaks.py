"""Differences as people see them, and what they decide about them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import asyncpg
import orjson

from paynode.domain.breaks import (
    BreakFilter,
    BreakInFull,
    BreakState,
    BreakTotal,
    BreakView,
    Decision,
    ProposedPosting,
    RunView,
)
from paynode.domain.dead_letters import AuditLine
from paynode.domain.ids import HOUSE, MERCHANT, public
from paynode.domain.partition import partition_of
from paynode.domain.reconciling import Area, Past
from paynode.domain.road import events_stream
from paynode.storage.postgres import Pool, borrowed
from paynode.storage.queries import load

_SQL: Final = load("recon_breaks")


class PgBreaks:
    """Looks as the reader's role. All of it raises Unavailable."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def index(self, asked: BreakFilter, *, limit: int) -> Sequence[BreakView]:
        """Those that are meant: most money first."""
        states = None if asked.states is None else list(asked.states)
        async with borrowed(self._pool) as connection:
            rows = await connection.fetch(_SQL["list_breaks"], states, asked.kind, asked.psp, asked.merchant_id, limit)
        return [_view(row) for row in rows]

    async def find(self, break_id: str) -> BreakInFull | None:
        """One of them, with what was done about it."""
        async with borrowed(self._pool) as connection:
            row = await connection.fetchrow(_SQL["select_break"], break_id)
            audit = await connection.fetch(_SQL["list_audit"], break_id)
        if row is None:
            return None
        lines = [AuditLine(**{**line, "detail": orjson.loads(line["detail"])}) for line in audit]
        return BreakInFull(view=_view(row), first_run=row["first_run"], last_run=row["last_run"], audit=lines)

    async def totals(self) -> Sequence[BreakTotal]:
        """What is not over, by kind and currency."""
        async with borrowed(self._pool) as connection:
            return [BreakTotal(**row) for row in await connection.fetch(_SQL["sum_open"])]

    async def last_runs(self) -> Sequence[RunView]:
        """The last run of each kind."""
        async with borrowed(self._pool) as connection:
            return [_run(row) for row in await connection.fetch(_SQL["list_last_runs"])]

    async def past(self, area: Area, psp: str | None, *, is_full: bool) -> Past | None:
        """Where the last run of a kind ended."""
        async with borrowed(self._pool) as connection:
            row = await connection.fetchrow(_SQL["find_last_run"], area, psp, is_full)
        return None if row is None else Past(until_ms=row["until_ms"] or 0, age_s=row["age_s"])


class PgDecisions:
    """Two operators' words, as the gateway's role. Raises Unavailable, Conflict."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def propose(self, break_id: str, posting: ProposedPosting | None, *, actor: str, note: str) -> Decision:
        """Say what should be done: a posting, or None to leave it as it is."""
        proposal: dict[str, object] = {}
        if posting is not None:
            proposal = {"debit": posting.debit, "credit": posting.credit, "amount": posting.amount}
        async with borrowed(self._pool) as connection:
            said = orjson.dumps(proposal).decode()
            return Decision(await connection.fetchval(_SQL["propose_repair"], break_id, said, actor, note))

    async def approve(
        self, break_id: str, merchant_id: str | None, *, event_id: str, partitions: int, actor: str, note: str
    ) -> Decision:
        """Agree to what somebody else has proposed; `merchant_id`: the break's."""
        stream = events_stream(partition_of(public(MERCHANT, merchant_id or HOUSE), partitions))
        async with borrowed(self._pool) as connection:
            said = await connection.fetchval(_SQL["approve_repair"], break_id, event_id, stream, HOUSE, actor, note)
        return Decision(said)


def _view(row: asyncpg.Record) -> BreakView:
    members = {name: row[name] for name in BreakView.__dataclass_fields__}
    read = {name: orjson.loads(row[name]) for name in ("evidence", "repair")}
    return BreakView(**{**members, **read, "state": BreakState(row["state"])})


def _run(row: asyncpg.Record) -> RunView:
    outcome = orjson.loads(row["outcome"])
    return RunView(
        id=row["id"],
        area=row["area"],
        psp=row["psp"],
        is_full=row["is_full"],
        inputs=orjson.loads(row["inputs"]),
        found=outcome["found"],
        drift=outcome["drift"],
        digest=outcome["sha256"],
        checked=row["checked"],
        repairs=row["repairs"],
        rounds=row["rounds"],
        ended_at=row["ended_at"],
    )
