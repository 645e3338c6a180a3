"""SIGINT and SIGTERM under `paynode dev`, from its first moment to the end of the last process."""

from __future__ import annotations

import os
import signal
from types import FrameType

import anyio

STOPPING = (signal.SIGINT, signal.SIGTERM)
# Seconds that a start may take to its end after a signal. It takes one; the recovery of a big database takes more.
_START_S = 8


class EarlySignals:
    """Notes a signal while the servers start, before anything listens to signals.

    It does not raise, as Python's own handler of Ctrl-C does: what is raised in one of the hooks around a fork is
    ignored, and the signal would be lost.
    """

    def __init__(self) -> None:
        self._was_asked = False
        for number in STOPPING:
            signal.signal(number, self._note)

    def end(self) -> bool:
        """Whether a signal came; others listen from now on."""
        signal.alarm(0)
        return self._was_asked

    def _note(self, number: int, _frame: FrameType | None) -> None:
        if self._was_asked:
            # The second one insists: we end here, and with us, by the kernel's hand, whatever we have started.
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)
        self._was_asked = True
        signal.alarm(_START_S)


class StopRequests:
    """The first signal asks for a drain, the second insists."""

    def __init__(self) -> None:
        self.asked = anyio.Event()
        self.insisted = anyio.Event()

    async def listen(self, early: EarlySignals) -> None:
        with anyio.open_signal_receiver(*STOPPING) as signals:
            if early.end():
                self.asked.set()
            async for _ in signals:
                (self.insisted if self.asked.is_set() else self.asked).set()
