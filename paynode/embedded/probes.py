"""How `paynode dev` learns that a process is up, and that a server is not any more."""

from __future__ import annotations

import os

import aiohttp
import anyio

from paynode.embedded.errors import ServerExited
from paynode.embedded.processes import Child
from paynode.embedded.spawning import Server

# Seconds for a process to come up; the first start on a slow disk compiles every module.
_UP_S = 60.0
_POLL_S = 0.05
_ONE_TRY = aiohttp.ClientTimeout(total=2.0)


async def until_up(child: Child, url: str | None) -> None:
    """Return when `url` answers 200 or, without one, when the process has said `ready`. Raises: ProcessFailed."""
    try:
        with anyio.fail_after(_UP_S):
            await (child.is_ready.wait() if url is None else _until_answers(url))
    except TimeoutError:
        what = "did not say that it is ready" if url is None else f"did not answer 200 at {url}"
        raise child.failed(f"{what} within {_UP_S:g} s") from None


async def fail_when_exited(child: Child) -> None:
    """Raises: ProcessFailed, as soon as the process ends."""
    status = await child.exited()
    raise child.failed(f"ended unexpectedly with status {status}", status)


async def fail_when_server_exited(server: Server) -> None:
    """Raises: ServerExited, as soon as the server ends. Watches it through a descriptor, so that nothing polls."""
    descriptor = os.pidfd_open(server.pid)
    try:
        await anyio.wait_readable(descriptor)
    finally:
        os.close(descriptor)
    raise ServerExited(server.exit_report())


async def _until_answers(url: str) -> None:
    async with aiohttp.ClientSession(timeout=_ONE_TRY) as session:
        while not await _answers(session, url):  # noqa: ASYNC110 - another process has no event to wait for
            await anyio.sleep(_POLL_S)


async def _answers(session: aiohttp.ClientSession, url: str) -> bool:
    try:
        async with session.get(url, allow_redirects=False) as response:
            return response.status == 200
    except (aiohttp.ClientError, TimeoutError):
        return False
