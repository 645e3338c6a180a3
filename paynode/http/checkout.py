"""`GET /checkout/{id}` and `…/return`: the customer's way to the PSP's page and back to the shop.

No key guards these: an id is a secret of 74 random bits that only the shop and its customer were told, and all it
opens is a redirect.
"""

from __future__ import annotations

import base64
import hashlib
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from typing import Final, Protocol
from urllib.parse import urlencode, urlsplit, urlunsplit

import jinja2
from aiohttp import web

from paynode.domain import ids
from paynode.domain.errors import PaynodeError
from paynode.domain.payment import Method, Status
from paynode.domain.reading import PaymentView
from paynode.domain.road import Pointer
from paynode.http.announcing import Announcer
from paynode.http.context import CONTEXT
from paynode.http.waiting import Waiters

# Seconds: PSPs send the callback and the customer at about the same moment; this lets the callback win.
_CALLBACK_WAIT_S: Final = 1.0
# Seconds: what an inquiry may take while the customer looks at an empty page.
_INQUIRY_WAIT_S: Final = 1.5

_TEMPLATES: Final = resources.files("paynode.http") / "templates"
_STYLE: Final = (_TEMPLATES / "checkout.css").read_text("utf-8")
_STYLE_HASH: Final = base64.b64encode(hashlib.sha256(_STYLE.encode()).digest()).decode()
_PAGE: Final = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined).from_string(
    (_TEMPLATES / "checkout.html").read_text("utf-8")
)
_CSP: Final = (
    f"default-src 'none'; style-src 'sha256-{_STYLE_HASH}'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Text:
    title: str
    text: str
    is_waiting: bool


_OPENING: Final = _Text(
    title="Opening the payment page",
    text="We are preparing the secure payment page. It opens by itself in a moment.",
    is_waiting=True,
)
_CONFIRMING: Final = _Text(
    title="Confirming your payment",
    text="We are waiting for the bank to confirm your payment. Please do not pay again; you will be sent back to the "
    "shop by itself.",
    is_waiting=True,
)
_REVIEWING: Final = _Text(
    title="Your payment is being checked",
    text="Your payment needs a closer look. Please do not pay again: the shop will tell you as soon as it is done.",
    is_waiting=False,
)
_UNKNOWN: Final = _Text(
    title="Payment not found",
    text="There is no payment at this address. Please go back to the shop and start again.",
    is_waiting=False,
)
_UNAVAILABLE: Final = _Text(
    title="One moment, please",
    text="We cannot look at your payment just now. This page tries again by itself; please do not pay again.",
    is_waiting=True,
)


class CheckoutReading(Protocol):
    """Where a customer's payment is read."""

    async def payments_by_id(self, ids: Sequence[str]) -> Sequence[PaymentView]:
        """Those that exist. Raises: Unavailable."""


class Inquiring(Protocol):
    """Who has the PSP asked."""

    async def ask_inquiry(self, payment_id: str, *, now_s: float) -> Pointer | None:
        """None when the outcome is known, or was asked for just now. Raises: Unavailable."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Checkout:
    """Leads the customer."""

    reading: CheckoutReading
    inquiring: Inquiring
    waiters: Waiters[PaymentView]
    announcer: Announcer
    clock: Callable[[], float] = time.time

    async def enter(self, request: web.Request) -> web.Response:
        """To the PSP's page as soon as there is one; back to the shop when it is over."""
        try:
            view = await self._find(request)
        except PaynodeError:
            return _page(_UNAVAILABLE, status=503)
        if view is None:
            return _page(_UNKNOWN, status=404)
        if view.status is Status.REQUIRES_ACTION and view.page_url is not None:
            return _redirect(view.page_url)
        if view.is_final:
            return _redirect(shop_url(view))
        if view.status is Status.REVIEW:
            return _page(_REVIEWING)
        return _page(_OPENING if view.status is Status.CREATED else _CONFIRMING)

    async def come_back(self, request: web.Request) -> web.Response:
        """From the PSP's page to the shop, with the status if it comes in time."""
        try:
            view = await self._find(request)
            if view is None:
                return _page(_UNKNOWN, status=404)
            return _redirect(shop_url(view if view.is_final else await self._settled(view)))
        except PaynodeError:
            return _page(_UNAVAILABLE, status=503)

    async def _find(self, request: web.Request) -> PaymentView | None:
        payment_id = ids.parse(ids.PAYMENT, request.match_info["id"])
        views = await self.reading.payments_by_id([payment_id]) if payment_id else []
        # A payment by token has no customer to lead.
        if not views or views[0].method is not Method.HOSTED_PAGE:
            return None
        request[CONTEXT].facts["payment_id"] = request.match_info["id"]
        return views[0]

    async def _settled(self, view: PaymentView) -> PaymentView:
        """The payment once its callback is folded, else once an inquiry is, else as it is.

        One may wait for it at a time: whoever has the link needs no key, and every wait takes a place of others.
        """
        if self.waiters.is_watched(view.id):
            return view
        with self.waiters.watch(view.id, look_now=True) as watch:
            seen = await watch.until(_is_final, within_s=_CALLBACK_WAIT_S) or view
            if seen.is_final:
                return seen
            pointer = await self.inquiring.ask_inquiry(view.id, now_s=self.clock())
            if pointer is not None:
                self.announcer.announce([pointer])
            return await watch.until(_is_final, within_s=_INQUIRY_WAIT_S) or seen


def shop_url(view: PaymentView) -> str:
    """The merchant's own page, told which payment and how it stands; what its query had before stays."""
    assert view.return_url is not None, "a hosted payment has one: the gate saw to it"
    parts = urlsplit(view.return_url)
    ours: Mapping[str, str] = {"payment_id": ids.public(ids.PAYMENT, view.id), "status": view.status}
    # As it stands, and not parsed and written again: a shop may have signed it.
    query = "&".join(part for part in (parts.query, urlencode(ours)) if part)
    return urlunsplit(parts._replace(path=parts.path or "/", query=query))


def _is_final(view: PaymentView) -> bool:
    return view.is_final


def _redirect(url: str) -> web.Response:
    return web.Response(status=303, headers={"Location": url})


def _page(text: _Text, *, status: int = 200) -> web.Response:
    content = _PAGE.render(title=text.title, text=text.text, is_waiting=text.is_waiting, style=_STYLE)
    return web.Response(
        status=status,
        text=content,
        content_type="text/html",
        charset="utf-8",
        headers={"Content-Security-Policy": _CSP},
    )
