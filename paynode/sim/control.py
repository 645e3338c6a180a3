"""What the judge shows and takes: the book, the settlement report, fault rates, reversals. No key: loopback only."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Annotated, Final

import orjson
from aiohttp import web
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from paynode.sim.acquirer import Acquirer
from paynode.sim.door import Door
from paynode.sim.faults import FaultRates, Faults
from paynode.sim.journal import Journal
from paynode.sim.records import CHARGES, ms_of
from paynode.sim.refusals import Refusal, what_is_wrong
from paynode.sim.report import Report, totals_of
from paynode.sim.traffic import TRAFFIC

_CURSOR: Final = re.compile(r"([0-9]{1,15})\.([0-9]{1,15})")
_LIMIT_MAX: Final = 1000


class _Reversal(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    reference: Annotated[str, Field(min_length=1, max_length=64)]


class Control:
    def __init__(self, *, acquirer: Acquirer, book: Journal, report: Report, faults: Faults, door: Door) -> None:
        self._acquirer = acquirer
        self._book = book
        self._report = report
        self._faults = faults
        self._door = door

    def routes(self) -> list[web.RouteDef]:
        return [
            web.get("/healthz", self.health),
            web.get("/book", self.show_book),
            web.get("/settlement", self.show_settlement),
            web.get("/faults", self.show_faults),
            web.post("/faults", self.set_faults),
            web.post("/reverse", self.reverse),
        ]

    async def health(self, request: web.Request) -> web.Response:
        charges = sum(entry.kind in CHARGES for entry in self._acquirer.memory.entries)
        return web.json_response({"status": "ok", "charges": charges})

    async def show_book(self, request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "application/x-ndjson"})
        await response.prepare(request)
        async for chunk in self._book.chunks():
            await response.write(chunk)
        return response

    async def show_settlement(self, request: web.Request) -> web.Response:
        """The lines of `from <= at < to` with totals; with `limit` a page of them, without."""
        from_ms, to_ms = _instant(request, "from"), _instant(request, "to")
        content: dict[str, object] = {"from": request.query["from"], "to": request.query["to"]}
        if "limit" not in request.query:
            lines = self._report.between(from_ms, to_ms)
            content |= {"data": [line.content() for line in lines], "totals": totals_of(lines)}
            return _json(content)
        after, limit = _cursor(request), _limit(request)
        lines, has_more = self._report.page(from_ms, to_ms, after=after, limit=limit)
        next_cursor = lines[-1].cursor if has_more else None
        return _json(content | {"data": [line.content() for line in lines], "next_cursor": next_cursor})

    async def show_faults(self, request: web.Request) -> web.Response:
        rates = self._faults.rates.model_dump(exclude_defaults=True)
        calls = request.app[TRAFFIC].calls
        return _json({"faults": rates, "bitten": dict(self._faults.bitten), "calls": calls})

    async def set_faults(self, request: web.Request) -> web.StreamResponse:
        try:
            rates = FaultRates.model_validate_json(await request.read())
        except ValidationError as error:
            raise Refusal(400, "faults_invalid", what_is_wrong(error)) from error
        self._faults.set(rates)
        response = await self.show_faults(request)
        if rates.refuse_ms:
            response.force_close()
            await response.prepare(request)
            await response.write_eof()  # whoever shuts the door is told so first
            self._faults.bitten["refuse_ms"] += 1
            await self._door.shut_for(rates.refuse_ms / 1000, but=request.transport)
        return response

    async def reverse(self, request: web.Request) -> web.Response:
        """Take back what was approved under a reference of the caller's: of a sale, a capture or a refund."""
        try:
            reference = _Reversal.model_validate_json(await request.read()).reference
        except ValidationError as error:
            raise Refusal(400, "body_invalid", what_is_wrong(error)) from error
        change = await self._acquirer.reverse(reference)
        return _json(self._acquirer.memory.told(change))


def _instant(request: web.Request, name: str) -> int:
    try:
        at = datetime.fromisoformat(request.query[name])
    except (KeyError, ValueError) as error:
        raise Refusal(400, "instant_invalid", f"say ?{name}= as an ISO 8601 instant") from error
    return ms_of(at if at.tzinfo else at.replace(tzinfo=UTC))


def _limit(request: web.Request) -> int:
    text = request.query["limit"]
    if not re.fullmatch(r"[0-9]{1,4}", text) or not 1 <= int(text) <= _LIMIT_MAX:
        raise Refusal(400, "limit_invalid", f"say ?limit= as a number from 1 to {_LIMIT_MAX}")
    return int(text)


def _cursor(request: web.Request) -> tuple[int, int] | None:
    if "cursor" not in request.query:
        return None
    parts = _CURSOR.fullmatch(request.query["cursor"])
    if parts is None:
        raise Refusal(400, "cursor_invalid", "say ?cursor= as the answer before said it")
    return int(parts[1]), int(parts[2])


def _json(content: dict[str, object]) -> web.Response:
    return web.Response(body=orjson.dumps(content), content_type="application/json")
