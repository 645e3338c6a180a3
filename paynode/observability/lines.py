"""Where log lines go.

A write is a call to the kernel, and one for each request was a tenth of the ingress's time. So ordinary lines wait for
the end of the event loop's present turn and are written together; whatever is a warning or worse is written at once,
with all that waited before it.
"""

from __future__ import annotations

import asyncio
from typing import BinaryIO


class Lines:
    """A logger for structlog: one method per level, each takes a finished line."""

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream
        self._waiting: list[bytes] = []
        self._flushed_by: asyncio.AbstractEventLoop | None = None

    def info(self, line: bytes) -> None:
        """Write soon: with a loop at the end of its turn, without one at once."""
        self._waiting.append(line)
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:
            self.flush()
            return
        # Compared with the loop and not with a flag: one that was stopped before it flushed must not silence the next.
        if loop is not self._flushed_by:
            self._flushed_by = loop
            loop.call_soon(self.flush)

    debug = info

    def error(self, line: bytes) -> None:
        """Write at once: the next thing may be the end of the process."""
        self._waiting.append(line)
        self.flush()

    warning = critical = error

    def flush(self) -> None:
        """Write what waits."""
        lines, self._waiting, self._flushed_by = self._waiting, [], None
        if lines:
            self._stream.write(b"\n".join(lines) + b"\n")
            self._stream.flush()
