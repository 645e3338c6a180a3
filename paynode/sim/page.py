"""The hosted payment page: HTML, no script, nothing from elsewhere.

The session id in the path is the only right a visitor has, and nobody can guess it: that is also what keeps
a foreign site from pressing Pay.
"""

from __future__ import annotations

import asyncio
from pathlib import Path

from aiohttp import web
from iso4217 import Currency
from jinja2 import Environment, PackageLoader, StrictUndefined

from paynode.sim.acquirer import Acquirer
from paynode.sim.losses import Losses
from paynode.sim.records import Session
from paynode.sim.scripts import CUSTOMER_DECLINED, script_of_page

_CSS = Path(__file__).parent / "assets" / "pay.css"

_HEADERS = {
    # form-action by scheme only: Chromium holds it against every redirect that follows the form, and the way
    # back to the shop leads over origins that this page cannot know.
    "Content-Security-Policy": (
        "default-src 'none'; style-src 'self'; form-action 'self' http: https:; frame-ancestors 'none'; base-uri 'none'"
    ),
    "Referrer-Policy": "no-referrer",  # the address is the right to pay
    "X-Content-Type-Options": "nosniff",
    "Cache-Control": "no-store",
}

# What stands above the form or in its place, by the session's status.
_HEADLINES = {
    "open": "Payment",
    "approved": "This payment has been paid",
    "declined": "This payment was declined",
    "expired": "This payment page has expired",
    "canceled": "This payment was canceled by the shop",
}
_GONE = frozenset({"expired", "canceled"})


class Page:
    def __init__(self, *, acquirer: Acquirer, losses: Losses) -> None:
        self._acquirer = acquirer
        self._losses = losses
        templates = Environment(
            loader=PackageLoader("paynode.sim"), autoescape=True, undefined=StrictUndefined, auto_reload=False
        )
        self._template = templates.get_template("pay.html")

    def routes(self) -> list[web.RouteDef]:
        return [
            web.get("/pay/assets/pay.css", self.css),
            web.get("/pay/{session}", self.show),
            web.post("/pay/{session}/pay", self.pay),
            web.post("/pay/{session}/decline", self.decline),
            web.get("/pay/{session}/abandon", self.abandon),
        ]

    async def css(self, request: web.Request) -> web.StreamResponse:
        return web.FileResponse(_CSS, headers={"Cache-Control": "max-age=3600"})

    async def show(self, request: web.Request) -> web.Response:
        session = self._session(request)
        html = self._template.render(
            session=session,
            headline=_HEADLINES[session.status],
            amount=amount_text(session.amount, session.currency),
        )
        status = 410 if session.status in _GONE else 200
        return web.Response(status=status, text=html, content_type="text/html", headers=_HEADERS)

    async def pay(self, request: web.Request) -> web.StreamResponse:
        session = self._session(request)
        script = script_of_page(session.amount)

        async def work() -> web.StreamResponse:
            await asyncio.sleep(script.slow_ms / 1000)
            await self._acquirer.settle_session(session, script)
            return _leave(session)

        # One at a time: of a double click the second press finds the session closed.
        async with self._acquirer.turn(session.idempotency_key):
            if session.status != "open":
                return _leave(session)
            mishap = self._losses.first_time(session.idempotency_key, script.mishap)
            return await self._losses.around(request, mishap, work)

    async def decline(self, request: web.Request) -> web.StreamResponse:
        session = self._session(request)
        async with self._acquirer.turn(session.idempotency_key):
            await self._acquirer.settle_session(session, CUSTOMER_DECLINED)
        return _leave(session)

    async def abandon(self, request: web.Request) -> web.Response:
        """The customer walks away: nothing is charged, and the page stays open until it expires."""
        return _see(self._session(request).return_url)

    def _session(self, request: web.Request) -> Session:
        session = self._acquirer.memory.session(request.match_info["session"])
        if session is None:
            raise web.HTTPNotFound(text="There is no such payment page.", headers=_HEADERS)
        return session


def amount_text(amount_minor: int, currency: str) -> str:
    """12345 of EUR is "123.45 EUR", of JPY "12,345 JPY"."""
    exponent = Currency(currency).exponent or 0
    whole, part = divmod(amount_minor, 10**exponent)
    fraction = f".{part:0{exponent}d}" if exponent else ""
    return f"{whole:,}{fraction} {currency}"


def _leave(session: Session) -> web.Response:
    """Back to the shop, but for a page that ended without its customer, which says so itself."""
    return _see(f"/pay/{session.id}" if session.status in _GONE else session.return_url)


def _see(location: str) -> web.Response:
    return web.Response(status=303, headers={"Location": location, **_HEADERS})
