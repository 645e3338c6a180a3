"""Errors that the API answers, and the one place that turns them into a response."""

from __future__ import annotations

import logging

import orjson
from aiohttp import web
from aiohttp.typedefs import Handler
from pydantic import ValidationError

from paynode.sim.journal import JournalUnusable

log = logging.getLogger(__name__)


class Refusal(Exception):
    """Ends a request with `{"error": {"code", "message"}}`."""

    def __init__(self, status: int, code: str, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.message = message

    def response(self, headers: dict[str, str] | None = None) -> web.Response:
        body = orjson.dumps({"error": {"code": self.code, "message": self.message}})
        return web.Response(status=self.status, body=body, content_type="application/json", headers=headers)


def what_is_wrong(error: ValidationError) -> str:
    """Every fault of a body with its path, without the values that were sent."""
    return "; ".join(f"{'.'.join(map(str, e['loc'])) or 'body'}: {e['msg']}" for e in error.errors())


@web.middleware
async def answer_refusals(request: web.Request, handler: Handler) -> web.StreamResponse:
    try:
        return await handler(request)
    except Refusal as refusal:
        return refusal.response()
    except JournalUnusable:
        # Whether the line is on the disk is open: a 500 says just that.
        return Refusal(500, "book_unusable", "the charge book cannot be written; ask again later").response()
