"""`GET /v1/payments/{id}/refunds…` and `…/operations/{id}`: what was asked about a payment, and what came of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Protocol

from aiohttp import web

from paynode.domain import ids
from paynode.domain.payment import OperationKind
from paynode.domain.reading import OperationView, PaymentView, RefundPage
from paynode.http import query, representation
from paynode.http.authentication import Doorman
from paynode.http.context import CONTEXT
from paynode.http.problem import not_found

_LIST: Final = {"limit": query.limit, "cursor": query.id_cursor("refunds")}


class OperationReading(Protocol):
    """Where operations are read. All of it raises Unavailable."""

    async def payment(self, merchant_id: str, payment_id: str) -> PaymentView | None:
        """A payment of this merchant."""

    async def operations_by_id(self, ids: Sequence[str]) -> Sequence[OperationView]:
        """Those that exist, whoever's they are, in no order."""

    async def refunds(self, page: RefundPage) -> Sequence[OperationView]:
        """One page, newest first."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Operations:
    """Shows refunds, captures, voids and cancels to the payment's merchant."""

    doorman: Doorman
    reading: OperationReading

    async def refunds(self, request: web.Request) -> web.Response:
        """One page of a payment's refunds."""
        merchant_id, payment_id = await self._payment(request)
        asked = query.read_query(request, _LIST)
        limit = query.limit_of(asked)
        if await self.reading.payment(merchant_id, payment_id) is None:
            raise not_found("payment")
        views = await self.reading.refunds(
            RefundPage(
                merchant_id=merchant_id,
                payment_id=payment_id,
                before=query.get(asked, "cursor", str),
                limit=limit + 1,  # one more tells whether there are more
            )
        )
        cursor = query.cursor_of("refunds", views[limit - 1].id) if len(views) > limit else None
        return representation.shown(
            representation.page([representation.refund(view) for view in views[:limit]], cursor)
        )

    async def refund(self, request: web.Request) -> web.Response:
        """One refund, also one that is not decided yet or was refused."""
        return representation.shown(representation.refund(await self._find(request, ids.REFUND)))

    async def operation(self, request: web.Request) -> web.Response:
        """One capture, void or cancel, likewise."""
        return representation.shown(representation.operation(await self._find(request, ids.OPERATION)))

    async def _find(self, request: web.Request, prefix: str) -> OperationView:
        merchant_id, payment_id = await self._payment(request)
        operation_id = ids.parse(prefix, request.match_info["operation"])
        views = await self.reading.operations_by_id([operation_id]) if operation_id else []
        for view in views:
            is_refund = view.kind == OperationKind.REFUND
            is_theirs = view.payment.merchant_id == merchant_id and view.payment.id == payment_id
            if is_theirs and is_refund == (prefix == ids.REFUND):
                return view
        raise not_found("refund" if prefix == ids.REFUND else "operation")

    async def _payment(self, request: web.Request) -> tuple[str, str]:
        """The merchant and the payment's id; that the payment is his is still to be seen."""
        merchant = await self.doorman.merchant(request)
        payment_id = ids.parse(ids.PAYMENT, request.match_info["id"])
        if payment_id is None:
            raise not_found("payment")
        request[CONTEXT].facts["payment_id"] = request.match_info["id"]
        return merchant.merchant_id, payment_id
