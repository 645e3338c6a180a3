"""`GET /v1/payments…`: one payment, a merchant's payments, a payment's timeline."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Protocol

from aiohttp import web

from paynode.domain import ids
from paynode.domain.payment import Status
from paynode.domain.reading import PaymentPage, PaymentView, TimelineEvent
from paynode.http import query, representation
from paynode.http.authentication import Doorman
from paynode.http.context import CONTEXT
from paynode.http.problem import not_found

_ENTITY_TAG: Final = re.compile(r'(?:W/)?("[\x21\x23-\x7e\x80-\xff]*")')
_LIST: Final = {
    "order_id": query.order_id,
    "status": query.status,
    "limit": query.limit,
    "cursor": query.id_cursor("payments"),
}
_TIMELINE: Final = {"limit": query.limit, "cursor": query.number_cursor("events")}


class PaymentReading(Protocol):
    """Where payments are read. All of it raises Unavailable."""

    async def payment(self, merchant_id: str, payment_id: str) -> PaymentView | None:
        """A payment of this merchant."""

    async def payments(self, page: PaymentPage) -> Sequence[PaymentView]:
        """One page, newest first."""

    async def events(self, payment_id: str, *, after_version: int, limit: int) -> Sequence[TimelineEvent]:
        """A part of a timeline, oldest first."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Payments:
    """Shows payments to their merchants."""

    doorman: Doorman
    reading: PaymentReading
    base_url: str

    async def show(self, request: web.Request) -> web.Response:
        """One payment, or 304 when the client has this version."""
        view = await self._find(request)
        tag = representation.etag(view)
        # To be kept, but asked about before every use: that is what the tag is for.
        headers = {"ETag": tag, "Cache-Control": "private, no-cache"}
        if is_known(tag, request.headers.getall("If-None-Match", [])):
            return web.Response(status=304, headers=headers)
        return representation.shown(representation.payment(view, self.base_url), headers)

    async def index(self, request: web.Request) -> web.Response:
        """One page of the merchant's payments."""
        merchant = await self.doorman.merchant(request)
        asked = query.read_query(request, _LIST)
        limit = query.limit_of(asked)
        views = await self.reading.payments(
            PaymentPage(
                merchant_id=merchant.merchant_id,
                order_id=query.get(asked, "order_id", str),
                status=query.get(asked, "status", Status),
                before=query.get(asked, "cursor", str),
                limit=limit + 1,  # one more tells whether there are more
            )
        )
        cursor = query.cursor_of("payments", views[limit - 1].id) if len(views) > limit else None
        entries = [representation.payment(view, self.base_url) for view in views[:limit]]
        return representation.shown(representation.page(entries, cursor))

    async def timeline(self, request: web.Request) -> web.Response:
        """One page of what happened to a payment."""
        view = await self._find(request)
        asked = query.read_query(request, _TIMELINE)
        limit = query.limit_of(asked)
        after = query.get(asked, "cursor", int) or 0
        events = await self.reading.events(view.id, after_version=after, limit=limit + 1)
        cursor = query.cursor_of("events", str(events[limit - 1].version)) if len(events) > limit else None
        entries = [representation.event(event) for event in events[:limit]]
        return representation.shown(representation.page(entries, cursor))

    async def _find(self, request: web.Request) -> PaymentView:
        merchant = await self.doorman.merchant(request)
        payment_id = ids.parse(ids.PAYMENT, request.match_info["id"])
        view = await self.reading.payment(merchant.merchant_id, payment_id) if payment_id else None
        if view is None:
            raise not_found("payment")
        request[CONTEXT].facts["payment_id"] = request.match_info["id"]
        return view


def is_known(tag: str, headers: Sequence[str]) -> bool:
    """Whether If-None-Match names the version (weak comparison; `*` names every one)."""
    listed = ",".join(headers)
    return listed.strip() == "*" or tag in _ENTITY_TAG.findall(listed)
