"""The PSP's API: `/v1/charges`, `/v1/sessions`, `/v1/operations`.

Every error is `{"error": {"code", "message"}}`. All 400 codes are final refusals: nothing was charged and the
same request never will be.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import re
from collections.abc import Awaitable, Callable
from typing import Annotated, TypeVar

import orjson
from aiohttp import web
from iso4217 import Currency
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from paynode.sim.acquirer import Acquirer, Order
from paynode.sim.faults import Faults
from paynode.sim.losses import Losses
from paynode.sim.records import Charge, Session, now_ms
from paynode.sim.refusals import Refusal, what_is_wrong
from paynode.sim.scripts import script_of_token

_Reference = Annotated[str, Field(pattern=r"^[A-Za-z0-9_.:-]{1,64}$")]
_KEY = re.compile(r"[\x21-\x7e]{1,255}")
_Url = Annotated[str, Field(pattern=r"^https?://[\x21-\x7e]{1,2000}$")]


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    reference: _Reference
    amount: Annotated[int, Field(ge=1, le=10**12)]
    currency: Annotated[str, Field(pattern=r"^[A-Z]{3}$")]
    description: Annotated[str, Field(max_length=500)] = ""


class _ChargeBody(_Body):
    token: Annotated[str, Field(max_length=100)]


class _SessionBody(_Body):
    return_url: _Url


_AnyBody = TypeVar("_AnyBody", bound=_Body)


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
            web.get("/v1/operations", self.list_operations),
        ]

    async def create_charge(self, request: web.Request) -> web.StreamResponse:
        body, order = await self._read(request, _ChargeBody)
        script = script_of_token(body.token)
        if script is None:
            raise Refusal(400, "token_unknown", "there is no such token; nothing was charged")

        async def work() -> web.Response:
            await asyncio.sleep(script.slow_ms / 1000)
            charge = await self._acquirer.charge(order, script)
            return _json(201, charge.public())

        async def first() -> web.StreamResponse:
            mishap = self._losses.first_time(order.idempotency_key, script.mishap)
            return await self._losses.around(request, mishap, work)

        return await self._once(request, order, first)

    async def create_session(self, request: web.Request) -> web.StreamResponse:
        body, order = await self._read(request, _SessionBody)

        async def first() -> web.Response:
            session = await self._acquirer.open_session(order, return_url=body.return_url, description=body.description)
            return _json(201, self._created(session))

        return await self._once(request, order, first)

    async def list_operations(self, request: web.Request) -> web.Response:
        """The inquiry: the charges of a reference, the final one first, then its sessions."""
        self._authorize(request)
        reference = request.query.get("reference")
        if not reference:
            raise Refusal(400, "reference_missing", "say ?reference=")
        if self._faults.bites("inquiry_error", self._faults.rates.inquiry_error):
            raise Refusal(503, "unavailable", "the inquiry is out of order")
        visible_until_ms = now_ms() - self._faults.rates.inquiry_lag_ms
        charges = [c for c in self._acquirer.charges_of(reference) if c.created_ms <= visible_until_ms]
        data = [charge.public() for charge in charges]
        for session in self._acquirer.sessions_of(reference):
            is_ahead = session.charge is not None and session.charge not in charges
            seen = self._created(session) if is_ahead else session.public() | {"url": self._page_url(session)}
            data.append(seen)
        return _json(200, {"data": data})

    async def _once(
        self, request: web.Request, order: Order, first: Callable[[], Awaitable[web.StreamResponse]]
    ) -> web.StreamResponse:
        """Answer a repetition with what is kept, else do it; the random losses of answers meet both."""

        async def answer() -> web.StreamResponse:
            kept = self._acquirer.of_key(order.idempotency_key)
            if kept is None:
                return await first()
            if kept.request_hash != order.request_hash:
                raise Refusal(409, "idempotency_key_reused", "this key came with another request before")
            content = kept.public() if isinstance(kept, Charge) else self._created(kept)
            return _json(201, content, {"Idempotent-Replayed": "true"})

        async with self._acquirer.turn(order.idempotency_key):
            response = await self._losses.around(request, self._faults.mishap(), answer)
        await asyncio.sleep(self._faults.rates.latency_ms / 1000)
        return response

    async def _read(self, request: web.Request, model: type[_AnyBody]) -> tuple[_AnyBody, Order]:
        self._authorize(request)
        keys = request.headers.getall("Idempotency-Key", [])
        if len(keys) != 1 or not _KEY.fullmatch(keys[0]):
            raise Refusal(400, "idempotency_key_missing", "send one Idempotency-Key of 1 to 255 visible characters")
        try:
            body = model.model_validate_json(await request.read())
        except ValidationError as error:
            raise Refusal(400, "body_invalid", what_is_wrong(error)) from error
        if not _is_chargeable(body.currency):
            raise Refusal(400, "currency_unknown", "not a currency of ISO 4217 that has minor units")
        canonical = request.path.encode() + orjson.dumps(body.model_dump(), option=orjson.OPT_SORT_KEYS)
        order = Order(
            reference=body.reference,
            amount=body.amount,
            currency=body.currency,
            idempotency_key=keys[0],
            request_hash=hashlib.sha256(canonical).hexdigest(),
        )
        return body, order

    def _authorize(self, request: web.Request) -> None:
        given = request.headers.getall("Authorization", [])
        if len(given) != 1 or not hmac.compare_digest(given[0].encode(errors="surrogateescape"), self._authorization):
            raise Refusal(401, "unauthorized", "send Authorization: Bearer with the API key")

    def _created(self, session: Session) -> dict[str, object]:
        """The session as it was when it was made: the answer to every repetition of that request."""
        return session.public() | {"status": "open", "decline_code": None, "url": self._page_url(session)}

    def _page_url(self, session: Session) -> str:
        return f"{self._base_url}/pay/{session.id}"


def _is_chargeable(currency: str) -> bool:
    try:
        return Currency(currency).exponent is not None
    except ValueError:
        return False


def _json(status: int, content: dict[str, object], headers: dict[str, str] | None = None) -> web.Response:
    return web.Response(status=status, body=orjson.dumps(content), content_type="application/json", headers=headers)
