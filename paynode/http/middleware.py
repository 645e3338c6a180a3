"""Around every request: its id, its trace, its deadline, one log line, and every error as a problem."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Final, Protocol, TypeAlias

import uuid_utils
from aiohttp import web
from aiohttp.typedefs import Handler, Middleware

from paynode.domain import ids
from paynode.domain.errors import PaynodeError
from paynode.http import problem
from paynode.http.connections import Connection
from paynode.http.context import CONTEXT, Context
from paynode.http.dressing import HEADERS
from paynode.http.problem import Problem
from paynode.http.shedding import Gate
from paynode.http.tracing import continued
from paynode.http.work import Work, work_of
from paynode.runtime.grouping import GroupFull, GroupStopped

# Nobody's client may make up a new label: a metric would grow without end.
_METHODS: Final = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
_UNMATCHED: Final = "unmatched"
# nginx's word for a client that went away; it is in no answer, only in the log and the metrics.
_CLIENT_WENT_AWAY: Final = 499


class Observer(Protocol):
    """Who is told about requests."""

    def answered(self, *, route: str, method: str, status: int, seconds: float, facts: Mapping[str, str]) -> None:
        """A request was answered. `route` is a template and never a path: it is a metric's label."""

    def crashed(self, error: Exception, *, request_id: str) -> None:
        """A flaw of ours was answered with 500."""

    def shed(self, work: str, reason: str) -> None:
        """A request was refused because there is too much of its kind."""


Reading: TypeAlias = Callable[[web.Request], Awaitable[object]]


def surrounding(
    observer: Observer, *, deadline_s: float, gate: Gate | None = None, read: Reading | None = None
) -> Middleware:
    """The one middleware. One and not five: each costs every request a call and a frame.

    `gate` says who comes in; without one everybody does. `read` takes the body of a callback, whose sender is believed
    by it and not by its head: while it arrives it has no place, or anybody could fill them all with bodies that do not.
    """

    @web.middleware
    async def surround(request: web.Request, handler: Handler) -> web.StreamResponse:
        started = time.perf_counter()
        deadline = asyncio.timeout(deadline_s)
        connection = request.protocol if isinstance(request.protocol, Connection) else None
        context = Context(
            request_id=ids.public("req", str(uuid_utils.uuid7())),
            trace=continued(request.headers.getall("traceparent", [])),
            deadline=deadline,
        )
        request[CONTEXT] = context
        status = _CLIENT_WENT_AWAY
        try:
            response = await _answer(request, handler, context, connection, observer, gate, read)
            status = response.status
        finally:
            if connection is not None:
                connection.slacken()
            route, method = _route(request), request.method if request.method in _METHODS else "other"
            facts = {"request_id": context.request_id, "trace_id": context.trace.trace_id} | context.facts
            seconds = time.perf_counter() - started
            observer.answered(route=route, method=method, status=status, seconds=seconds, facts=facts)
        _dress(response, context)
        return response

    return surround


async def _answer(
    request: web.Request,
    handler: Handler,
    context: Context,
    connection: Connection | None,
    observer: Observer,
    gate: Gate | None,
    read: Reading | None,
) -> web.StreamResponse:
    try:
        async with context.deadline:
            if gate is None:
                return await handler(request)
            work = work_of(request)
            if read is not None and work is Work.CALLBACK:
                if connection is not None:
                    connection.slacken()
                await read(request)  # the request keeps what was read
            if connection is not None:
                connection.was_of_use()
            with gate.admitted(work) as context.admission:
                return await handler(request)
    except Exception as error:  # the outermost place: what is not ours to answer is raised again
        if isinstance(error, ConnectionError) and (request.transport is None or request.transport.is_closing()):
            raise  # the client went away: nobody reads an answer
        found = _problem(error, context)
        if found.status == 500:
            observer.crashed(error, request_id=context.request_id)
        if isinstance(error, GroupFull) and context.admission is not None:
            observer.shed(context.admission.work, "group")
        context.facts["code"] = found.code
        return found.response(context.request_id)


def _problem(error: Exception, context: Context) -> Problem:
    match error:
        case Problem():
            return error
        case PaynodeError() | GroupFull() | GroupStopped():
            return problem.of_error(error)
        case web.HTTPException():
            return problem.of_http(error)
        case web.RequestPayloadError():
            return Problem(status=400, code="body_malformed", detail="the body's framing is broken", is_last=True)
        case TimeoutError() if context.deadline.expired():
            detail = "the request took too long; whether it took effect shows its retry"
            return Problem(status=503, code="deadline_exceeded", detail=detail, headers=problem.retry_after())
        case _:
            return problem.internal_error()


def _route(request: web.Request) -> str:
    resource = request.match_info.route.resource
    return resource.canonical if resource is not None else _UNMATCHED


def _dress(response: web.StreamResponse, context: Context) -> None:
    headers = response.headers
    for name, value in HEADERS.items():
        headers.setdefault(name, value)
    if context.admission is not None:
        headers.update(context.admission.fields)
    headers["Request-Id"] = context.request_id
    headers["traceparent"] = context.trace.traceparent
