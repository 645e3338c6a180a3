"""What the customer sees: the product, and an order's page that tells how its payment stands."""

from __future__ import annotations

import asyncio
import logging
from dataclasses import replace
from pathlib import Path
from weakref import WeakValueDictionary

from aiohttp import web
from iso4217 import Currency
from jinja2 import Environment, PackageLoader, StrictUndefined

from paynode.shop.orders import Order, Orders, is_order_id, new_order_id
from paynode.shop.till import Payment, Till, TillAway, TillRefused

log = logging.getLogger(__name__)

PRODUCT = "Paper lantern"
PRICE_MINOR = 2490
CURRENCY = "EUR"

_CSS = Path(__file__).parent / "assets" / "shop.css"

_HEADERS = {
    # form-action by scheme only: Chromium holds it against every redirect that follows the form, and the way
    # to the payment page leads over origins that the shop does not know.
    "Content-Security-Policy": (
        "default-src 'none'; style-src 'self'; form-action 'self' http: https:; frame-ancestors 'none'; base-uri 'none'"
    ),
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "Cache-Control": "no-store",
}


class Pages:
    def __init__(self, *, orders: Orders, till: Till, base_url: str) -> None:
        self._orders = orders
        self._till = till
        self._base_url = base_url
        self._turns: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()
        self._templates = Environment(
            loader=PackageLoader("paynode.shop"), autoescape=True, undefined=StrictUndefined, auto_reload=False
        )

    def routes(self) -> list[web.RouteDef]:
        return [
            web.get("/", self.product),
            web.post("/orders", self.buy),
            web.get("/orders/{order}", self.order),
            web.post("/orders/{order}/pay", self.pay),
            web.get("/assets/shop.css", self.css),
            web.get("/healthz", self.health),
        ]

    async def product(self, request: web.Request) -> web.Response:
        """The order's id is in the form already: pressing twice, or reloading, buys once."""
        return self._render("product.html", order_id=new_order_id(), price=_amount_text(PRICE_MINOR, CURRENCY))

    async def buy(self, request: web.Request) -> web.Response:
        order_id = str((await request.post()).get("order", ""))
        if not is_order_id(order_id):
            raise web.HTTPBadRequest(text="This form is not from this shop.")
        if self._orders.get(order_id) is None:
            await self._orders.save(Order(id=order_id, amount=PRICE_MINOR, currency=CURRENCY))
        return await self._pay(order_id)

    async def pay(self, request: web.Request) -> web.Response:
        return await self._pay(self._order(request).id)

    async def order(self, request: web.Request) -> web.Response:
        order = self._order(request)
        payment = None
        is_away = False
        if order.payment_id is not None:
            try:
                payment = await self._till.look(order.payment_id)
            except (TillAway, TillRefused) as error:
                log.warning("order %s: paynode does not tell: %s", order.id, error)
                is_away = True
        return self._render(
            "order.html",
            order=order,
            amount=_amount_text(order.amount, order.currency),
            standing=payment.standing if payment else "waiting",
            status=payment.status if payment else "",
            continue_url=_continue_url(payment),
            is_away=is_away,
        )

    async def css(self, request: web.Request) -> web.StreamResponse:
        return web.FileResponse(_CSS, headers={"Cache-Control": "max-age=3600"})

    async def health(self, request: web.Request) -> web.Response:
        return web.json_response({"status": "ok"})

    async def _pay(self, order_id: str) -> web.Response:
        """Send the customer to the payment page; one at a time per order, for a double click brings two."""
        turn = self._turns.get(order_id)
        if turn is None:
            turn = self._turns[order_id] = asyncio.Lock()
        async with turn:
            order = self._orders.get(order_id)
            assert order is not None, "it was saved before"
            try:
                payment = await self._payment_of(order)
            except (TillAway, TillRefused) as error:
                log.warning("order %s: not begun: %s", order.id, error)
                amount = _amount_text(order.amount, order.currency)
                is_final = isinstance(error, TillRefused)
                return self._render("trouble.html", 503, order=order, amount=amount, is_final=is_final)
        return _see(_continue_url(payment) or f"/orders/{order_id}")

    async def _payment_of(self, order: Order) -> Payment:
        """The payment under way, or a new one if there is none or the last one came to nothing."""
        if order.payment_id is not None:
            payment = await self._till.look(order.payment_id)
            if payment.standing != "declined":
                return payment
            order = replace(order, attempt=order.attempt + 1, payment_id=None)
            await self._orders.save(order)
        return_url = f"{self._base_url}/orders/{order.id}"
        payment = await self._till.begin(order, return_url=return_url, description=PRODUCT)
        await self._orders.save(replace(order, payment_id=payment.id))
        return payment

    def _order(self, request: web.Request) -> Order:
        order = self._orders.get(request.match_info["order"])
        if order is None:
            raise web.HTTPNotFound(text="There is no such order.", headers=_HEADERS)
        return order

    def _render(self, template: str, http_status: int = 200, **values: object) -> web.Response:
        html = self._templates.get_template(template).render(product=PRODUCT, **values)
        return web.Response(status=http_status, text=html, content_type="text/html", headers=_HEADERS)


def _continue_url(payment: Payment | None) -> str | None:
    """Where the customer can still pay, if at all."""
    if payment is None or payment.status not in ("created", "requires_action"):
        return None
    return payment.checkout_url


def _amount_text(amount_minor: int, currency: str) -> str:
    exponent = Currency(currency).exponent or 0
    whole, part = divmod(amount_minor, 10**exponent)
    return f"{whole:,}.{part:0{exponent}d} {currency}" if exponent else f"{whole:,} {currency}"


def _see(location: str) -> web.Response:
    return web.Response(status=303, headers={"Location": location, **_HEADERS})
