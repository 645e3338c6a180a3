"""`paynode serve --processes N`: several ingress processes at one port, among which the kernel divides connections.

The parent serves nobody: it starts the others, passes on what it is told to do, and starts again whoever ends unasked,
after a pause that doubles, and says so. A process that is not there takes no connection: its neighbours do.
"""

from __future__ import annotations

import asyncio
import math
import os
import signal
import sys
from collections.abc import Callable, Mapping
from typing import Final

import anyio
import structlog

from paynode.config import Settings
from paynode.runtime.stopping import Stop, stop_on_signal
from paynode.sections import SettingRefused

# Seconds before one that ended is started again, and at most; one that has run for as long begins at the first again.
_PAUSE_S: Final = (0.5, 30.0)
# What a merchant may ask of one process: the processes together allow what is configured.
_DIVIDED: Final = ("exports_max", "reads_max", "checkouts_max", "pos_max", "operations_max")


async def serve_together(settings: Settings, processes: int, *, in_child: Callable[[], None]) -> None:
    """Keep so many running until a signal, then until all have drained; each does `in_child` before all else.

    Raises: SettingRefused.
    """
    if settings.http.port == 0:
        raise SettingRefused("http.port: several processes at any free port would each have one of its own; name one")
    stop = Stop()
    async with anyio.create_task_group() as signals:
        await signals.start(stop_on_signal, stop)
        async with anyio.create_task_group() as fleet:
            for number in range(processes):
                fleet.start_soon(_keep, environment_of(settings, processes, number), number, stop, in_child)
        signals.cancel_scope.cancel()


def environment_of(settings: Settings, processes: int, number: int) -> Mapping[str, str]:
    """What one of them is told: to share the port, its own admin port, and its share of each merchant's quota."""
    quotas = {name: math.ceil(getattr(settings.overload, name) / processes) for name in _DIVIDED}
    return {
        "PAYNODE_HTTP__SHARES_PORT": "true",
        "PAYNODE_ADMIN__PORT": str(settings.admin.port + number if settings.admin.port else 0),
        **{f"PAYNODE_OVERLOAD__{name.upper()}": str(quota) for name, quota in quotas.items()},
    }


async def _keep(environment: Mapping[str, str], number: int, stop: Stop, in_child: Callable[[], None]) -> None:
    log, (first_s, most_s) = structlog.get_logger(), _PAUSE_S
    pause_s = 0.0
    while True:
        begun = anyio.current_time()
        status = await _run(environment, stop, in_child)
        if stop.is_set:
            return
        has_lasted = anyio.current_time() - begun > most_s
        pause_s = first_s if has_lasted or not pause_s else min(2 * pause_s, most_s)
        log.warning("ingress_process_ended", process=number, status=status, seconds=pause_s)
        if await stop.pause(pause_s):
            return


async def _run(environment: Mapping[str, str], stop: Stop, in_child: Callable[[], None]) -> int:
    """One process from its start to its end; its exit status."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "paynode", "serve"),
        env={**os.environ, **environment},
        # A Ctrl-C goes to a whole session, and would reach them twice: a second one means at once.
        start_new_session=True,
        preexec_fn=in_child,
    )
    async with anyio.create_task_group() as telling:
        telling.start_soon(_tell, process, stop)
        with anyio.CancelScope(shield=True):
            status = await process.wait()
        telling.cancel_scope.cancel()
    return status


async def _tell(process: asyncio.subprocess.Process, stop: Stop) -> None:
    await stop.wait()
    process.send_signal(signal.SIGTERM)
