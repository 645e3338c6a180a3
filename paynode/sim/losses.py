"""Losing an answer on purpose: before the work, after it, or by a form that nobody can read."""

from __future__ import annotations

import asyncio
import zlib
from collections.abc import Awaitable, Callable, Iterator
from functools import cache
from typing import Final

from aiohttp import web

from paynode.sim.faults import Faults
from paynode.sim.refusals import Refusal
from paynode.sim.scripts import Mishap

_BEFORE: Final = {Mishap.ERROR_BEFORE, Mishap.HANG_BEFORE}

_HUGE_BYTES: Final = 5_000_000
_BOMB_BYTES: Final = 20_000_000
_PIECE: Final = 1 << 16
# Long past any deadline; and a client that reads for ever shall not keep us for ever.
_SLOW_BYTES: Final = 600
_HEADERS_BYTES_MAX: Final = 50_000_000


class Losses:
    def __init__(self, faults: Faults) -> None:
        self._faults = faults
        self._met: set[str] = set()

    def first_time(self, idempotency_key: str, mishap: Mishap | None) -> Mishap | None:
        """A scripted mishap bites once for each key, so that the same key sent again gets the real answer."""
        if mishap is None or idempotency_key in self._met:
            return None
        self._met.add(idempotency_key)
        return mishap

    async def around(
        self, request: web.Request, mishap: Mishap | None, work: Callable[[], Awaitable[web.StreamResponse]]
    ) -> web.StreamResponse:
        if mishap is not None:
            self._faults.bitten[mishap.value] += 1
        if mishap in _BEFORE:
            return await _lose(request, mishap)
        response = await work()
        return response if mishap is None else await _lose(request, mishap)


async def _lose(request: web.Request, mishap: Mishap) -> web.StreamResponse:
    match mishap:
        case Mishap.ERROR_BEFORE:
            return Refusal(503, "unavailable", "try again later").response()
        case Mishap.ERROR_AFTER:
            return Refusal(500, "internal_error", "something went wrong").response()
        case Mishap.SLOW_BODY:
            return await _slow_body(request)
        case Mishap.ENDLESS_HEADERS:
            return await _endless_headers(request)
        case Mishap.HUGE_BODY:
            return web.Response(body=b" " * _HUGE_BYTES, content_type="application/json")
        case Mishap.GZIP_BOMB:
            return web.Response(body=_bomb(), content_type="application/json", headers={"Content-Encoding": "gzip"})
        case Mishap.HANG_BEFORE | Mishap.HANG_AFTER:
            return _cut(request)


def _cut(request: web.Request) -> web.Response:
    if request.transport is not None:
        request.transport.abort()
    return web.Response()  # nobody is there any more to read it


async def _slow_body(request: web.Request) -> web.StreamResponse:
    response = web.StreamResponse(headers={"Content-Type": "application/json", "Content-Length": str(_SLOW_BYTES)})
    await response.prepare(request)
    for _ in range(_SLOW_BYTES):
        await response.write(b" ")
        await asyncio.sleep(1)
    return response


async def _endless_headers(request: web.Request) -> web.Response:
    transport, sent = request.transport, 0
    if transport is not None:
        transport.write(b"HTTP/1.1 200 OK\r\n")
        piece = b"X-Filler: " + b"y" * 1000 + b"\r\n"
        while not transport.is_closing() and sent < _HEADERS_BYTES_MAX:
            # Written past the library, which lets nobody send such a thing; so without its brake either.
            if transport.get_write_buffer_size() < _PIECE:
                transport.write(piece)
                sent += len(piece)
            await asyncio.sleep(0)
    return _cut(request)


@cache
def _bomb() -> bytes:
    return b"".join(_compressed())


def _compressed() -> Iterator[bytes]:
    packer = zlib.compressobj(level=9, wbits=31)
    for _ in range(_BOMB_BYTES // _PIECE):
        yield packer.compress(b" " * _PIECE)
    yield packer.flush()
