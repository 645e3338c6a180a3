"""Hands to reach into the books, and an observer that remembers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import orjson

from paynode.app.parts import new_id
from paynode.domain.reconciling import Area, RunReport
from paynode.recon.register import Runs
from paynode.storage.postgres import Pool, Session
from paynode.storage.recon_runs import PgRegister


@dataclass
class Heard:
    """What an observer was told."""

    reports: list[RunReport] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)

    def reconciled(self, report: RunReport) -> None:
        self.reports.append(report)

    def reconciliation_failed(self, area: Area, error: Exception) -> None:
        self.failures.append(f"{area}: {error}")


def runs(writing: Pool, heard: Heard | None = None) -> Runs:
    return Runs(PgRegister(writing, new_id=new_id), heard or Heard(), new_id=new_id)


async def breaks(owner: Session, *states: str) -> list[dict[str, Any]]:
    """All breaks, or those in these states, in the order in which they were found."""
    rows = await owner.fetch(
        "SELECT * FROM reconciliation_breaks WHERE cardinality($1::text[]) = 0 OR state = ANY($1) ORDER BY id", states
    )
    return [dict(row) for row in rows]


async def kinds(owner: Session, *states: str) -> list[tuple[str, int, str]]:
    """Of all breaks kind, drift and state."""
    return [(one["kind"], one["drift"], one["state"]) for one in await breaks(owner, *states)]


async def outbox(owner: Session, *types: str) -> list[dict[str, Any]]:
    """What is on the road."""
    rows = await owner.fetch(
        "SELECT id::text, stream, type, merchant_id::text, payment_id::text, operation_id::text, body FROM outbox "
        "WHERE cardinality($1::text[]) = 0 OR type = ANY($1) ORDER BY created_at, id",
        types,
    )
    return [{**row, "body": orjson.loads(row["body"])} for row in rows]


async def run_rows(owner: Session) -> Sequence[dict[str, Any]]:
    """The runs that have ended, oldest first."""
    rows = await owner.fetch("SELECT * FROM reconciliation_runs WHERE ended_at IS NOT NULL ORDER BY ended_at")
    return [{**row, "inputs": orjson.loads(row["inputs"]), "outcome": orjson.loads(row["outcome"])} for row in rows]


async def tamper(owner: Session, statement: str, *arguments: object) -> None:
    """What only somebody with the owner's password and bad intentions could do."""
    for table in ("ledger_entries", "wallet_adjustments", "evidence", "settlement_lines"):
        await owner.execute(f"ALTER TABLE {table} DISABLE TRIGGER USER")
    await owner.execute(statement, *arguments)
