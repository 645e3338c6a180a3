"""Tells every few seconds that this gateway lives and how its guards stand, which nobody else can know; and hears how
many others live, and what operators want of its breakers."""

from __future__ import annotations

from typing import Protocol

from paynode.domain.errors import Transient
from paynode.domain.guarding import Company, Vitals
from paynode.runtime.stopping import Stop


class Board(Protocol):
    """Where it is written. Raises: Unavailable, Conflict."""

    async def beat(self, vitals: Vitals) -> Company: ...
    async def stop(self) -> None: ...


class Guarded(Protocol):
    """The PSP behind its guards."""

    @property
    def vitals(self) -> Vitals: ...
    def obey(self, company: Company) -> None: ...


class PulseObserver(Protocol):
    """Hears when nobody can be told."""

    def pulse_failed(self, error: Exception) -> None: ...


class Pulse:
    """One gateway process's sign of life."""

    def __init__(self, board: Board, guarded: Guarded, observer: PulseObserver, *, interval_s: float) -> None:
        self._board = board
        self._guarded = guarded
        self._observer = observer
        self._interval_s = interval_s

    async def run(self, stop: Stop) -> None:
        """Beat until `stop`, then say good-bye."""
        while not stop.is_set:
            await self.run_once()
            await stop.pause(self._interval_s)
        try:
            await self._board.stop()
        except Transient as error:
            self._observer.pulse_failed(error)  # the sign of life ends by itself

    async def run_once(self) -> None:
        """Beat once; one that fails is made up for by the next."""
        try:
            self._guarded.obey(await self._board.beat(self._guarded.vitals))
        except Transient as error:
            self._observer.pulse_failed(error)
