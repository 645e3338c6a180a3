"""A customer: what they see, what they press, and what their browser complains of."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, Self
from urllib.parse import urlsplit

from playwright.async_api import Browser, BrowserContext, Locator, Page, Request, expect

from tests.support.installation import Installation

PRICE = "24.90 EUR"
PRICE_MINOR = 2490

# The way back waits 2.5 s for the outcome, and then the order's page looks again every 5 s.
_STANDING_MS = 15_000


@dataclass(kw_only=True)
class Customer:
    """One browser profile with one tab open."""

    context: BrowserContext
    page: Page
    installation: Installation
    complaints: list[str] = field(default_factory=list)
    requests: list[Request] = field(default_factory=list)

    @classmethod
    @asynccontextmanager
    async def visiting(cls, browser: Browser, installation: Installation, **device: Any) -> AsyncIterator[Self]:
        """Raises: AssertionError with what the browser complained of, if it did."""
        context = await browser.new_context(**device)
        customer = cls(context=context, page=await context.new_page(), installation=installation)
        customer._listen()
        try:
            yield customer
        finally:
            await context.close()
        assert not customer.complaints, customer.complaints

    def _listen(self) -> None:
        self.context.on("request", self._note)
        self.context.on("console", lambda message: self._complain(f"console {message.type}: {message.text}"))
        self.context.on("weberror", lambda error: self._complain(f"uncaught: {error.error}"))

    def _note(self, request: Request) -> None:
        self.requests.append(request)
        if urlsplit(request.url).hostname != "127.0.0.1":
            self._complain(f"a request to another host: {request.url}")

    def _complain(self, complaint: str) -> None:
        self.complaints.append(complaint)

    # -- what stands on a page --------------------------------------------------------------------------------------

    def button(self, name: str) -> Locator:
        return self.page.get_by_role("button", name=name, exact=True)

    @property
    def pay_button(self) -> Locator:
        """The shop's or the hosted page's: both say what it costs."""
        return self.button(f"Pay {PRICE}")

    def link(self, name: str) -> Locator:
        return self.page.get_by_role("link", name=name, exact=True)

    async def sees(self, headline: str) -> None:
        await expect(self.page.get_by_role("heading", level=1, name=headline, exact=True)).to_be_visible()

    async def is_told(self, standing: str) -> None:
        """At the shop again, on the page of an order that stands so."""
        await expect(self.page.get_by_role("status")).to_have_text(standing, timeout=_STANDING_MS)
        await self.sees("Your order")

    # -- what customers do ------------------------------------------------------------------------------------------

    @property
    def shop_url(self) -> str:
        shop = self.installation.settings.shop
        return f"http://{shop.host}:{shop.port}"

    async def enter_the_shop(self) -> None:
        await self.page.goto(self.shop_url)
        await self.sees("Paper lantern")

    async def go_to_pay(self) -> None:
        """From the shop's door to the hosted page."""
        await self.enter_the_shop()
        await self.pay_button.click()
        await self.sees("Payment")

    # -- what came of it --------------------------------------------------------------------------------------------

    @property
    def order_id(self) -> str:
        """Of the order whose page is open."""
        return urlsplit(self.page.url).path.rpartition("/")[2]

    async def payments(self) -> list[str]:
        """The ids of what was begun for the open order."""
        rows = await self.installation.rows("SELECT id::text AS id FROM payments WHERE order_id = $1", self.order_id)
        return [row["id"] for row in rows]

    async def charges(self) -> list[tuple[str, int]]:
        """What the book says of the open order: result and amount."""
        rows = await self.installation.rows(
            "SELECT id::text AS id FROM operations WHERE payment_id::text = ANY($1)", await self.payments()
        )
        ours = {row["id"] for row in rows}
        book = await self.installation.book()
        return [(line["result"], line["amount"]) for line in book if line["our_reference"] in ours]

    def presses(self, path_end: str) -> int:
        """How often a form was sent there, answered or not."""
        sent = (request.url for request in self.requests if request.method == "POST")
        return sum(url.endswith(path_end) for url in sent)
