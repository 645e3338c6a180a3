"""Losing an answer on purpose, before or after the work."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from aiohttp import web

from paynode.sim.faults import Faults
from paynode.sim.refusals import Refusal
from paynode.sim.scripts import Mishap

_BEFORE = {Mishap.ERROR_BEFORE, Mishap.HANG_BEFORE}


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
            return _lose(request, mishap)
        response = await work()
        return response if mishap is None else _lose(request, mishap)


def _lose(request: web.Request, mishap: Mishap) -> web.StreamResponse:
    if mishap is Mishap.ERROR_BEFORE:
        return Refusal(503, "unavailable", "try again later").response()
    if mishap is Mishap.ERROR_AFTER:
        return Refusal(500, "internal_error", "something went wrong").response()
    if request.transport is not None:
        request.transport.abort()
    return web.Response()  # nobody is there any more to read it
