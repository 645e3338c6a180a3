"""A Stripe that holds what a test gave it, and shows it in lists and one by one."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from aiohttp import web

from tests.psp.stripe.annex import page
from tests.psp.stripe.documents import Json


@dataclass
class Listing:
    """Its address, and what was asked of it."""

    lists: Mapping[str, list[Json]]
    objects: Mapping[str, Json]
    url: str = ""
    asked: list[tuple[str, dict[str, str]]] = field(default_factory=list)

    async def take(self, request: web.Request) -> web.Response:
        self.asked.append((request.path, dict(request.query)))
        if request.path in self.lists:
            return web.json_response(page(self.lists[request.path], request.query))
        if request.path in self.objects:
            return web.json_response(self.objects[request.path])
        missing = {"type": "invalid_request_error", "code": "resource_missing", "message": "No such object"}
        return web.json_response({"error": missing}, status=404)


@asynccontextmanager
async def listing(
    lists: Mapping[str, list[Json]] | None = None, objects: Mapping[str, Json] | None = None
) -> AsyncIterator[Listing]:
    shown = Listing(lists or {}, objects or {})
    app = web.Application()
    app.router.add_get("/{path:.*}", shown.take)
    runner = web.AppRunner(app, handle_signals=False, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    shown.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    try:
        yield shown
    finally:
        await runner.cleanup()
