"""Errors as RFC 9457 `application/problem+json`, each with a stable `code`."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Final

import orjson
from aiohttp import web

from paynode.domain import ids
from paynode.domain.errors import (
    IdempotencyKeyInFlight,
    IdempotencyKeyReused,
    NoRoute,
    OrderHasOpenPayment,
    PaynodeError,
    Rejected,
    Transient,
)
from paynode.runtime.grouping import GroupFull, GroupStopped

CONTENT_TYPE: Final = "application/problem+json"

# Errors shown at once. A body of 16 KiB can hold thousands; nobody reads more than these.
ERRORS_MAX: Final = 100
# Seconds after which a shed or failed request is worth trying again: groups, elections and restarts take about that.
RETRY_AFTER_S: Final = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Flaw:
    """One thing wrong with a request: `pointer` (RFC 6901) into its body, or the name of a query parameter."""

    detail: str
    pointer: str | None = None
    parameter: str | None = None

    def as_member(self) -> dict[str, str]:
        """The flaw as it stands in `errors`."""
        place = {"pointer": self.pointer} if self.pointer is not None else {"parameter": self.parameter}
        return {"detail": self.detail} | {name: value for name, value in place.items() if value is not None}


@dataclass(slots=True, kw_only=True, eq=False)  # eq would take away the hash that exceptions need
class Problem(Exception):
    """An answer that is an error; raised anywhere below the middleware."""

    status: int
    code: str
    detail: str
    errors: Sequence[Flaw] = ()
    members: Mapping[str, str] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)
    is_last: bool = False  # whether the connection is closed after it

    def response(self, request_id: str) -> web.Response:
        """The answer itself; `request_id` is empty when what came was no request."""
        response = web.Response(status=self.status, headers=self.headers, body=self.body(request_id))
        response.headers["Content-Type"] = CONTENT_TYPE
        if self.is_last:
            response.force_close()
        return response

    def body(self, request_id: str) -> bytes:
        """The JSON of it."""
        content: dict[str, object] = {
            "type": "about:blank",
            "title": HTTPStatus(self.status).phrase,
            "status": self.status,
            "code": self.code,
            "detail": self.detail,
        }
        if request_id:
            content["request_id"] = request_id
        if self.errors:
            content["errors"] = [flaw.as_member() for flaw in self.errors[:ERRORS_MAX]]
        return orjson.dumps({**content, **self.members})


def retry_after(seconds: float = RETRY_AFTER_S) -> dict[str, str]:
    """The header: whole seconds, at least one."""
    return {"Retry-After": str(max(1, math.ceil(seconds)))}


def not_found(what: str) -> Problem:
    """What does not exist, is not of this merchant, or has no well-formed id: nobody can tell these apart."""
    return Problem(status=404, code="not_found", detail=f"no such {what}")


def of_rejection(error: Rejected) -> Problem:
    """A business "no"."""
    match error:
        case IdempotencyKeyReused():
            return Problem(status=422, code=error.code, detail=str(error))
        case IdempotencyKeyInFlight():
            return Problem(status=409, code=error.code, detail=str(error), headers=retry_after(error.retry_after_s))
        case OrderHasOpenPayment():
            payment_id = ids.public(ids.PAYMENT, error.payment_id)
            detail = f"the order has the open payment {payment_id}"
            return Problem(status=409, code=error.code, detail=detail, members={"payment_id": payment_id})
        case NoRoute():
            return Problem(status=422, code=error.code, detail=str(error))
        case _:
            return Problem(status=422, code=error.code, detail="the request was refused")


def of_error(error: PaynodeError | GroupFull | GroupStopped) -> Problem:
    """What an error of the error tree says to a client; nothing of a server's own words."""
    match error:
        case Rejected():
            return of_rejection(error)
        case Transient():
            detail = "a server behind this one does not answer; whether the request took effect shows its retry"
            return Problem(status=503, code=error.code, detail=detail, headers=retry_after())
        case GroupFull():
            detail = "more requests wait than may; nothing was done"
            return Problem(status=503, code="overloaded", detail=detail, headers=retry_after())
        case GroupStopped():
            detail = "this server is being stopped; nothing was done"
            return Problem(status=503, code="stopping", detail=detail, headers=retry_after())
        case _:
            return internal_error()


def internal_error() -> Problem:
    """A flaw of ours. What it was stands in the log, under the request's id."""
    return Problem(status=500, code="internal_error", detail="this server has a flaw; the request's id finds it")


def of_http(error: web.HTTPException) -> Problem:
    """aiohttp's own refusals, in our form."""
    match error:
        case web.HTTPMethodNotAllowed():
            allowed = ", ".join(sorted(error.allowed_methods))
            detail = f"allowed here: {allowed}"
            return Problem(status=405, code="method_not_allowed", detail=detail, headers={"Allow": allowed})
        case web.HTTPNotFound():
            return not_found("resource")
        case web.HTTPRequestEntityTooLarge():
            return Problem(status=413, code="body_too_large", detail="the body is larger than allowed", is_last=True)
        case _:
            return Problem(status=error.status, code="refused", detail=HTTPStatus(error.status).phrase)
