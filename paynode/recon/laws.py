"""The laws of money, looked at again and again; and how much of what was found is not over."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final, Protocol

import anyio

from paynode.domain.breaks import BreakTotal
from paynode.domain.errors import Transient
from paynode.runtime.rounds import Singleton
from paynode.runtime.stopping import Stop

# Of the time, what looking at the laws may take: they read the whole ledger, beside those who write it.
_SHARE_MAX: Final = 1 / 20


class Laws(Protocol):
    """Looks at all of them in one snapshot: by name, how often each is broken. Raises: Unavailable."""

    async def look(self) -> Mapping[str, int]: ...


class Standing(Protocol):
    """What was found and is not over. Raises: Unavailable."""

    async def totals(self) -> Sequence[BreakTotal]: ...


class LawObserver(Protocol):
    """Hears of laws."""

    def laws_stand(self, breaches: Mapping[str, int]) -> None: ...
    def law_changed(self, law: str, breaches: int) -> None: ...
    def breaks_stand(self, totals: Sequence[BreakTotal]) -> None: ...
    def laws_failed(self, error: Exception) -> None: ...


class LawWatch:
    """One process at a time looks at the laws; what changes is told once."""

    def __init__(self, laws: Laws, singleton: Singleton, observer: LawObserver, *, interval_s: float) -> None:
        self._laws = laws
        self._singleton = singleton
        self._observer = observer
        self._interval_s = interval_s
        self._known: Mapping[str, int] = {}

    async def run(self, stop: Stop) -> None:
        """Look until `stop`, the more rarely the longer it takes."""
        while not stop.is_set:
            begun = anyio.current_time()
            try:
                if await self._singleton.hold():
                    await self.run_once()
            except Transient as error:
                self._observer.laws_failed(error)
            took_s = anyio.current_time() - begun
            await stop.pause(max(self._interval_s, took_s / _SHARE_MAX))

    async def run_once(self) -> None:
        """Look once, and tell what is otherwise than before."""
        breaches = await self._laws.look()
        self._observer.laws_stand(breaches)
        for law, count in breaches.items():
            if count != self._known.get(law, 0):
                self._observer.law_changed(law, count)
        self._known = breaches


class BreakCensus:
    """Counts what is not over, for the metrics. Any process may."""

    def __init__(self, standing: Standing, observer: LawObserver, *, interval_s: float) -> None:
        self._standing = standing
        self._observer = observer
        self._interval_s = interval_s

    async def run(self, stop: Stop) -> None:
        """Count until `stop`."""
        while not stop.is_set:
            await self.run_once()
            await stop.pause(self._interval_s)

    async def run_once(self) -> None:
        """Count once; a count that fails leaves its figures as they were."""
        try:
            self._observer.breaks_stand(await self._standing.totals())
        except Transient as error:
            self._observer.laws_failed(error)
