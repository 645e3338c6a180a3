"""The shop put together."""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from aiohttp import web

from paynode.config import Settings
from paynode.shop.orders import Orders
from paynode.shop.pages import Pages
from paynode.shop.till import Till

_KEEP_ALIVE_S = 15.0
# aiohttp may take twice this; a stop has two seconds.
_SHUTDOWN_S = 0.5


@asynccontextmanager
async def demo_shop(settings: Settings, *, api_key: str) -> AsyncIterator[str]:
    """A listening shop; yields its URL. Raises: OSError when the port is taken."""
    host = settings.shop.host
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.create_server((host, settings.shop.port), family=family)
    port = listener.getsockname()[1]
    base_url = f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
    orders = Orders(settings.data_dir / "shop" / "orders.ndjson")
    async with Till(url=settings.http.base_url, api_key=api_key) as till:
        app = web.Application(client_max_size=1 << 12)
        app.add_routes(Pages(orders=orders, till=till, base_url=base_url).routes())
        runner = web.AppRunner(
            app,
            handle_signals=False,
            access_log=None,
            keepalive_timeout=_KEEP_ALIVE_S,
            shutdown_timeout=_SHUTDOWN_S,
        )
        await runner.setup()
        try:
            await web.SockSite(runner, listener).start()
            yield base_url
        finally:
            await runner.cleanup()
