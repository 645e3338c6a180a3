"""Listening: start what serves, then listen; at the end stop listening, answer what came, then stop what serves."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Final

import anyio
from aiohttp import web

from paynode.config import Settings
from paynode.http.admin import Readiness, make_admin_app
from paynode.http.application import Ingress
from paynode.http.connections import Door
from paynode.http.listening import ProtocolFactory, listening

# Seconds for requests under way at the stop. aiohttp takes it twice; the whole drain has 10 s.
_DRAIN_S: Final = 3.0

Loop = Callable[[], Awaitable[None]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Served:
    """Where the ports really are (a configured port of 0 means any), and who counts the connections."""

    url: str
    admin_url: str
    door: Door


@asynccontextmanager
async def serving(settings: Settings, ingress: Ingress, readiness: Readiness) -> AsyncIterator[Served]:
    """The ingress and its admin port, until the end of the block."""
    async with (
        _kept_running(
            ingress.announcer.run,
            ingress.doorman.run,
            ingress.acceptor.run,
            ingress.inbox.run,
            ingress.waiters.run,
            ingress.decisions.run,
            ingress.gate.run,
        ),
        # The admin port is first and last: whoever watches sees the draining.
        serving_admin(settings.admin.host, settings.admin.port, readiness) as admin_url,
        _listening(settings, ingress) as (url, door),
    ):
        try:
            yield Served(url=url, admin_url=admin_url, door=door)
        finally:
            readiness.is_draining = True
            ingress.waiters.stop()
            ingress.decisions.stop()


@asynccontextmanager
async def serving_admin(
    host: str, port: int, readiness: Readiness, operating: web.Application | None = None, *, body_bytes_max: int = 0
) -> AsyncIterator[str]:
    """An admin port alone: workers and the scheduler have one too. Gives its URL."""
    app = make_admin_app(readiness, operating, body_bytes_max=body_bytes_max)
    runner = web.AppRunner(app, handle_signals=False, access_log=None, shutdown_timeout=1.0)
    async with _running(runner) as server, _bound(server, host, port) as url:
        yield url


@asynccontextmanager
async def _kept_running(*loops: Loop) -> AsyncIterator[None]:
    """Run the loops until the end of the block, also when what is around it is cancelled: the requests that are
    under way then still need their commit."""
    scopes = [anyio.CancelScope(shield=True) for _ in loops]
    async with anyio.create_task_group() as tasks:
        for loop, scope in zip(loops, scopes, strict=True):
            tasks.start_soon(_run, loop, scope)
        try:
            yield
        finally:
            for scope in scopes:
                scope.cancel()


async def _run(loop: Loop, scope: anyio.CancelScope) -> None:
    with scope:
        await loop()


@asynccontextmanager
async def _listening(settings: Settings, ingress: Ingress) -> AsyncIterator[tuple[str, Door]]:
    runner = web.AppRunner(ingress.app, handle_signals=False, shutdown_timeout=_DRAIN_S)
    async with _running(runner) as server:
        door = Door(server, settings.http, ingress.gate)
        http = settings.http
        async with _bound(door, http.host, http.port, is_shared=http.shares_port) as url:
            yield url, door


@asynccontextmanager
async def _running(runner: web.AppRunner) -> AsyncIterator[web.Server]:
    await runner.setup()
    try:
        assert runner.server is not None
        yield runner.server
    finally:
        # Shielded: cancelled in the middle it would leave requests without an answer.
        with anyio.CancelScope(shield=True):
            await runner.cleanup()


@asynccontextmanager
async def _bound(factory: ProtocolFactory, host: str, port: int, *, is_shared: bool = False) -> AsyncIterator[str]:
    async with listening(factory, host, port, is_shared=is_shared) as bound_port:
        yield f"http://{f'[{host}]' if ':' in host else host}:{bound_port}"
