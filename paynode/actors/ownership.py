"""Which partitions this worker consumes: its fair share of them, under leases that it keeps or gives back."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import anyio
from anyio.abc import TaskGroup

from paynode.domain.batch import Lease
from paynode.domain.errors import Fenced, Transient
from paynode.domain.ownership import Sight, Taken, plan
from paynode.runtime.stopping import Stop


class Company(Protocol):
    """The workers that live, this one among them. Raises: Unavailable."""

    async def beat(self) -> None: ...
    async def look(self) -> Sight: ...
    async def leave(self) -> None: ...


class Leases(Protocol):
    """The leases of this worker. Raises: Unavailable."""

    async def take(self, count: int) -> Sequence[Taken]: ...
    async def keep(self, leases: Iterable[Lease]) -> frozenset[Lease]: ...
    async def release(self, lease: Lease) -> None: ...


class OwnershipObserver(Protocol):
    """Hears of partitions that come and go."""

    def taken(self, taken: Sequence[Taken]) -> None: ...
    def lost(self, lease: Lease) -> None: ...
    def released(self, lease: Lease) -> None: ...
    def round_failed(self, error: Exception) -> None: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Pace:
    """Seconds: between two renewals; between two looks; that an owner whose session is gone has to come back; in which
    a partition that is given back finishes what it has begun."""

    keep_s: float
    look_s: float
    grace_s: float
    give_back_s: float


Consume = Callable[[Lease, Stop, int], Awaitable[None]]


@dataclass(eq=False, slots=True)
class _Holding:
    lease: Lease
    unclean_deaths: int = 0
    drain: Stop = field(default_factory=Stop)
    scope: anyio.CancelScope = field(default_factory=anyio.CancelScope)
    ended: anyio.Event = field(default_factory=anyio.Event)
    is_lost: bool = False

    def lose(self) -> None:
        """Somebody else owns it, or will: nothing is to be finished, nor given back."""
        self.is_lost = True
        self.scope.cancel()


class Ownership:
    """Takes, keeps and gives back; consumes each partition while it is held."""

    def __init__(
        self,
        company: Company,
        leases: Leases,
        consume: Consume,
        observer: OwnershipObserver,
        *,
        partitions: int,
        pace: Pace,
    ) -> None:
        self._company = company
        self._leases = leases
        self._consume = consume
        self._observer = observer
        self._partitions = partitions
        self._pace = pace
        self._held: dict[int, _Holding] = {}
        self._keep_at = float("-inf")

    async def run(self, stop: Stop) -> None:
        """Hold a fair share until `stop`; then drain and give back everything. Complete when it returns."""
        async with anyio.create_task_group() as group:
            while True:
                pause_s = await self._round(group)
                if await stop.pause(pause_s):
                    break
            await self._give_back_all(group)

    async def _round(self, group: TaskGroup) -> float:
        """Returns how long to wait for the next one."""
        try:
            if anyio.current_time() >= self._keep_at:
                self._keep_at = anyio.current_time() + self._pace.keep_s
                await self._company.beat()
                await self._keep()
            await self._share(group)
        except Transient as error:
            # Our leases may end meanwhile. We need not know: the epoch decides in every transaction.
            self._observer.round_failed(error)
            self._keep_at = anyio.current_time()
            return self._pace.keep_s
        return self._pace.look_s

    async def _keep(self) -> None:
        held = {holding.lease for holding in self._held.values()}
        for lease in held - await self._leases.keep(held):
            holding = self._held.get(lease.partition)
            if holding is not None and holding.lease == lease:
                holding.lose()

    async def _share(self, group: TaskGroup) -> None:
        sight = await self._company.look()
        if sight.orphaned:
            # A cut connection looks like a death; whoever lives is back within a moment, and is not to lose its work.
            await anyio.sleep(self._pace.grace_s)
            sight = await self._company.look()
        draining = sum(holding.drain.is_set for holding in self._held.values())
        todo = plan(owned=len(self._held) - draining, sight=sight, partitions=self._partitions)
        keeping = [holding for holding in self._held.values() if not holding.drain.is_set]
        for holding in keeping[len(keeping) - todo.give :]:
            group.start_soon(self._give_back, holding)
        if todo.take:
            self._begin(await self._leases.take(todo.take), group)

    def _begin(self, taken: Sequence[Taken], group: TaskGroup) -> None:
        if taken:
            self._observer.taken(taken)
        for one in taken:
            holding = _Holding(one.lease, one.unclean_deaths)
            if (before := self._held.get(one.lease.partition)) is not None:
                before.lose()  # the lease had ended unnoticed: two runs must not read from one stream
            self._held[one.lease.partition] = holding
            group.start_soon(self._hold, holding)

    async def _hold(self, holding: _Holding) -> None:
        lease = holding.lease
        try:
            with holding.scope:
                await self._consume(lease, holding.drain, holding.unclean_deaths)
        except Fenced:
            holding.is_lost = True
        finally:
            if self._held.get(lease.partition) is holding:
                del self._held[lease.partition]
            holding.ended.set()
        if holding.is_lost:
            self._observer.lost(lease)
        else:
            await self._release(lease)

    async def _release(self, lease: Lease) -> None:
        try:
            await self._leases.release(lease)
        except Transient as error:
            self._observer.round_failed(error)  # the lease ends by itself
        self._observer.released(lease)

    async def _give_back(self, holding: _Holding) -> None:
        """Drain it, and not for long: what is not through by then is forgotten, and the next owner begins with it."""
        holding.drain.set()
        with anyio.move_on_after(self._pace.give_back_s):
            await holding.ended.wait()
        holding.scope.cancel()

    async def _give_back_all(self, group: TaskGroup) -> None:
        """The others take what is released from now on; the rest is kept while what is in hand is finished."""
        try:
            await self._company.leave()
        except Transient as error:
            self._observer.round_failed(error)  # the heartbeat ends by itself
        for holding in self._held.values():
            if not holding.drain.is_set:
                group.start_soon(self._give_back, holding)
        while self._held:
            with anyio.move_on_after(self._pace.keep_s):
                for holding in list(self._held.values()):
                    await holding.ended.wait()
            try:
                await self._keep()
            except Transient as error:
                self._observer.round_failed(error)
