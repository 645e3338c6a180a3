"""What the judge shows and takes: the book, the settlement report, the fault rates. No key: loopback only."""

from __future__ import annotations

from collections import defaultdict
from datetime import UTC, datetime

import orjson
from aiohttp import web
from pydantic import ValidationError

from paynode.sim.acquirer import Acquirer
from paynode.sim.faults import FaultRates, Faults
from paynode.sim.journal import Journal
from paynode.sim.records import ms_of
from paynode.sim.refusals import Refusal, what_is_wrong


class Control:
    def __init__(self, *, acquirer: Acquirer, book: Journal, faults: Faults) -> None:
        self._acquirer = acquirer
        self._book = book
        self._faults = faults

    def routes(self) -> list[web.RouteDef]:
        return [
            web.get("/healthz", self.health),
            web.get("/book", self.show_book),
            web.get("/settlement", self.show_settlement),
            web.get("/faults", self.show_faults),
            web.post("/faults", self.set_faults),
        ]

    async def health(self, request: web.Request) -> web.Response:
        return web.json_response({"status": "ok", "charges": len(self._acquirer.charges)})

    async def show_book(self, request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "application/x-ndjson"})
        await response.prepare(request)
        async for chunk in self._book.chunks():
            await response.write(chunk)
        return response

    async def show_settlement(self, request: web.Request) -> web.Response:
        """The approved charges of `from <= at < to`, as a PSP reports them for a day."""
        from_ms, to_ms = _instant(request, "from"), _instant(request, "to")
        lines = [c for c in self._acquirer.charges if c.is_approved and from_ms <= c.created_ms < to_ms]
        totals: defaultdict[str, dict[str, int]] = defaultdict(lambda: {"count": 0, "amount": 0})
        for charge in lines:
            totals[charge.currency]["count"] += 1
            totals[charge.currency]["amount"] += charge.amount
        return _json(
            {
                "from": request.query["from"],
                "to": request.query["to"],
                "data": [charge.settlement_line() for charge in lines],
                "totals": dict(sorted(totals.items())),
            }
        )

    async def show_faults(self, request: web.Request) -> web.Response:
        rates = self._faults.rates.model_dump(exclude_defaults=True)
        return _json({"faults": rates, "bitten": dict(self._faults.bitten)})

    async def set_faults(self, request: web.Request) -> web.Response:
        try:
            self._faults.set(FaultRates.model_validate_json(await request.read()))
        except ValidationError as error:
            raise Refusal(400, "faults_invalid", what_is_wrong(error)) from error
        return await self.show_faults(request)


def _instant(request: web.Request, name: str) -> int:
    try:
        at = datetime.fromisoformat(request.query[name])
    except (KeyError, ValueError) as error:
        raise Refusal(400, "instant_invalid", f"say ?{name}= as an ISO 8601 instant") from error
    return ms_of(at if at.tzinfo else at.replace(tzinfo=UTC))


def _json(content: dict[str, object]) -> web.Response:
    return web.Response(body=orjson.dumps(content), content_type="application/json")
