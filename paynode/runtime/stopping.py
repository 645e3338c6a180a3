"""SIGTERM and SIGINT: the first drains, a second one stops at once."""

from __future__ import annotations

import os
import signal

import anyio
from anyio.abc import TaskStatus

_SIGNALS = (signal.SIGTERM, signal.SIGINT)


class Stop:
    """Set once; whoever drains waits for it or looks at it."""

    def __init__(self) -> None:
        self._event = anyio.Event()

    @property
    def is_set(self) -> bool:
        """Whether the process is to end."""
        return self._event.is_set()

    def set(self) -> None:
        """Begin to drain; may be called twice."""
        self._event.set()

    async def wait(self) -> None:
        """Return when the process is to end."""
        await self._event.wait()

    async def pause(self, seconds: float) -> bool:
        """Sleep, or less when the process is to end; says whether it is to end."""
        with anyio.move_on_after(seconds):
            await self._event.wait()
        return self.is_set


async def stop_on_signal(stop: Stop, *, task_status: TaskStatus[None] = anyio.TASK_STATUS_IGNORED) -> None:
    """Watch for signals until cancelled."""
    with anyio.open_signal_receiver(*_SIGNALS) as signals:
        task_status.started()
        async for _ in signals:
            if stop.is_set:
                os._exit(1)  # asked twice: whoever asks so does not want to hear of draining
            stop.set()
