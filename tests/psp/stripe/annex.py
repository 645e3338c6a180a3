"""localstripe, completed: what Stripe documents and localstripe lacks stands before it.

All money moves in localstripe: charges, captures, cancels, refunds and the balance are its own. Added here are the
recognition of keys, the search (and its lag), Checkout Sessions, refunds bounded by what was captured, metadata of
captures, the fields and codes of answers that it leaves out, and the events of sessions. Its own events are completed
in the same way, and signed.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import json
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any, Final

import aiohttp
import uuid_utils
from aiohttp import web

from tests.psp.account import Delivery
from tests.psp.stripe.forms import nested

API_KEY: Final = "sk_test_annex"
WEBHOOK_SECRET: Final = "whsec_annex"
_INNER_SECRET: Final = "whsec_localstripe"

_INTENT: Final = "/v1/payment_intents"
_KNOWN_OF_INTENTS: Final = (
    "amount",
    "currency",
    "payment_method",
    "capture_method",
    "confirm",
    "off_session",
    "metadata",
)

Json = dict[str, Any]


class Refused(Exception):
    """An error as Stripe words it."""

    def __init__(self, status: int, **error: Any) -> None:
        self.status = status
        self.body = {"error": {"type": "invalid_request_error", "message": "no"} | error}


class Annex:
    """One Stripe account; `search_lag_s`: seconds in which the search does not know a new PaymentIntent."""

    def __init__(self, localstripe: str, http: aiohttp.ClientSession) -> None:
        self._inner = localstripe
        self._http = http
        self.url = ""
        self.search_lag_s = 0.0
        self.loses_answers = False
        self.hook_url = ""  # of the webhook endpoint, if there is one, and what it answered
        self.answers: list[int] = []
        self._deliveries: set[asyncio.Task[None]] = set()
        self.requests: list[tuple[str, str, str | None]] = []
        self.notices: list[Delivery] = []
        self.inner_notices: list[Delivery] = []
        self._replays: dict[str, tuple[str, bytes, asyncio.Future[tuple[int, bytes]]]] = {}
        self._sessions: dict[str, Json] = {}
        self._captured: dict[str, int] = {}
        self._made_at: dict[str, float] = {}
        self._heard: set[str] = set()

    async def take(self, request: web.Request) -> web.Response:
        """Any request of the API."""
        body = await request.read()
        key = request.headers.get("Idempotency-Key")
        self.requests.append((request.method, request.path, key))
        assert request.headers["Authorization"] == f"Bearer {API_KEY}"
        assert request.headers["Stripe-Version"]
        if request.method == "GET":
            status, answer = await self._outcome(request.path, request.query, None)
        else:
            assert key is not None
            assert request.content_type == "application/x-www-form-urlencoded"
            status, answer = await self._once(key, request.path, body)
        if self.loses_answers and request.method == "POST":
            assert request.transport is not None
            request.transport.abort()
        return web.Response(status=status, body=answer, content_type="application/json")

    async def _once(self, key: str, path: str, body: bytes) -> tuple[int, bytes]:
        if (known := self._replays.get(key)) is not None:
            if known[:2] != (path, body):
                return _told(Refused(400, type="idempotency_error"))
            return await asyncio.shield(known[2])
        kept: asyncio.Future[tuple[int, bytes]] = asyncio.get_running_loop().create_future()
        self._replays[key] = (path, body, kept)
        try:
            kept.set_result(await self._outcome(path, {}, body, key))
        finally:
            if not kept.done():
                del self._replays[key]
                kept.cancel()
        return kept.result()

    async def _outcome(
        self, path: str, query: Mapping[str, str], body: bytes | None, key: str = ""
    ) -> tuple[int, bytes]:
        try:
            done = await (self._read(path, query) if body is None else self._do(path, nested(body), key))
            if body is not None:
                await self._hear()
        except Refused as refused:
            return _told(refused)
        return 200, json.dumps(done).encode()

    # -- reading ------------------------------------------------------------------------------------------------

    async def _read(self, path: str, query: Mapping[str, str]) -> Json:
        match path.strip("/").split("/")[1:]:
            case ["payment_intents", "search"]:
                return page(await self._search(query["query"]), query)
            case ["payment_intents"]:
                return page(await self._all_intents(), query)
            case ["payment_intents", intent_id]:
                return await self._intent(intent_id)
            case ["checkout", "sessions"]:
                return page([self._shown(one) for one in self._sessions.values()], query)
            case ["checkout", "sessions", session_id]:
                return self._shown(self._session(session_id))
            case ["refunds"]:
                return page(await self._refunds(query["payment_intent"]), query)
            case ["balance_transactions"]:
                return page(await self._transactions(), query)
        raise AssertionError(f"nobody reads {path}")

    async def _search(self, query: str) -> list[Json]:
        field, _, value = query.partition(":")
        name, wanted = field.removeprefix("metadata['").removesuffix("']"), value.strip("'")
        return [
            one
            for one in await self._all_intents()
            if one["metadata"].get(name) == wanted and time.time() - self._made_at[one["id"]] >= self.search_lag_s
        ]

    async def _all_intents(self) -> list[Json]:
        found = await self._inside("GET", _INTENT, {"limit": "100000"})
        return [self._completed(one) for one in found["data"] if one["id"] in self._made_at]

    async def _intent(self, intent_id: str) -> Json:
        return self._completed(await self._inside("GET", f"{_INTENT}/{intent_id}"))

    def _session(self, session_id: str) -> Json:
        if session_id not in self._sessions:
            raise Refused(404, code="resource_missing")
        return self._sessions[session_id]

    async def _refunds(self, intent_id: str) -> list[Json]:
        found = await self._inside("GET", "/v1/refunds", {"limit": "1000", "payment_intent": intent_id})
        # What localstripe writes down when less is captured is no refund at Stripe.
        return [_refund(one, intent_id) for one in found["data"] if one["metadata"]]

    async def _transactions(self) -> list[Json]:
        found = await self._inside("GET", "/v1/balance_transactions", {"limit": "100000"})
        shown = []
        for one in found["data"]:
            kind = "refunds" if one["source"].startswith("re_") else "charges"
            source = await self._inside("GET", f"/v1/{kind}/{one['source']}")
            charge = await self._inside("GET", f"/v1/charges/{source['charge']}") if kind == "refunds" else source
            intent_id = charge["payment_intent"]
            if intent_id not in self._made_at:
                continue  # of another test
            if kind == "charges":
                intent = await self._intent(intent_id)
                source |= {"metadata": intent["metadata"], "amount_captured": intent["amount_received"]}
            elif not source["metadata"]:
                one["reporting_category"] = "partial_capture_reversal"
            shown.append(one | {"source": source | {"payment_intent": intent_id}})
        return shown

    # -- doing --------------------------------------------------------------------------------------------------

    async def _do(self, path: str, form: Json, key: str) -> Json:
        match path.strip("/").split("/")[1:]:
            case ["payment_intents"]:
                return await self._charge(form)
            case ["payment_intents", intent_id, "capture"]:
                return await self._capture(intent_id, form)
            case ["payment_intents", intent_id, "cancel"]:
                await self._in_state(intent_id, "requires_capture", "requires_payment_method")
                canceled = await self._inside("POST", f"{_INTENT}/{intent_id}/cancel", form)
                self._notify("payment_intent.canceled", self._completed(canceled), key)
                return self._completed(canceled)
            case ["refunds"]:
                return await self._refund(form)
            case ["checkout", "sessions"]:
                return self._open(form)
            case ["checkout", "sessions", session_id, "expire"]:
                return self._expire(session_id, key)
        raise AssertionError(f"nobody asks for {path}")

    async def _charge(self, form: Json) -> Json:
        form = {name: value for name, value in form.items() if name in _KNOWN_OF_INTENTS}
        try:
            made = await self._inside("POST", _INTENT, form)
        except Refused as refused:
            if refused.status != 402:
                raise
            charge = await self._inside("GET", f"/v1/charges/{refused.body['error']['charge']}")
            self._made_at[charge["payment_intent"]] = time.time()
            declined = await self._intent(charge["payment_intent"])
            error = {"code": "card_declined", "decline_code": "generic_decline"}
            declined["last_payment_error"] |= error
            raise Refused(402, type="card_error", payment_intent=declined, **error) from refused
        self._made_at[made["id"]] = time.time()
        done = self._completed(made)
        if done["status"] == "requires_capture":
            self._notify("payment_intent.amount_capturable_updated", done)
        return done

    async def _capture(self, intent_id: str, form: Json) -> Json:
        intent = await self._in_state(intent_id, "requires_capture")
        amount = int(form["amount_to_capture"])
        if amount > intent["amount"]:
            raise Refused(400, code="amount_too_large")
        self._captured[intent_id] = amount
        # First, so that its event tells it.
        await self._inside("POST", f"{_INTENT}/{intent_id}", {"metadata": form["metadata"]})
        await self._inside("POST", f"{_INTENT}/{intent_id}/capture", {"amount_to_capture": str(amount)})
        return await self._intent(intent_id)

    async def _refund(self, form: Json) -> Json:
        intent_id, amount = form["payment_intent"], int(form["amount"])
        intent = await self._intent(intent_id)
        given = sum(one["amount"] for one in await self._refunds(intent_id))
        if given == intent["amount_received"]:
            raise Refused(400, code="charge_already_refunded")
        if given + amount > intent["amount_received"]:
            raise Refused(400, message="Refund amount is greater than unrefunded amount on charge")
        made = _refund(await self._inside("POST", "/v1/refunds", form), intent_id)
        self._notify("refund.created", made)
        return made

    def _open(self, form: Json) -> Json:
        price = form["line_items"]["0"]["price_data"]
        session_id = f"cs_test_{uuid_utils.uuid4().hex}"
        now = int(time.time())
        self._sessions[session_id] = {
            "id": session_id,
            "object": "checkout.session",
            "status": "open",
            "payment_status": "unpaid",
            "amount_total": int(price["unit_amount"]),
            "currency": price["currency"],
            "client_reference_id": form["client_reference_id"],
            "metadata": form["metadata"],
            "created": now,
            "expires_at": now + 86400,
            "payment_intent": None,
            "url": f"{self.url}/pay/{session_id}",
            "_intent": form["payment_intent_data"],
        }
        return self._shown(self._sessions[session_id])

    def _expire(self, session_id: str, key: str) -> Json:
        session = self._session(session_id)
        if session["status"] != "open":
            raise Refused(400, message="Only Checkout Sessions with a status in [open] can be expired")
        session |= {"status": "expired", "url": None}
        self._notify("checkout.session.expired", self._shown(session), key)
        return self._shown(session)

    @property
    def deliveries_under_way(self) -> set[asyncio.Task[None]]:
        """To the webhook endpoint."""
        return self._deliveries

    @property
    def open_pages(self) -> list[str]:
        """The sessions that wait for somebody."""
        return [name for name, one in self._sessions.items() if one["status"] == "open"]

    async def charged(self) -> dict[str, int]:
        """What was taken of the cards, by our operations."""
        taken = [one for one in await self._all_intents() if one["status"] == "succeeded"]
        return {one["metadata"]["paynode_operation"]: one["amount_received"] for one in taken}

    async def customer(self, session_id: str, payment_method: str) -> None:
        """Somebody pays on a page, or tries to."""
        session = self._session(session_id)
        assert session["status"] == "open"
        form = session["_intent"] | {
            "amount": str(session["amount_total"]),
            "currency": session["currency"],
            "payment_method": payment_method,
            "confirm": "true",
        }
        try:
            made = await self._charge(form)
        except Refused:
            return  # the page stays open: another card may do
        is_paid = made["status"] == "succeeded"
        session |= {"status": "complete", "url": None, "payment_intent": made["id"]}
        session["payment_status"] = "paid" if is_paid else "unpaid"
        self._notify("checkout.session.completed", self._shown(session))
        await self._hear()

    async def card(self, number: str) -> str:
        """A payment method of localstripe's, with one of Stripe's test numbers."""
        content = {"number": number, "exp_month": "12", "exp_year": "2030", "cvc": "123"}
        made = await self._inside("POST", "/v1/payment_methods", {"type": "card", "card": content})
        method_id: str = made["id"]
        return method_id

    async def _in_state(self, intent_id: str, *statuses: str) -> Json:
        intent = await self._intent(intent_id)
        if intent["status"] not in statuses:
            raise Refused(400, code="payment_intent_unexpected_state", payment_intent=intent)
        return intent

    # -- what localstripe says, as Stripe would -------------------------------------------------------------------

    def _completed(self, intent: Json) -> Json:
        amount, is_held = intent["amount"], intent["status"] == "requires_capture"
        received = self._captured.get(intent["id"], amount) if intent["status"] == "succeeded" else 0
        intent |= {"amount_capturable": amount if is_held else 0, "amount_received": received}
        return intent | {"canceled_at": int(time.time()) if intent["status"] == "canceled" else None}

    def _shown(self, session: Json) -> Json:
        return {name: value for name, value in session.items() if not name.startswith("_")}

    async def _inside(self, method: str, path: str, content: Mapping[str, Any] | None = None) -> Json:
        headers = {"Authorization": f"Bearer {API_KEY}"}
        sent = dict(content or {})
        query, body = (sent, None) if method == "GET" else (None, sent)
        async with self._http.request(method, self._inner + path, headers=headers, params=query, json=body) as response:
            answer: Json = await response.json()
            if response.status != 200:
                missing = {"code": "resource_missing"} if response.status == 404 else {}
                raise Refused(response.status, **answer["error"], **missing)
            return answer

    # -- events ---------------------------------------------------------------------------------------------------

    async def _hear(self) -> None:
        """What localstripe itself has to tell, as soon as it has happened."""
        events = await self._inside("GET", "/v1/events", {"limit": "100000"})
        for event in events["data"]:
            item = event["data"]["object"]
            if event["id"] not in self._heard and item["id"] in self._made_at:
                self._heard.add(event["id"])
                self._notify(event["type"], self._completed(item))

    async def take_inner(self, request: web.Request) -> web.Response:
        """A delivery of localstripe's own."""
        self.inner_notices.append(Delivery(dict(request.headers), await request.read()))
        return web.Response()

    @asynccontextmanager
    async def hooked(self) -> AsyncIterator[None]:
        """Inside, localstripe delivers its events, a second late; outside it does not: one that came while a test
        ends would leave a connection to nobody.
        """
        await self._hook(f"{self.url}/inner")
        yield
        await self._hook("http://127.0.0.1:1/")

    async def _hook(self, url: str) -> None:
        hook = {"url": url, "secret": _INNER_SECRET}
        async with self._http.post(f"{self._inner}/_config/webhooks/annex", json=hook) as response:
            assert response.status == 200

    def _notify(self, kind: str, item: Json, key: str | None = None) -> None:
        event = {
            "id": f"evt_{uuid_utils.uuid4().hex}",
            "object": "event",
            "type": kind,
            "created": int(time.time()),
            "data": {"object": item},
            "livemode": False,
            "request": {"id": "req_1", "idempotency_key": key},
        }
        notice = signed(json.dumps(event).encode())
        self.notices.append(notice)
        if self.hook_url:
            task = asyncio.create_task(self._deliver(notice))
            self._deliveries.add(task)
            task.add_done_callback(self._deliveries.discard)

    async def _deliver(self, notice: Delivery) -> None:
        async with self._http.post(self.hook_url, data=notice.raw, headers=notice.headers) as response:
            self.answers.append(response.status)

    async def begin(self) -> None:
        """With nothing in localstripe."""
        async with self._http.delete(f"{self._inner}/_config/data") as response:
            assert response.status == 200


def signed(raw: bytes, *, secret: str = WEBHOOK_SECRET, at: int | None = None) -> Delivery:
    """A delivery, signed by the documented format and not by the code of either side."""
    at = int(time.time()) if at is None else at
    digest = hmac.new(secret.encode(), f"{at}.".encode() + raw, hashlib.sha256).hexdigest()
    return Delivery({"Stripe-Signature": f"t={at},v1={digest}"}, raw)


def _told(refused: Refused) -> tuple[int, bytes]:
    return refused.status, json.dumps(refused.body).encode()


def _refund(made: Json, intent_id: str) -> Json:
    return made | {"payment_intent": intent_id}


def page(items: list[Json], query: Mapping[str, str]) -> Json:
    """Of a list, newest first, as it was asked for."""
    newest = sorted(enumerate(items), key=lambda one: (one[1]["created"], one[0]), reverse=True)
    begin, end = int(query.get("created[gte]", 0)), int(query.get("created[lt]", 1 << 60))
    wanted = [one for _, one in newest if begin <= one["created"] < end]
    if (after := query.get("starting_after")) is not None:
        wanted = wanted[[one["id"] for one in wanted].index(after) + 1 :]
    limit = int(query.get("limit", "10"))
    return {"object": "list", "data": wanted[:limit], "has_more": len(wanted) > limit}


@asynccontextmanager
async def annex(localstripe: str) -> AsyncIterator[Annex]:
    """An account of its own at a running localstripe."""
    async with aiohttp.ClientSession() as http:
        account = Annex(localstripe, http)
        app = web.Application()
        app.router.add_post("/inner", account.take_inner)
        app.router.add_route("*", "/v1/{path:.*}", account.take)
        runner = web.AppRunner(app, handle_signals=False, access_log=None, shutdown_timeout=0.1)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        account.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
        try:
            await account.begin()
            yield account
        finally:
            await asyncio.gather(*account.deliveries_under_way, return_exceptions=True)
            await runner.cleanup()
