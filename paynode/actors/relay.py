"""The relay: brings what is due, and again what was lost on the road. One process at a time does it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Protocol

from paynode.domain.errors import Transient
from paynode.domain.road import Pointer
from paynode.runtime.rounds import Rounds, Singleton
from paynode.runtime.stopping import Stop


class Outbox(Protocol):
    """What is not processed yet. Raises: Unavailable."""

    async def take_due(self, count: int) -> Sequence[Pointer]: ...
    async def old_streams(self, after_s: float) -> Sequence[str]: ...
    async def find_lost(
        self, before_ms: Mapping[str, int | None], *, after_s: float, max_s: float, count: int
    ) -> Sequence[Pointer]: ...
    async def mark_republished(self, refs: Sequence[str]) -> None: ...


class Road(Protocol):
    """The streams. Raises: Unavailable."""

    async def publish(self, pointers: Sequence[Pointer]) -> None: ...
    async def first_entry_ms(self, stream: str) -> int | None: ...
    async def mark_out(self, partitions: int) -> None: ...


class Reach(Protocol):
    """Whether Redis answers."""

    @property
    def is_away(self) -> bool: ...
    def needed(self) -> AbstractContextManager[None]: ...


class RelayObserver(Protocol):
    """Hears of sweeps."""

    def swept(self, due: int, republished: int) -> None: ...
    def sweep_failed(self, error: Exception) -> None: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class RelayRules:
    """Seconds between sweeps; seconds until a row may count as lost, doubled up to a maximum; rows of one sweep."""

    interval_s: float
    republish_after_s: float
    republish_max_s: float
    sweep_size: int


@dataclass(frozen=True, slots=True, kw_only=True)
class _WithinReach:
    """The lease, left to run out while Redis is away from here: another relay may reach it.

    With Redis away from all there is nothing to do and nothing to say: what is due is taken where it is kept.
    """

    singleton: Singleton
    reach: Reach

    async def hold(self) -> bool:
        """Whether we hold it, and it is of use to us."""
        return not self.reach.is_away and await self.singleton.hold()

    async def drop(self) -> None:
        """Leave it to others."""
        await self.singleton.drop()


class Relay:
    """Sweeps the outbox."""

    def __init__(
        self,
        outbox: Outbox,
        road: Road,
        singleton: Singleton,
        observer: RelayObserver,
        rules: RelayRules,
        *,
        partitions: int,
        reach: Reach,
    ) -> None:
        self._outbox = outbox
        self._road = road
        within_reach = _WithinReach(singleton=singleton, reach=reach)
        self._rounds = Rounds(within_reach, observer.sweep_failed, interval_s=rules.interval_s, transient=Transient)
        self._reach = reach
        self._observer = observer
        self._rules = rules
        self._partitions = partitions

    async def run(self, stop: Stop) -> None:
        """Sweep until `stop`."""
        await self._rounds.run(self._sweep_within_reach, stop)

    async def _sweep_within_reach(self) -> None:
        with self._reach.needed():
            await self.run_once()

    async def run_once(self) -> None:
        """Publish what is due and what was lost."""
        await self._road.mark_out(self._partitions)
        due = await self._outbox.take_due(self._rules.sweep_size)
        await self._road.publish(due)
        missing = await self._missing()
        if missing:
            # Marked first: published and not marked, it would be published again at once.
            await self._outbox.mark_republished([pointer.ref for pointer in missing])
            await self._road.publish(missing)
        self._observer.swept(len(due), len(missing))

    async def _missing(self) -> Sequence[Pointer]:
        """Old rows whose entries are gone.

        Entries leave a stream only when they are processed, so a row's entry is gone if the stream is empty or begins
        clearly later than the row was put there. Without this a backlog would be published into itself. The streams are
        looked at first: what is processed after that look has no row any more when rows are.
        """
        rules, margin_ms = self._rules, int(self._rules.republish_after_s * 1000)
        before_ms: dict[str, int | None] = {}
        for stream in await self._outbox.old_streams(rules.republish_after_s):
            first_ms = await self._road.first_entry_ms(stream)
            before_ms[stream] = None if first_ms is None else first_ms - margin_ms
        if not before_ms:
            return []
        return await self._outbox.find_lost(
            before_ms, after_s=rules.republish_after_s, max_s=rules.republish_max_s, count=rules.sweep_size
        )
