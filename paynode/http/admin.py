"""The admin port: is the process alive, should it get requests, how does it do."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Final

import anyio
import orjson
from aiohttp import web
from prometheus_client import CONTENT_TYPE_PLAIN_0_0_4, generate_latest

Check = Callable[[], Awaitable[bool]]

# Seconds that an answer of a check is used again: probes of many load balancers must not become a load.
_REMEMBERED_S: Final = 1.0
# Seconds after which a server that is asked for a sign of life has none.
_CHECK_S: Final = 1.0


class Readiness:
    """Whether this process should get requests: not while it drains, and not without what it `needs`.

    The other checks are shown and decide nothing: payments are accepted while Redis is away.
    """

    def __init__(
        self, checks: Mapping[str, Check], *, needs: frozenset[str], clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._checks = checks
        self._needs = needs
        self._clock = clock
        self._known: dict[str, bool] = {}
        self._known_until = 0.0
        self.is_draining = False

    async def report(self) -> tuple[bool, dict[str, object]]:
        """Whether it is ready, and the checks by name."""
        if self._clock() >= self._known_until:
            self._known = {name: await _is_up(check) for name, check in self._checks.items()}
            self._known_until = self._clock() + _REMEMBERED_S
        is_ready = not self.is_draining and all(self._known[name] for name in self._needs)
        checks = {name: "up" if is_up else "down" for name, is_up in self._known.items()}
        return is_ready, {"ready": is_ready, "draining": self.is_draining, "checks": checks}


def make_admin_app(
    readiness: Readiness, operating: web.Application | None = None, *, body_bytes_max: int = 0
) -> web.Application:
    """`/livez`, `/readyz` and `/metrics`; for this network only, so without authentication.

    Below `/v1` there may be an operator's API, which looks at who asks, and whose bodies have at most `body_bytes_max`.
    """

    async def readyz(_: web.Request) -> web.Response:
        is_ready, report = await readiness.report()
        return _json(report, status=200 if is_ready else 503)

    app = web.Application(client_max_size=body_bytes_max)
    app.router.add_get("/livez", _livez)
    app.router.add_get("/readyz", readyz)
    app.router.add_get("/metrics", _metrics)
    if operating is not None:
        app.add_subapp("/v1", operating)
    return app


async def _livez(_: web.Request) -> web.Response:
    """The event loop answers. Nothing else is asked: restarting this process cures no other server."""
    return _json({"alive": True}, status=200)


async def _metrics(_: web.Request) -> web.Response:
    # The text format whoever asks: in OpenMetrics a gauge `x` and a counter `x_total` may not stand side by side.
    return web.Response(body=generate_latest(), headers={"Content-Type": CONTENT_TYPE_PLAIN_0_0_4})


async def _is_up(check: Check) -> bool:
    with anyio.move_on_after(_CHECK_S):
        return await check()
    return False


def _json(content: dict[str, object], *, status: int) -> web.Response:
    return web.Response(status=status, body=orjson.dumps(content), content_type="application/json")
