"""Workers as they are run in production, processes of their own, and how far they have come."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import Final

import anyio
import anyio.abc

from paynode.bench.figures import BenchFailed
from paynode.config import Settings
from paynode.storage.postgres import Role, Session, session
from paynode.storage.queries import load

_SQL: Final = load("bench")
# Seconds between two looks, and without progress before it is given up.
_LOOK_S: Final = 0.02
_STUCK_S: Final = 60.0
_STOP_S: Final = 15.0
_MEGABYTE: Final = 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Drained:
    """Events a second from the first commit to the last, and megabytes of the largest worker at most."""

    events_per_s: float
    seconds: float
    peak_mb: float


@asynccontextmanager
async def workers(settings: Settings, count: int) -> AsyncIterator[list[anyio.abc.Process]]:
    """So many workers, until it is left; they drain."""
    running: list[anyio.abc.Process] = []
    try:
        while len(running) < count:
            running.append(await _start(settings))
        yield running
    finally:
        with anyio.CancelScope(shield=True):
            for one in running:
                await stop(one)


async def _start(settings: Settings) -> anyio.abc.Process:
    environment = {
        **os.environ,
        "PAYNODE_DATABASE__URL": settings.database.url,
        "PAYNODE_REDIS__URL": settings.redis.url,
        "PAYNODE_DATA_DIR": str(settings.data_dir),
    }
    command = [sys.executable, "-m", "paynode", "worker"]
    return await anyio.open_process(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


async def stop(process: anyio.abc.Process) -> None:
    """Ask it to drain, and end it when it does not."""
    if process.returncode is None:
        process.send_signal(signal.SIGTERM)
    with anyio.move_on_after(_STOP_S):
        await process.wait()
        return
    process.kill()
    await process.wait()


async def drain(
    settings: Settings, merchants: Sequence[str], events: int, *, count: int = 1, tell: Callable[[int], None]
) -> Drained:
    """Start workers and wait until all events of these merchants are in the ledger; `tell` hears how many are.

    Raises: BenchFailed when nothing moves any more.
    """
    async with session(settings, Role.OWNER, application_name="bench") as database, workers(settings, count) as running:
        first = await _until(database, merchants, 1, tell)
        last = await _until(database, merchants, events, tell)
        peak_mb = max(memory_mb(one.pid, "VmHWM") for one in running)
    done, seconds = last.count - first.count, last.at - first.at
    return Drained(events_per_s=done / seconds, seconds=seconds, peak_mb=peak_mb)


@dataclass(frozen=True, slots=True)
class _Look:
    at: float
    count: int


async def _until(database: Session, merchants: Sequence[str], events: int, tell: Callable[[int], None]) -> _Look:
    look = moved = _Look(perf_counter(), 0)
    while look.count < events:
        await anyio.sleep(_LOOK_S if len(merchants) == 1 else 10 * _LOOK_S)
        look = _Look(perf_counter(), await count_applied(database, merchants))
        tell(look.count)
        if look.count > moved.count:
            moved = look
        elif look.at - moved.at > _STUCK_S:
            raise BenchFailed(f"nothing moves any more: {look.count} of {events} events")
    return look


async def count_applied(database: Session, merchants: Sequence[str]) -> int:
    """Ledger entries of merchants with nothing but movements: their events that are applied."""
    return int(await database.fetchval(_SQL["count_applied"], merchants))


async def measure_idle_mb(settings: Settings) -> float:
    """Megabytes of a worker that owns all partitions and has nothing to do."""
    async with session(settings, Role.OWNER, application_name="bench") as database, workers(settings, 1) as [worker]:
        with anyio.fail_after(_STUCK_S):
            while await database.fetchval(_SQL["count_unowned"]):  # noqa: ASYNC110 - another process does it
                await anyio.sleep(_LOOK_S)
        return memory_mb(worker.pid, "VmRSS")


def free_port() -> int:
    """A port of loopback that nobody listens at just now."""
    with socket.create_server(("127.0.0.1", 0)) as place:
        return int(place.getsockname()[1])


def memory_mb(pid: int, what: str) -> float:
    """What the kernel says of a process (`VmRSS`, `VmHWM`); 0 where it says nothing."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text("utf-8").splitlines()
    except OSError:
        return 0.0
    return next((int(line.split()[1]) / _MEGABYTE for line in lines if line.startswith(f"{what}:")), 0.0)
