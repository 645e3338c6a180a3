"""What `paynode dev` tells the terminal about its processes, without ever waiting for the terminal."""

from __future__ import annotations

import contextlib
import os
import queue
import threading
import time

_STDERR = 2
_LINES_MAX = 10_000
_POLL_S = 0.01


class Output:
    """Prefixed lines on standard error, written by a thread of its own.

    A pipe that nobody reads is full after 64 KiB, and a write to it would hold up everything, the stop on Ctrl-C
    too. Lines that find no room are dropped: the log files have them all.
    """

    def __init__(self) -> None:
        self._lines: queue.Queue[bytes] = queue.Queue(_LINES_MAX)
        # A daemon: one that is stuck in a write must not keep the process.
        threading.Thread(target=self._write_all, name="output", daemon=True).start()

    def tell(self, name: str, text: str) -> None:
        """Say this in the name of a process, line by line."""
        for line in text.splitlines():
            with contextlib.suppress(queue.Full):
                self._lines.put_nowait(f"{name:<9} | {line}\n".encode(errors="replace"))

    def flush(self, *, seconds: float) -> None:
        """Return when everything was written or the time is over."""
        give_up_at = time.monotonic() + seconds
        while self._lines.unfinished_tasks and time.monotonic() < give_up_at:
            time.sleep(_POLL_S)

    def _write_all(self) -> None:
        while True:
            line = self._lines.get()
            with contextlib.suppress(OSError):  # the terminal is gone; the log files are not
                os.write(_STDERR, line)
            self._lines.task_done()
