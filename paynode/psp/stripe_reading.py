"""Questions to Stripe: one object, or a list in pages."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Mapping
from typing import Final, TypeVar

from pydantic import BaseModel, Field, ValidationError

from paynode.psp.errors import Unavailable
from paynode.psp.stripe_words import Refusal, Said
from paynode.psp.transport import NoReply, PspTransport

# Of a list, Stripe's own limit at a time: some 6 KB each, with what is expanded in them.
_PAGE_SIZE: Final = 100
_PAGE_BYTES_MAX: Final = 1 << 21

# Seconds for one page of what nobody waits for.
_PAGE_DEADLINE_S: Final = 20.0

M = TypeVar("M", bound=BaseModel)
Item = dict[str, object]


class ListTooLong(Exception):
    """More pages than one question may read."""


class _Page(Said):
    """A page of a list, newest first. What it holds may be anybody's: it is read by whoever knows it for his own."""

    has_more: bool
    data: list[Item] = Field(max_length=_PAGE_SIZE)


class Reader:
    """Reads. Everything here raises Unavailable, with a reason as an Answer has it."""

    def __init__(self, transport: PspTransport) -> None:
        self._transport = transport

    async def one(self, model: type[M], path: str, *, deadline: float) -> M | None:
        """One object; None: Stripe says that it has none by this id."""
        reply = await self._transport.get(path, {}, deadline=deadline)
        if isinstance(reply, NoReply):
            raise Unavailable(reply.reason)
        if reply.status == 404 and _is_missing(reply.body):
            return None
        return _read(model, reply.status, reply.body)

    async def listed(
        self, path: str, query: Mapping[str, str], *, pages_max: int | None, deadline: float | None = None
    ) -> AsyncIterator[Item]:
        """What a list holds, newest first. Raises: ListTooLong."""
        asked = {"limit": str(_PAGE_SIZE)} | dict(query)
        read = 0
        while pages_max is None or read < pages_max:
            page = await self._page(path, asked, deadline)
            read += 1
            for item in page.data:
                yield item
            if not page.has_more or not page.data:
                return
            asked["starting_after"] = str(page.data[-1].get("id"))
        raise ListTooLong

    async def _page(self, path: str, query: Mapping[str, str], deadline: float | None) -> _Page:
        until = time.monotonic() + _PAGE_DEADLINE_S if deadline is None else deadline
        reply = await self._transport.get(path, dict(query), deadline=until, bytes_max=_PAGE_BYTES_MAX)
        if isinstance(reply, NoReply):
            raise Unavailable(reply.reason)
        return _read(_Page, reply.status, reply.body)


def understood(model: type[M], item: Item) -> M:
    """An item of a list that is ours. Raises: Unavailable."""
    try:
        return model.model_validate(item)
    except ValidationError as error:
        raise Unavailable("answer_invalid") from error


def _read(model: type[M], status: int, body: bytes) -> M:
    if status != 200:
        raise Unavailable(f"http_{status}")
    try:
        return model.model_validate_json(body)
    except ValidationError as error:
        raise Unavailable("answer_invalid") from error


def _is_missing(body: bytes) -> bool:
    try:
        return Refusal.model_validate_json(body).error.code == "resource_missing"
    except ValidationError:
        return False
