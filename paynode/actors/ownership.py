"""Which partitions this worker consumes: its fair share of them, under leases that it keeps or gives back."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Protocol

import anyio
from anyio.abc import TaskGroup

from paynode.domain.batch import Lease
from paynode.domain.errors import Fenced, Transient
from paynode.runtime.stopping import Stop


class Leases(Protocol):
    """The leases of this worker. Raises: Unavailable."""

    async def beat(self) -> int: ...
    async def take(self, count: int) -> Mapping[Lease, str | None]: ...
    async def keep(self, leases: Iterable[Lease]) -> frozenset[Lease]: ...
    async def release(self, lease: Lease) -> None: ...
    async def stop(self) -> None: ...


class OwnershipObserver(Protocol):
    """Hears of partitions that come and go."""

    def taken(self, leases: Mapping[Lease, str | None]) -> None: ...
    def lost(self, lease: Lease) -> None: ...
    def released(self, lease: Lease) -> None: ...
    def round_failed(self, error: Exception) -> None: ...


@dataclass(frozen=True, slots=True)
class Plan:
    """How many partitions to give back, and how many to take."""

    give: int
    take: int


def plan(*, owned: int, live: int, partitions: int) -> Plan:
    """A fair share is ceil(partitions / live workers): nobody holds more, everybody may take up to it."""
    share = -(-partitions // live)
    return Plan(give=max(0, owned - share), take=max(0, share - owned))


@dataclass(eq=False, slots=True)
class _Holding:
    lease: Lease
    drain: Stop = field(default_factory=Stop)
    scope: anyio.CancelScope = field(default_factory=anyio.CancelScope)


class Ownership:
    """Takes, keeps and gives back; consumes each partition while it is held."""

    def __init__(
        self,
        leases: Leases,
        consume: Callable[[Lease, Stop], Awaitable[None]],
        observer: OwnershipObserver,
        *,
        partitions: int,
        interval_s: float,
    ) -> None:
        self._leases = leases
        self._consume = consume
        self._observer = observer
        self._partitions = partitions
        self._interval_s = interval_s
        self._held: dict[int, _Holding] = {}

    async def run(self, stop: Stop) -> None:
        """Hold a fair share until `stop`; then drain and give back everything. Complete when it returns."""
        async with anyio.create_task_group() as group:
            while True:
                await self._round(group)
                if await stop.pause(self._interval_s):
                    break
            await self._give_back_all()
        try:
            await self._leases.stop()
        except Transient as error:
            self._observer.round_failed(error)  # the heartbeat ends by itself

    async def _round(self, group: TaskGroup) -> None:
        try:
            live = await self._leases.beat()
            await self._keep()
            draining = sum(holding.drain.is_set for holding in self._held.values())
            todo = plan(owned=len(self._held) - draining, live=live, partitions=self._partitions)
            self._give(todo.give)
            if todo.take:
                self._begin(await self._leases.take(todo.take), group)
        except Transient as error:
            # Our leases may end meanwhile. We need not know: the epoch decides in every transaction.
            self._observer.round_failed(error)

    async def _keep(self) -> None:
        held = {holding.lease for holding in self._held.values()}
        for lease in held - await self._leases.keep(held):
            holding = self._held.get(lease.partition)
            if holding is not None and holding.lease == lease:
                holding.scope.cancel()

    def _give(self, count: int) -> None:
        keeping = [holding for holding in self._held.values() if not holding.drain.is_set]
        for holding in keeping[len(keeping) - count :]:
            holding.drain.set()

    def _begin(self, leases: Mapping[Lease, str | None], group: TaskGroup) -> None:
        if leases:
            self._observer.taken(leases)
        for lease in leases:
            holding = _Holding(lease)
            self._held[lease.partition] = holding
            group.start_soon(self._hold, holding)

    async def _hold(self, holding: _Holding) -> None:
        lease = holding.lease
        is_drained = False
        try:
            with holding.scope:
                await self._consume(lease, holding.drain)
                is_drained = True
        except Fenced:
            pass
        finally:
            if self._held.get(lease.partition) is holding:
                del self._held[lease.partition]
        if is_drained:
            await self._release(lease)
        else:
            self._observer.lost(lease)

    async def _release(self, lease: Lease) -> None:
        try:
            await self._leases.release(lease)
        except Transient as error:
            self._observer.round_failed(error)  # the lease ends by itself
        self._observer.released(lease)

    async def _give_back_all(self) -> None:
        """Drain all; leases are kept meanwhile, because draining may take longer than one lasts."""
        for holding in self._held.values():
            holding.drain.set()
        while self._held:
            await anyio.sleep(self._interval_s / 10)
            try:
                await self._keep()
            except Transient as error:
                self._observer.round_failed(error)
