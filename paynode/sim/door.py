"""Where connections come in; it can be shut for a while, as if the whole PSP were gone."""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from aiohttp import web

log = logging.getLogger(__name__)

# Longer than any sane client keeps an idle connection: the side that closes first is never this one.
_KEEP_ALIVE_S = 75.0
# aiohttp may take twice this; a stop has two seconds.
_SHUTDOWN_S = 0.5
_BACKLOG = 1024


def listen(host: str, port: int) -> socket.socket:
    """Take the port. Raises: OSError when somebody has it."""
    return socket.create_server((host, port), family=_family(host))


def url_of(listener: socket.socket) -> str:
    """How the outside says it."""
    host, port = listener.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


class Door:
    """Serves an application on a listening socket."""

    def __init__(self, listener: socket.socket) -> None:
        self._listener = listener
        self._runner: web.AppRunner | None = None
        self._site: web.SockSite | None = None
        self._reopening: asyncio.Task[None] | None = None

    @asynccontextmanager
    async def serving(self, app: web.Application) -> AsyncIterator[None]:
        """Open, until the block is left."""
        self._runner = web.AppRunner(
            app,
            handle_signals=False,
            access_log=None,
            keepalive_timeout=_KEEP_ALIVE_S,
            shutdown_timeout=_SHUTDOWN_S,
        )
        await self._runner.setup()
        try:
            await self._open()
            yield
        finally:
            if self._reopening is not None:
                self._reopening.cancel()
            await self._runner.cleanup()
            self._listener.close()

    async def shut_for(self, seconds: float, *, but: asyncio.BaseTransport | None) -> None:
        """Refuse new connections and cut the open ones, all `but` the one that asks for it."""
        if self._site is None or self._runner is None or self._runner.server is None:
            return
        address = self._listener.getsockname()[:2]
        await self._site.stop()
        self._site = None
        # Bound and not listening: connections are refused, and nobody is given the port meanwhile.
        self._listener = socket.socket(_family(address[0]))
        self._listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self._listener.bind(address)
        for connection in self._runner.server.connections:
            if connection.transport is not None and connection.transport is not but:
                connection.transport.abort()
        log.warning("shut for %.1f s", seconds)
        self._reopening = asyncio.create_task(self._open_after(seconds))

    async def _open_after(self, seconds: float) -> None:
        await asyncio.sleep(seconds)
        await self._open()

    async def _open(self) -> None:
        assert self._runner is not None
        self._listener.listen(_BACKLOG)
        self._site = web.SockSite(self._runner, self._listener, backlog=_BACKLOG)
        await self._site.start()


def _family(host: str) -> socket.AddressFamily:
    return socket.AF_INET6 if ":" in host else socket.AF_INET
