"""A request's body: small, whole, in time, and not compressed."""

from __future__ import annotations

import asyncio

from aiohttp import web

from paynode.http.problem import Problem
from paynode.sections import Http


async def read_body(request: web.Request, limits: Http) -> bytes:
    """The bytes of the body.

    Raises: Problem (408, 413, 415); ConnectionError when the client goes away.
    """
    if request.headers.get("Content-Encoding", "identity").lower() != "identity":
        # Never unpacked: 200 KB on the wire can be 200 MB here.
        raise Problem(
            status=415,
            code="content_encoding_unsupported",
            detail="send the body as it is",
            headers={"Accept-Encoding": "identity"},
        )
    if request.content_length is not None and request.content_length > limits.body_bytes_max:
        raise web.HTTPRequestEntityTooLarge(max_size=limits.body_bytes_max, actual_size=request.content_length)
    if request.content.is_eof():
        return await request.read()  # all of it is here, as almost always: no timer for nothing
    deadline = asyncio.timeout(limits.body_deadline_s)
    try:
        async with deadline:
            # read() and nothing else: only it counts the bytes of a body without Content-Length.
            return await request.read()
    except TimeoutError:
        if not deadline.expired():
            raise
        detail = f"the body did not arrive within {limits.body_deadline_s:g} s"
        raise Problem(status=408, code="body_too_slow", detail=detail, is_last=True) from None


async def read_json(request: web.Request, limits: Http) -> bytes:
    """The bytes of a body that says it is JSON.

    Raises: as `read_body`.
    """
    charset = (request.charset or "utf-8").lower()
    is_json = request.content_type == "application/json" and charset in ("utf-8", "utf8")
    if not is_json or len(request.headers.getall("Content-Type")) > 1:
        raise Problem(
            status=415,
            code="content_type_unsupported",
            detail="the body must be application/json in UTF-8",
            headers={"Accept": "application/json"},
        )
    return await read_body(request, limits)
