"""Lines of PSPs' reports beside what our books have of them."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Final

import asyncpg
import orjson

from paynode.domain.comparing import Booked, KeptLine, Known, Told, Unreported
from paynode.domain.ids import HOUSE
from paynode.domain.payment import OperationKind, OperationState
from paynode.domain.psp import SettlementKind, SettlementLine
from paynode.domain.reconciling import Sweep, Window
from paynode.storage.postgres import Pool, borrowed
from paynode.storage.queries import load

_SQL: Final = load("recon_settlement")

_UUID: Final = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.ASCII)
_BEFORE_ALL: Final = "00000000-0000-0000-0000-000000000000"


class PgReports:
    """Looks as the reader's role, in pages of `page_size`. All of it raises Unavailable."""

    def __init__(self, pool: Pool, *, page_size: int) -> None:
        self._pool = pool
        self._page_size = page_size

    async def told(self, psp: str, lines: Sequence[KeptLine]) -> Sequence[Told]:
        """What our books have of lines, in their order."""
        async with borrowed(self._pool) as connection:
            meant = [_uuid(one.line.our_reference) for one in lines]
            unnamed = {one.line.reference for one, ours in zip(lines, meant, strict=True) if ours is None}
            if unnamed:
                rows = await connection.fetch(_SQL["find_by_reference"], psp, list(unnamed))
                found = {row["psp_reference"]: row["operation_id"] for row in rows}
                meant = [ours or found.get(one.line.reference) for one, ours in zip(lines, meant, strict=True)]
            rows = await connection.fetch(_SQL["find_known"], psp, [one.id for one in lines], meant)
        by_line = {row["line_id"]: row for row in rows}
        return [_told(one, by_line[one.id]) for one in lines]

    async def unreported(self, psp: str, window: Window, after: str | None) -> Sweep[Unreported]:
        """What was booked within the window and is in no report."""
        since, until = _instant(window.since_ms), _instant(window.until_ms)
        entry, _, line = (after or f"{_BEFORE_ALL}/0").partition("/")
        return await self._sweep("list_unreported", psp, psp, since, until, entry, int(line), self._page_size)

    async def unreported_still(self, psp: str, window: Window, after: str | None) -> Sweep[Unreported]:
        """What was found missing before, outside of the window, and still is."""
        since, until = _instant(window.since_ms), _instant(window.until_ms)
        place = after or _BEFORE_ALL
        return await self._sweep("list_unreported_still", psp, psp, place, since, until, self._page_size)

    async def open_lines(self, psp: str, window: Window, after: str | None) -> Sequence[KeptLine]:
        """Lines outside of the window about which something was found that is not over."""
        since, until = _instant(window.since_ms), _instant(window.until_ms)
        async with borrowed(self._pool) as connection:
            rows = await connection.fetch(_SQL["list_open_lines"], psp, since, until, after or "", self._page_size)
        return [KeptLine(id=row["id"], psp=psp, line=_line(row)) for row in rows]

    async def _sweep(self, statement: str, psp: str, *arguments: object) -> Sweep[Unreported]:
        async with borrowed(self._pool) as connection:
            rows = await connection.fetch(_SQL[statement], *arguments)
        found = [_unreported(psp, row) for row in rows if row["is_missing"]]
        return Sweep(found=found, after=rows[-1]["place"] if rows else None)


class PgLineKeeping:
    """Writes as the gateway's role. Raises Unavailable, Conflict."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def keep(self, run_id: str, lines: Sequence[Told], streams: Mapping[str, str]) -> None:
        """Keep lines, and have those posted that are not. `streams`: by merchant; what is nobody's is the house's."""
        rows = [_row(told, streams) for told in lines]
        async with borrowed(self._pool) as connection:
            await connection.execute(_SQL["keep_lines"], run_id, orjson.dumps(rows).decode())


def _row(told: Told, streams: Mapping[str, str]) -> dict[str, object]:
    line, known = told.kept.line, told.known
    merchant_id = known.merchant_id if known else HOUSE
    return {
        "id": told.kept.id,
        "psp": told.kept.psp,
        "kind": line.kind,
        "reference": line.reference,
        "our_reference": line.our_reference,
        "amount": line.amount,
        "currency": line.currency,
        "at_ms": line.at_ms,
        "stream": streams[merchant_id],
        "merchant_id": merchant_id,
        "payment_id": known and known.payment_id,
        "operation_id": known and known.operation_id,
    }


def _told(one: KeptLine, row: asyncpg.Record) -> Told:
    return Told(
        kept=KeptLine(id=one.id, psp=one.psp, line=one.line, is_posted=row["is_posted"]),
        first_amount=row["first_amount"],
        first_currency=row["first_currency"],
        known=None if row["operation_id"] is None else _known(row),
    )


def _known(row: asyncpg.Record) -> Known:
    return Known(
        operation_id=row["operation_id"],
        payment_id=row["payment_id"],
        merchant_id=row["merchant_id"],
        kind=OperationKind(row["kind"]),
        state=OperationState(row["state"]),
        amount=row["amount"],
        currency=row["currency"],
        booked=tuple(Booked(**one) for one in orjson.loads(row["booked"])),
    )


def _unreported(psp: str, row: asyncpg.Record) -> Unreported:
    return Unreported(
        operation_id=row["operation_id"],
        payment_id=row["payment_id"],
        merchant_id=row["merchant_id"],
        psp=psp,
        at_ms=row["at_ms"],
        booked=Booked(type=row["type"], reference=row["reference"], amount=row["amount"], currency=row["currency"]),
    )


def _line(row: asyncpg.Record) -> SettlementLine:
    return SettlementLine(
        kind=SettlementKind(row["kind"]),
        reference=row["reference"],
        our_reference=row["our_reference"],
        amount=row["amount"],
        currency=row["currency"],
        at_ms=row["at_ms"],
    )


def _uuid(text: str | None) -> str | None:
    """Our references are operations' ids, as we write them; what else stands there is nobody's."""
    return text if text is not None and _UUID.fullmatch(text) else None


def _instant(ms: int) -> datetime:
    return datetime.fromtimestamp(ms / 1000, UTC)
