"""PayU as its documentation tells it, with what the other party's simulator leaves out."""

from __future__ import annotations

import json
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web

from tests.psp.payu import documents

_TOKEN = documents.TOKEN["access_token"]
_ORDERS = "/api/v2_1/orders"


@dataclass
class Twin:
    """A POS; `is_auto_receive` as it is set up. A test is the customer, PayU's back office and the fault."""

    is_auto_receive: bool
    url: str = ""
    orders: dict[str, dict[str, Any]] = field(default_factory=dict)
    refunds: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    notices: list[bytes] = field(default_factory=list)
    tokens: int = 0
    loses_answers: bool = False

    # -- what happens there ----------------------------------------------------------------------------------------

    def pay(self, order_id: str) -> None:
        self._turns(order_id, "COMPLETED" if self.is_auto_receive else "WAITING_FOR_CONFIRMATION")

    def lapse(self, order_id: str) -> None:
        self._turns(order_id, "CANCELED")

    def _turns(self, order_id: str, status: str) -> None:
        order = self.orders[order_id]
        order["status"] = status
        self.notices.append(json.dumps({"order": order}).encode())

    # -- what is asked ---------------------------------------------------------------------------------------------

    async def token(self, request: web.Request) -> web.Response:
        form = await request.post()
        if form.get("client_secret") != documents.CLIENT_SECRET or form.get("grant_type") != "client_credentials":
            return _json({"error": "invalid_client"}, 401)
        self.tokens += 1
        return _json(documents.TOKEN)

    async def create(self, request: web.Request) -> web.Response:
        asked = await request.json()
        for order in self.orders.values():
            if order["extOrderId"] == asked["extOrderId"]:
                named = {"orderId": order["orderId"], "extOrderId": order["extOrderId"]}
                return _json(documents.NOT_UNIQUE | named, 400)
        if not re.fullmatch("[0-9]+", asked["totalAmount"]) or asked["merchantPosId"] != documents.POS_ID:
            return _json(documents.refused("ERROR_VALUE_INVALID"), 400)
        order_id = f"TWIN{len(self.orders):06}GUEST000P01"
        self.orders[order_id] = documents.order("NEW", orderId=order_id) | {
            name: asked[name] for name in ("extOrderId", "totalAmount", "currencyCode", "description", "notifyUrl")
        }
        page = f"{self.url}/pay/{order_id}"
        answer = documents.CREATED | {"redirectUri": page, "orderId": order_id, "extOrderId": asked["extOrderId"]}
        return _json(answer, 302, Location=page)

    async def retrieve(self, request: web.Request) -> web.Response:
        return _json({"orders": [self._order(request)], "status": {"statusCode": "SUCCESS"}})

    async def cancel(self, request: web.Request) -> web.Response:
        order = self._order(request)
        if order["status"] == "COMPLETED":
            return _json(documents.refused("ERROR_VALUE_INVALID", "ORDER_COMPLETED"), 400)
        self._turns(order["orderId"], "CANCELED")
        return _json(documents.CANCELED | {"orderId": order["orderId"], "extOrderId": order["extOrderId"]})

    async def capture(self, request: web.Request) -> web.Response:
        order = self._order(request)
        if order["status"] != "WAITING_FOR_CONFIRMATION":
            return _json(documents.refused("ERROR_VALUE_INVALID", "ORDER_STATUS"), 400)
        self._turns(order["orderId"], "COMPLETED")
        return _json(documents.UPDATED)

    async def give_back(self, request: web.Request) -> web.Response:
        order, asked = self._order(request), (await request.json())["refund"]
        given = self.refunds.setdefault(order["orderId"], [])
        left = int(order["totalAmount"]) - sum(int(one["amount"]) for one in given)
        if order["status"] != "COMPLETED" or int(asked["amount"]) > left:
            return _json(documents.NO_BALANCE, 400)
        refund = documents.refund("PENDING", refundId=str(5_000_000_000 + len(given))) | asked
        given.append(refund)
        answer = _json(documents.refunded("PENDING") | {"orderId": order["orderId"], "refund": dict(refund)})
        refund["status"] = "FINALIZED"  # the bank is quick here: whoever asks again is told so
        return answer

    async def given_back(self, request: web.Request) -> web.Response:
        return _json({"refunds": self.refunds.get(self._order(request)["orderId"], [])})

    def _order(self, request: web.Request) -> dict[str, Any]:
        order = self.orders.get(request.match_info["order"])
        if order is None:
            raise web.HTTPNotFound(text=json.dumps(documents.refused("DATA_NOT_FOUND")))
        return order

    async def page(self, request: web.Request) -> web.Response:
        raise AssertionError("nobody follows the redirect to the customer's page")


@asynccontextmanager
async def twin(*, is_auto_receive: bool = True) -> AsyncIterator[Twin]:
    """Running on a port of its own."""
    payu = Twin(is_auto_receive=is_auto_receive)

    @web.middleware
    async def at_the_door(request: web.Request, handler: Any) -> web.StreamResponse:
        is_about_orders = request.path.startswith(_ORDERS)
        if is_about_orders and request.headers.get("Authorization") != f"Bearer {_TOKEN}":
            return _json(documents.refused("UNAUTHORIZED"), 401)
        answer: web.StreamResponse = await handler(request)
        if payu.loses_answers and is_about_orders and request.method != "GET":
            assert request.transport is not None
            request.transport.abort()
        return answer

    app = web.Application(middlewares=[at_the_door])
    app.router.add_post("/pl/standard/user/oauth/authorize", payu.token)
    app.router.add_post(_ORDERS, payu.create)
    app.router.add_get(_ORDERS + "/{order}", payu.retrieve)
    app.router.add_delete(_ORDERS + "/{order}", payu.cancel)
    app.router.add_post(_ORDERS + "/{order}/captures", payu.capture)
    app.router.add_post(_ORDERS + "/{order}/refunds", payu.give_back)
    app.router.add_get(_ORDERS + "/{order}/refunds", payu.given_back)
    app.router.add_get("/pay/{order}", payu.page)
    runner = web.AppRunner(app, handle_signals=False, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    payu.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    try:
        yield payu
    finally:
        await runner.cleanup()


def _json(content: dict[str, Any], status: int = 200, **headers: str) -> web.Response:
    return web.json_response(content, status=status, headers=headers)
