"""What became of an operation at Stripe, found without asking for anything.

Where Stripe's own reference leads to it, the object is read. Where only ours does, a search finds the PaymentIntent by
what was written on it. Stripe's search lags by seconds, in bad hours by an hour; but within the life of the key "not
found" makes the gateway send the stored bytes again, which Stripe answers with what it answered first, and later an
hour is long past. Pages cannot be searched for: they are listed, and lists never lag.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Final, TypeVar

from pydantic import BaseModel

from paynode.domain.payment import Method, OperationKind, PspOrder
from paynode.domain.psp import Answer, Outcome
from paynode.psp import stripe_requests as asked
from paynode.psp.stripe_reading import Item, ListTooLong, Reader, understood
from paynode.psp.stripe_words import Intent, Refund, Session, unsettled

# Seconds before the making of an operation to which Stripe's clock may date what came of it.
_CLOCK_SKEW_S: Final = 120
# Seconds after it in which to look first: nearly all are sent at once, and a list begins with its newest.
_WINDOWS_S: Final = (300, 3600, 86400)
# Seconds within which the gateway looks at its own clock after it has been answered here.
_MOMENT_S: Final = 1
# Pages of a list, in one of these windows: an account may make 100 requests a second, of all kinds.
_PAGES_MAX: Final = 4

_UUID: Final = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.ASCII)

M = TypeVar("M", bound=BaseModel)


class Inquiries:
    """Finds operations. All of it raises Unavailable. `clock` is in seconds since 1970."""

    def __init__(
        self, reader: Reader, *, has_search: bool, idempotent_for_s: float, clock: Callable[[], float]
    ) -> None:
        self._reader = reader
        self._has_search = has_search
        self._idempotent_for_s = idempotent_for_s
        self._clock = clock

    async def find(self, order: PspOrder, *, deadline: float) -> Answer | None:
        """What became of an operation; None: nothing of it is at Stripe."""
        match order.kind:
            case OperationKind.SALE | OperationKind.AUTHORIZE:
                return await self._charge(order, deadline)
            case OperationKind.REFUND:
                return await self._refund(order, deadline)
            case OperationKind.CANCEL:
                session = await self._reader.one(Session, asked.about_session(order), deadline=deadline)
                return unsettled("page_missing") if session is None else session.closed()
            case OperationKind.CAPTURE | OperationKind.VOID:
                return await self._intent(order, deadline)

    async def _charge(self, order: PspOrder, deadline: float) -> Answer | None:
        known = order.charge_reference or ""
        if known.startswith("pi_"):
            return await self._intent(order, deadline)
        if known.startswith("cs_"):
            session = await self._reader.one(Session, asked.about_session(order), deadline=deadline)
            return unsettled("page_missing") if session is None else await self._opened(session, deadline)
        return await self._unnamed(order, deadline)

    async def _intent(self, order: PspOrder, deadline: float) -> Answer | None:
        intent = await self._reader.one(Intent, asked.about_intent(order), deadline=deadline)
        if intent is None:
            return unsettled("charge_missing")
        match order.kind:
            case OperationKind.CAPTURE:
                return intent.captured(order.operation_id)
            case OperationKind.VOID:
                return intent.voided()
            case _:
                return intent.charged()

    async def _unnamed(self, order: PspOrder, deadline: float) -> Answer | None:
        is_token = order.method is Method.TOKEN
        try:
            if not is_token:
                session = await self._listed(Session, asked.SESSIONS, order, deadline)
                return None if session is None else await self._opened(session, deadline)
            if not self._has_search:
                intent = await self._listed(Intent, asked.INTENTS, order, deadline)
                return None if intent is None else intent.charged()
        except ListTooLong:
            if not self._has_search:
                return self._lost(order)
        try:
            intent = await self._searched(order, deadline)
        except ListTooLong:
            # A whole page of what is marked as this one charge: there is something, and which it is nobody knows.
            return unsettled("not_findable")
        if intent is not None:
            return intent.charged()
        # A page on which nobody has tried to pay has no PaymentIntent that could be found.
        return None if is_token else self._lost(order)

    def _lost(self, order: PspOrder) -> Answer | None:
        """Nobody can say. As long as the stored bytes may be sent again they can: "not found" sends them.

        The key must live, and the payment's own time must not be over: after it the gateway sends nothing, and takes
        "not found" at its word.
        """
        now_s, born_s = self._clock(), _born_s(order.operation_id)
        is_young = born_s is not None and now_s - born_s < self._idempotent_for_s
        has_time = order.give_up_at_ms is None or (now_s + _MOMENT_S) * 1000 < order.give_up_at_ms
        return None if is_young and has_time else unsettled("not_findable")

    async def _opened(self, session: Session, deadline: float) -> Answer:
        said = session.opened()
        if said.outcome is not Outcome.UNKNOWN or session.intent_id is None:
            return said
        intent = await self._reader.one(Intent, f"{asked.INTENTS}/{session.intent_id}", deadline=deadline)
        return said if intent is None else intent.charged()

    async def _refund(self, order: PspOrder, deadline: float) -> Answer | None:
        query = {"payment_intent": order.charge_reference or ""}
        refunds = self._reader.listed(asked.REFUNDS, query, pages_max=_PAGES_MAX, deadline=deadline)
        try:
            async for item in refunds:
                if _is_of(order, item):
                    return understood(Refund, item).refunded()
        except ListTooLong:
            return unsettled("not_findable")
        return None

    async def _searched(self, order: PspOrder, deadline: float) -> Intent | None:
        """The search says which; the object itself says how it stands, because what is indexed may be old."""
        if _UUID.fullmatch(order.operation_id) is None:
            return None
        query = {"query": f"metadata['{asked.OPERATION}']:'{order.operation_id}'"}
        found = self._reader.listed(f"{asked.INTENTS}/search", query, pages_max=1, deadline=deadline)
        best: Intent | None = None
        async for item in found:
            if _is_of(order, item):
                path = f"{asked.INTENTS}/{understood(Intent, item).id}"
                intent = await self._reader.one(Intent, path, deadline=deadline)
                if best is None or (intent is not None and intent.charged().outcome is Outcome.APPROVED):
                    best = intent
        return best

    async def _listed(self, model: type[M], path: str, order: PspOrder, deadline: float) -> M | None:
        for window in self._windows(order):
            async for item in self._reader.listed(path, window, pages_max=_PAGES_MAX, deadline=deadline):
                if _is_of(order, item):
                    return understood(model, item)
        return None

    def _windows(self, order: PspOrder) -> Iterator[dict[str, str]]:
        now_s = int(self._clock())
        born_s = _born_s(order.operation_id)
        if born_s is None:
            born_s = now_s - _WINDOWS_S[-1]
        end_s = now_s + _CLOCK_SKEW_S
        begin_s = born_s - _CLOCK_SKEW_S
        for edge_s in (*(born_s + length_s for length_s in _WINDOWS_S), end_s):
            if begin_s >= end_s:
                return
            yield {"created[gte]": str(begin_s), "created[lt]": str(min(edge_s, end_s))}
            begin_s = edge_s


def _is_of(order: PspOrder, item: Item) -> bool:
    marks = item.get("metadata")
    return isinstance(marks, dict) and marks.get(asked.OPERATION) == order.operation_id


def _born_s(operation_id: str) -> int | None:
    """When it was made, as its UUIDv7 says; None: it is none."""
    if _UUID.fullmatch(operation_id) is None or operation_id[14] != "7":
        return None
    return int(operation_id.replace("-", "")[:12], 16) // 1000
