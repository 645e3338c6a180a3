"""Counts how things stand, again and again, and tells the observer. Any process may; the scheduler does."""

from __future__ import annotations

from typing import Protocol

from paynode.domain.census import Census
from paynode.domain.errors import Transient
from paynode.runtime.stopping import Stop


class Counter(Protocol):
    """Counts. Raises: Unavailable."""

    async def take(self) -> Census: ...


class CensusObserver(Protocol):
    """Hears of how things stand."""

    def counted(self, census: Census) -> None: ...
    def count_failed(self, error: Exception) -> None: ...


class CensusTaker:
    """Counts every `interval_s` seconds."""

    def __init__(self, counter: Counter, observer: CensusObserver, *, interval_s: float) -> None:
        self._counter = counter
        self._observer = observer
        self._interval_s = interval_s

    async def run(self, stop: Stop) -> None:
        """Count until `stop`."""
        while not stop.is_set:
            await self.run_once()
            await stop.pause(self._interval_s)

    async def run_once(self) -> None:
        """Count once; a count that fails leaves the figures as they were."""
        try:
            self._observer.counted(await self._counter.take())
        except Transient as error:
            self._observer.count_failed(error)
