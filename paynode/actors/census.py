"""Counts how things stand, again and again, and tells the observer. Any process may; the scheduler does."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, Protocol

import anyio

from paynode.domain.census import Census, OnRoad
from paynode.domain.errors import Transient
from paynode.runtime.stopping import Stop

# Of the time, what counting may take; and seconds after which it is counted again whatever it takes.
_SHARE_MAX: Final = 1 / 200
_PAUSE_MAX_S: Final = 60.0


class Counter(Protocol):
    """Counts in the database. Raises: Unavailable."""

    async def take(self) -> Census: ...


class Road(Protocol):
    """Counts on the streams. Raises: Unavailable."""

    async def look(self, groups: Mapping[str, str]) -> Mapping[str, OnRoad]: ...


class CensusObserver(Protocol):
    """Hears of how things stand. `groups` are all streams with their groups; one that is not counted has nothing."""

    def counted(self, census: Census, groups: Mapping[str, str]) -> None: ...
    def saw_road(self, road: Mapping[str, OnRoad], groups: Mapping[str, str]) -> None: ...
    def count_failed(self, error: Exception) -> None: ...


class CensusTaker:
    """Counts every `interval_s` seconds, on these streams with their groups."""

    def __init__(
        self,
        counter: Counter,
        road: Road,
        observer: CensusObserver,
        *,
        groups: Mapping[str, str],
        interval_s: float,
    ) -> None:
        self._counter = counter
        self._road = road
        self._observer = observer
        self._groups = groups
        self._interval_s = interval_s

    async def run(self, stop: Stop) -> None:
        """Count until `stop`: a long backlog more rarely, for counting it takes the time of those who work it off."""
        while not stop.is_set:
            begun = anyio.current_time()
            await self.run_once()
            took_s = anyio.current_time() - begun
            await stop.pause(max(self._interval_s, min(took_s / _SHARE_MAX, _PAUSE_MAX_S)))

    async def run_once(self) -> None:
        """Count once; a count that fails leaves its figures as they were, and the other one is made all the same."""
        try:
            self._observer.counted(await self._counter.take(), self._groups)
        except Transient as error:
            self._observer.count_failed(error)
        try:
            self._observer.saw_road(await self._road.look(self._groups), self._groups)
        except Transient as error:
            self._observer.count_failed(error)
