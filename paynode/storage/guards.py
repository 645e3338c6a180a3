"""The guards of PSPs: as operators see and command them, and the leases on probing."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import asyncpg
import orjson

from paynode.domain.guarding import CALL_KINDS, BreakerAction, BreakerVitals
from paynode.domain.guards_overview import GuardsOverview, GuardState, StandingOrder
from paynode.storage.postgres import Connection, Pool, borrowed, translated
from paynode.storage.queries import load

_SQL: Final = load("guards")


async def look(connection: Connection, psps: Sequence[str]) -> GuardsOverview:
    """How the guards of these PSPs stand, and what was said of them. Raises: Unavailable."""
    with translated():
        guards = await connection.fetch(_SQL["list_guards"], psps)
        orders = await connection.fetch(_SQL["list_breaker_orders"], psps)
    return GuardsOverview(
        psps=psps,
        guards=[_guard(row) for row in guards],
        orders=[
            StandingOrder(
                psp=row["psp"],
                operation=row["operation"],
                action=BreakerAction(row["action"]),
                by=row["ordered_by"],
                at=row["ordered_at"],
            )
            for row in orders
        ],
    )


async def order(
    connection: Connection,
    psps: Sequence[str],
    operations: Sequence[str],
    action: BreakerAction,
    *,
    actor: str,
    note: str,
) -> None:
    """Say it to every process that calls these PSPs, as the owner. Raises: Unavailable."""
    with translated():
        await connection.execute(_SQL["order_breakers"], psps, operations, action, actor, note)


class PgProbes:
    """The leases on probing one PSP, as the gateway's role. Every method raises Unavailable."""

    def __init__(self, pool: Pool, *, psp: str) -> None:
        self._pool = pool
        self._psp = psp

    async def take(self, operation: str, *, for_s: float) -> int | None:
        """The number of a lease of so many seconds; None while another may probe, or nobody."""
        async with borrowed(self._pool) as connection:
            number: int | None = await connection.fetchval(_SQL["take_probe"], self._psp, operation, for_s)
        return number

    async def end(self, operation: str, number: int, *, pause_s: float) -> None:
        """The lease of that number is over, and nobody may probe for so many seconds."""
        async with borrowed(self._pool) as connection:
            await connection.execute(_SQL["end_probe"], self._psp, operation, number, pause_s)


def _guard(row: asyncpg.Record) -> GuardState:
    # What a gateway wrote of itself, perhaps one of another version: what it does not say is not shown.
    told: dict[str, Any] = orjson.loads(row["vitals"])
    breakers: dict[str, Any] = told.get("breakers", {})
    # The column has them in an order of its own.
    operations = sorted(breakers, key=lambda kind: CALL_KINDS.index(kind) if kind in CALL_KINDS else len(CALL_KINDS))
    return GuardState(
        gateway=row["id"],
        psp=row["psp"],
        started_at=row["started_at"],
        silent_ms=row["silent_ms"],
        in_flight=row["in_flight"],
        waiting=told.get("waiting", 0),
        pace_per_s=told.get("pace_per_s"),
        retries_per_s=told.get("retries_per_s", 0.0),
        breakers={
            operation: BreakerVitals(
                state=one["state"], is_held=one["is_held"], calls=one["calls"], failures=one["failures"]
            )
            for operation in operations
            for one in (breakers[operation],)
        },
    )
