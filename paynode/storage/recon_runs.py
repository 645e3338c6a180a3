"""Runs and what they find, written down as they go."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

import orjson

from paynode.domain.reconciling import Area, Difference, Evidence, Noted, Tally
from paynode.storage.postgres import Pool, borrowed
from paynode.storage.queries import load

_SQL: Final = load("recon_runs")


class PgRegister:
    """Writes as the gateway's role. All of it raises Unavailable, Conflict."""

    def __init__(self, pool: Pool, *, new_id: Callable[[], str]) -> None:
        self._pool = pool
        self._new_id = new_id

    async def begin(self, run_id: str, area: Area, psp: str | None, inputs: Evidence, *, is_full: bool) -> None:
        """A run begins."""
        async with borrowed(self._pool) as connection:
            await connection.execute(_SQL["begin_run"], run_id, area, psp, is_full, orjson.dumps(inputs).decode())

    async def note(self, run_id: str, found: Sequence[Difference]) -> Sequence[Noted]:
        """Keep differences; of those that people have decided about nothing comes back."""
        rows = [self._row(one) for one in found]
        async with borrowed(self._pool) as connection:
            kept = await connection.fetch(_SQL["note_breaks"], run_id, orjson.dumps(rows).decode())
        known = {(row["kind"], row["subject"]): row for row in kept}
        pairs = ((one, known.get((one.kind.value, one.subject))) for one in found)
        return [
            Noted(id=row["id"], difference=one, is_open=row["state"] == "open") for one, row in pairs if row is not None
        ]

    async def end(self, run_id: str, inputs: Evidence, tally: Tally) -> None:
        """The run has looked at everything."""
        outcome = {"found": tally.found, "drift": tally.drift, "sha256": tally.digest}
        made_from, result = orjson.dumps(inputs).decode(), orjson.dumps(outcome).decode()
        async with borrowed(self._pool) as connection:
            await connection.execute(_SQL["end_run"], run_id, made_from, result, tally.checked, tally.repairs)

    def _row(self, one: Difference) -> dict[str, object]:
        return {
            "id": self._new_id(),
            "kind": one.kind,
            "subject": one.subject,
            "merchant_id": one.merchant_id,
            "payment_id": one.payment_id,
            "operation_id": one.operation_id,
            "psp": one.psp,
            "reference": one.reference,
            "currency": one.currency,
            "expected": one.expected,
            "found": one.found,
            "size": one.size,
            "evidence": one.evidence,
            "at_ms": one.at_ms,
            "is_repairing": one.is_repairing,
        }
