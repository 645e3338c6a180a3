"""The PSP's API: `/v1/charges`, `sessions`, `captures`, `voids`, `refunds`, `cancels`, and the inquiry `operations`.

Every error is `{"error": {"code", "message"}}`. All 400 and 404 codes, and the 409 codes but `idempotency_key_reused`,
are final refusals: nothing was done and the same request never will be. A 409 is booked, and found, as declined.
"""

from __future__ import annotations

import asyncio
import hmac
from collections.abc import Awaitable, Callable
from typing import Final

import orjson
from aiohttp import web

from paynode.sim.acquirer import Acquirer
from paynode.sim.bodies import AboutBody, CaptureBody, ChargeBody, Order, SessionBody, order_of, read
from paynode.sim.faults import INQUIRY, Faults
from paynode.sim.losses import Losses
from paynode.sim.records import Entry, Kind, Session, now_ms
from paynode.sim.refusals import Refusal
from paynode.sim.scripts import script_of_token

_Work = Callable[[], Awaitable[web.StreamResponse]]

_REPLAYED: Final = {"Idempotent-Replayed": "true"}


class Api:
    def __init__(self, *, acquirer: Acquirer, faults: Faults, losses: Losses, api_key: str, base_url: str) -> None:
        self._acquirer = acquirer
        self._faults = faults
        self._losses = losses
        self._authorization = f"Bearer {api_key}".encode()
        self._base_url = base_url

    def routes(self) -> list[web.RouteDef]:
        return [
            web.post("/v1/charges", self.create_charge),
            web.post("/v1/sessions", self.create_session),
            web.post("/v1/captures", self.capture),
            web.post("/v1/voids", self.void),
            web.post("/v1/refunds", self.refund),
            web.post("/v1/cancels", self.cancel),
            web.get("/v1/operations", self.list_operations),
        ]

    async def create_charge(self, request: web.Request) -> web.StreamResponse:
        self._authorize(request)
        body, key = await read(request, ChargeBody)
        script = script_of_token(body.token)
        if script is None:
            raise Refusal(400, "token_unknown", "there is no such token; nothing was charged")
        order = order_of(request.path, body, body.kind, key)

        async def work() -> web.Response:
            await asyncio.sleep(script.slow_ms / 1000)
            return self._decided(await self._acquirer.charge(order, script))

        async def first() -> web.StreamResponse:
            mishap = self._losses.first_time(order.idempotency_key, script.mishap)
            return await self._losses.around(request, mishap, work)

        return await self._once(request, order, first)

    async def create_session(self, request: web.Request) -> web.StreamResponse:
        self._authorize(request)
        body, key = await read(request, SessionBody)
        order = order_of(request.path, body, body.kind, key)

        async def first() -> web.Response:
            session = await self._acquirer.open_session(order, return_url=body.return_url, description=body.description)
            return self._answer(201, self._created(session))

        return await self._once(request, order, first)

    async def capture(self, request: web.Request) -> web.StreamResponse:
        self._authorize(request)
        body, key = await read(request, CaptureBody)
        order = order_of(request.path, body, Kind.CAPTURE, key)

        async def first() -> web.Response:
            return self._decided(
                await self._acquirer.follow(order, of=body.of, charge_id=body.charge, is_final=body.final)
            )

        return await self._once(request, order, first)

    async def void(self, request: web.Request) -> web.StreamResponse:
        return await self._follow(request, Kind.VOID)

    async def refund(self, request: web.Request) -> web.StreamResponse:
        return await self._follow(request, Kind.REFUND)

    async def cancel(self, request: web.Request) -> web.StreamResponse:
        self._authorize(request)
        body, key = await read(request, AboutBody)
        order = order_of(request.path, body, Kind.CANCEL, key)

        async def first() -> web.Response:
            return self._decided(await self._acquirer.cancel(order, of=body.of))

        return await self._once(request, order, first)

    async def list_operations(self, request: web.Request) -> web.StreamResponse:
        """The inquiry: what is known of a reference, the final word first, then its pages."""
        self._authorize(request)
        reference = request.query.get("reference")
        if not reference:
            raise Refusal(400, "reference_missing", "say ?reference=")
        if self._faults.bites("inquiry_error"):
            raise Refusal(503, "unavailable", "the inquiry is out of order")

        async def work() -> web.StreamResponse:
            return _json(200, {"data": self._known_of(reference)})

        return await self._losses.around(request, self._faults.mishap(INQUIRY), work)

    def _known_of(self, reference: str) -> list[dict[str, object]]:
        at_ms = now_ms() - self._faults.rates.inquiry_lag_ms
        memory = self._acquirer.memory
        entries = [one for one in memory.entries_of(reference) if one.created_ms <= at_ms]
        sessions = [one for one in memory.sessions_of(reference) if one.created_ms <= at_ms]
        return [
            *(memory.shown(entry, at_ms) for entry in entries),
            *(session.public(at_ms) | {"url": self._page_url(session)} for session in sessions),
        ]

    async def _follow(self, request: web.Request, kind: Kind) -> web.StreamResponse:
        self._authorize(request)
        body, key = await read(request, AboutBody)
        order = order_of(request.path, body, kind, key)

        async def first() -> web.Response:
            return self._decided(await self._acquirer.follow(order, of=body.of, charge_id=body.charge))

        return await self._once(request, order, first)

    async def _once(self, request: web.Request, order: Order, first: _Work) -> web.StreamResponse:
        """Answer a repetition with what is kept, else do it; the random losses of answers meet both."""

        async def answer() -> web.StreamResponse:
            kept = self._kept(order.idempotency_key)
            if kept is None:
                return await first()
            if kept.request_hash != order.request_hash:
                raise Refusal(409, "idempotency_key_reused", "this key came with another request before")
            if isinstance(kept, Session):
                return self._answer(201, self._created(kept), _REPLAYED)
            return self._decided(kept, _REPLAYED)

        async with self._acquirer.turn(order.idempotency_key):
            response = await self._losses.around(request, self._faults.mishap(order.kind), answer)
        await asyncio.sleep(self._faults.rates.latency_ms / 1000)
        return response

    def _kept(self, idempotency_key: str) -> Entry | Session | None:
        kept, kept_ms = self._acquirer.memory.of_key(idempotency_key), self._faults.rates.idempotency_ms
        is_forgotten = kept is not None and kept_ms is not None and kept.created_ms + kept_ms < now_ms()
        return None if is_forgotten else kept

    def _decided(self, entry: Entry, headers: dict[str, str] | None = None) -> web.Response:
        """How an entry is answered, the first time and every time."""
        if entry.is_refused:
            assert entry.decline_code is not None
            return Refusal(409, entry.decline_code, "this can never be; nothing was done").response(headers)
        return self._answer(201, entry.public(), headers)

    def _answer(self, status: int, true: dict[str, object], headers: dict[str, str] | None = None) -> web.Response:
        return _json(status, self._faults.twisted("answer", true), headers)

    def _authorize(self, request: web.Request) -> None:
        given = request.headers.getall("Authorization", [])
        if len(given) != 1 or not hmac.compare_digest(given[0].encode(errors="surrogateescape"), self._authorization):
            raise Refusal(401, "unauthorized", "send Authorization: Bearer with the API key")

    def _created(self, session: Session) -> dict[str, object]:
        """The session as it was when it was made: the answer to every repetition of that request."""
        return session.public(session.created_ms - 1) | {"url": self._page_url(session)}

    def _page_url(self, session: Session) -> str:
        return f"{self._base_url}/pay/{session.id}"


def _json(status: int, content: dict[str, object], headers: dict[str, str] | None = None) -> web.Response:
    return web.Response(status=status, body=orjson.dumps(content), content_type="application/json", headers=headers)
