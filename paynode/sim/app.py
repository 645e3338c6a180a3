"""The simulator put together."""

from __future__ import annotations

import asyncio
import ipaddress
import logging
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from aiohttp import web

from paynode.config import Settings
from paynode.sim.acquirer import Acquirer
from paynode.sim.api import Api
from paynode.sim.callbacks import Courier
from paynode.sim.control import Control
from paynode.sim.faults import Faults
from paynode.sim.journal import Journal
from paynode.sim.losses import Losses
from paynode.sim.page import Page
from paynode.sim.refusals import answer_refusals

log = logging.getLogger(__name__)

_BODY_BYTES_MAX = 1 << 16
# Longer than any sane client keeps an idle connection: the side that closes first is never this one.
_KEEP_ALIVE_S = 75.0
# aiohttp may take twice this; a stop has two seconds.
_SHUTDOWN_S = 0.5


def is_loopback(host: str) -> bool:
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


@asynccontextmanager
async def simulator(settings: Settings) -> AsyncIterator[str]:
    """A listening simulator; yields its URL.

    Raises: OSError when the port is taken, JournalUnusable when another simulator has the book.
    """
    book_path = Path(settings.sim.book or settings.data_dir / "sim" / "book.ndjson")
    callback_url = settings.sim.callback_url or f"{settings.http.base_url}/v1/psp/sim/webhook"
    listener = _listen(settings.sim.host, settings.sim.port)
    base_url = _url_of(listener)
    async with (
        _journal(book_path) as book,
        _journal(book_path.with_name("sessions.ndjson")) as sessions,
        _journal(book_path.with_name("callbacks.ndjson")) as settled,
    ):
        faults = Faults()
        courier = Courier(url=callback_url, secret=settings.psp.sim.webhook_secret, settled=settled)
        acquirer = Acquirer(
            book=book,
            sessions=sessions,
            courier=courier,
            faults=faults,
            session_ttl_s=settings.sim.session_ttl_s,
        )
        losses = Losses(faults)
        app = web.Application(middlewares=[answer_refusals], client_max_size=_BODY_BYTES_MAX)
        api_key = settings.psp.sim.api_key
        api = Api(acquirer=acquirer, faults=faults, losses=losses, api_key=api_key, base_url=base_url)
        app.add_routes(api.routes())
        app.add_routes(Page(acquirer=acquirer, losses=losses).routes())
        app.add_routes(Control(acquirer=acquirer, book=book, faults=faults).routes())
        async with _serving(app, listener), asyncio.TaskGroup() as background:
            tasks = [
                background.create_task(courier.run()),
                background.create_task(acquirer.expire_sessions()),
            ]
            yield base_url
            for task in tasks:
                task.cancel()


@asynccontextmanager
async def _serving(app: web.Application, listener: socket.socket) -> AsyncIterator[None]:
    runner = web.AppRunner(
        app,
        handle_signals=False,
        access_log=None,
        keepalive_timeout=_KEEP_ALIVE_S,
        shutdown_timeout=_SHUTDOWN_S,
    )
    await runner.setup()
    try:
        await web.SockSite(runner, listener, backlog=1024).start()
        yield
    finally:
        await runner.cleanup()


@asynccontextmanager
async def _journal(path: Path) -> AsyncIterator[Journal]:
    journal = Journal.open(path)
    try:
        yield journal
    finally:
        await journal.close()


def _listen(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    return socket.create_server((host, port), family=family)


def _url_of(listener: socket.socket) -> str:
    host, port = listener.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
