"""A thread that ends the process when its event loop hangs.

A loop that hangs in one message renews no lease, and nobody can tell it from one that is slow: its sessions live on.
Ended, it is a death like any other, which others see at once and find the message by.
"""

from __future__ import annotations

import faulthandler
import os
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

import anyio

# sysexits' EX_SOFTWARE: whoever starts processes again should see that this one ended itself.
EXIT_CODE: Final = 70
_STDERR: Final = 2
# Looks in the time that counts as hanging. A look counts only if this thread ran too: a process that is stopped and
# goes on, or a machine that sleeps, stops both and is no hang.
_LOOKS: Final = 5


class Watchdog:
    """Counts turns of the loop, and looks from outside whether the count rises."""

    def __init__(self, *, hang_s: float) -> None:
        self._look_s = hang_s / _LOOKS
        self._turns = 0
        self._ended = threading.Event()

    @asynccontextmanager
    async def guard(self) -> AsyncIterator[None]:
        """Watch the loop that this runs in, while this is open."""
        thread = threading.Thread(target=self._watch, name="watchdog", daemon=True)
        async with anyio.create_task_group() as ticking:
            ticking.start_soon(self._tick)
            thread.start()
            try:
                yield
            finally:
                self._ended.set()
                ticking.cancel_scope.cancel()

    async def _tick(self) -> None:
        while True:
            self._turns += 1
            await anyio.sleep(self._look_s / 2)

    def _watch(self) -> None:
        seen, still = self._turns, 0
        while not self._ended.wait(self._look_s):
            still = still + 1 if self._turns == seen else 0
            seen = self._turns
            if still >= _LOOKS:
                self._bite()

    def _bite(self) -> None:
        # Past every buffer and lock of Python's, any of which may be what it hangs in.
        os.write(_STDERR, b"the event loop hangs; the process ends itself. Where it hangs:\n")
        faulthandler.dump_traceback(file=_STDERR)
        os._exit(EXIT_CODE)  # nothing of a hanging process can be drained
