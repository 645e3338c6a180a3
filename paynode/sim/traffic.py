"""How often the PSP was called: what a judge compares with how often it need have been."""

from __future__ import annotations

from dataclasses import dataclass

from aiohttp import web
from aiohttp.typedefs import Handler


@dataclass(slots=True)
class Traffic:
    """Calls of the API, pages and controls aside."""

    calls: int = 0

    def count(self, request: web.Request) -> None:
        """Count it if it is one."""
        self.calls += request.path.startswith("/v1/")


TRAFFIC = web.AppKey("traffic", Traffic)


@web.middleware
async def counting(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Counts each call before anything becomes of it."""
    request.app[TRAFFIC].count(request)
    return await handler(request)
