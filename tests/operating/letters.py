"""Dead letters and what waits behind them, as the committer would write them."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta

import orjson

from paynode.storage.postgres import Session
from tests.storage import rows
from tests.storage.rows import Row, new_id

EVENTS = "paynode:{p07}:events"
DEAD = "paynode:{p07}:dead"


def message(**changes: object) -> Mapping[str, object]:
    """An outbox row as a letter keeps it."""
    kept = {"id": new_id(), "stream": EVENTS, "type": "psp.evidence", "merchant_id": new_id(), "payment_id": new_id()}
    return {**kept, "operation_id": new_id(), "body": {"outcome": "declined"}, **changes}


async def die(connection: Session, row: Mapping[str, object] | None, **changes: object) -> str:
    """A dead letter of this outbox row, or of an entry that was none; its id."""
    letter: Row = {
        "id": new_id(),
        "stream": EVENTS,
        "entry_id": f"17000000000{new_id()[-6:]}-0",
        "row_id": row and row["id"],
        "event_id": row and row["id"],
        "type": row and row["type"],
        "merchant_id": row and row["merchant_id"],
        "payment_id": row and row["payment_id"],
        "reason": "evidence_malformed",
        "error": "the body has no outcome",
        "attempts": 1,
        "fields": orjson.dumps({"ref": row["id"]} if row else {"junk": "7"}).decode(),
        "message": row and orjson.dumps(row).decode(),
        **changes,
    }
    await rows.insert(connection, "dead_letters", letter)
    return str(letter["id"])


async def park(connection: Session, row: Mapping[str, object]) -> str:
    """A row that waits behind the letters of its payment; its id."""
    body = orjson.dumps(row["body"]).decode()
    parked: Row = {**row, "body": body, "created_at": datetime.now(UTC) - timedelta(minutes=5)}
    await rows.insert(connection, "parked", parked)
    return str(row["id"])


async def outbox(connection: Session) -> list[str]:
    """What is on the road, in the order in which it is published."""
    return [str(row["id"]) for row in await connection.fetch("SELECT id FROM outbox ORDER BY available_at")]


async def audit(connection: Session) -> list[tuple[str, str, str, str]]:
    """Who did what to which letter, and why."""
    found = await connection.fetch("SELECT actor, action, subject, note FROM audit_log ORDER BY id")
    return [(row["actor"], row["action"], row["subject"], row["note"]) for row in found]
