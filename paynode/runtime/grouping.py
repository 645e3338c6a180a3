"""Many callers, one effect: whoever comes while a group is under way forms the next group.

There is no artificial delay. A lone caller is served at once, and under load the groups grow by themselves to what
arrives during one effect.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from typing import Final, Generic, TypeVar

import anyio

Item = TypeVar("Item")
Result = TypeVar("Result")

# Groups by which it is told how long an item takes. Several: one that met a hiccup says little.
_GROUPS: Final = 8


class GroupFull(Exception):
    """More callers wait than may; nothing was done for this one."""


class GroupStopped(Exception):
    """The grouper stopped before it took this caller's item; nothing was done for it."""


class _Waiter(Generic[Item, Result]):
    __slots__ = ("answer", "item", "since")

    def __init__(self, item: Item, since: float) -> None:
        self.item = item
        self.since = since
        # asyncio's own: every request has one, and anyio's event costs ten times as much.
        self.answer: asyncio.Future[Result] = asyncio.get_running_loop().create_future()

    def fail(self, error: Exception) -> None:
        """Unless the caller has gone."""
        if not self.answer.done():
            self.answer.set_exception(error)


class Grouper(Generic[Item, Result]):
    """Runs `effect` over groups of items: one result for each item, in order, or an exception for them all.

    A caller that is cancelled while it waits takes its item back if no group has taken it yet; afterwards the
    effect goes on without it (it may be a COMMIT, which nobody may cancel).

    The urgent go first, and the last `urgent_places` of those that wait are theirs alone.
    """

    def __init__(
        self,
        effect: Callable[[Sequence[Item]], Awaitable[Sequence[Result]]],
        *,
        group_size_max: int,
        waiting_max: int,
        urgent_places: int = 0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._effect = effect
        self._group_size_max = group_size_max
        self._waiting_max = waiting_max
        self._urgent_places = urgent_places
        self._clock = clock
        self._urgent: deque[_Waiter[Item, Result]] = deque()
        self._waiting: deque[_Waiter[Item, Result]] = deque()
        self._served: Sequence[_Waiter[Item, Result]] = ()  # whose effect is under way
        self._recent_items: deque[int] = deque(maxlen=_GROUPS)
        self._recent_s: deque[float] = deque(maxlen=_GROUPS)
        self._arrived = anyio.Event()
        self._is_stopped = False

    def waited_s(self) -> float:
        """What whoever comes now would have to wait, 0 if nobody did: what the oldest that has no result yet has waited
        already, and at least what all before him take at the pace of the last groups.

        By their ages alone it is known too late: of a thousand that come at once nobody is old.
        """
        ahead = len(self._served) + len(self._urgent) + len(self._waiting)
        if not ahead:
            return 0.0
        since = min(ones[0].since for ones in (self._served, self._urgent, self._waiting) if ones)
        return max(self._clock() - since, ahead * self._pace_s())

    def _pace_s(self) -> float:
        items, seconds = sum(self._recent_items), sum(self._recent_s)
        return seconds / items if items else 0.0

    async def submit(self, item: Item, *, is_urgent: bool = False) -> Result:
        """The result of the group that takes the item.

        Raises: GroupFull, GroupStopped (nothing was done); whatever the effect raises.
        """
        if self._is_stopped:
            raise GroupStopped
        places = self._waiting_max if is_urgent else self._waiting_max - self._urgent_places
        if len(self._urgent) + len(self._waiting) >= places:
            raise GroupFull
        queue = self._urgent if is_urgent else self._waiting
        waiter: _Waiter[Item, Result] = _Waiter(item, self._clock())  # parametrised it takes twice as long to make
        queue.append(waiter)
        self._arrived.set()
        try:
            return await waiter.answer
        except asyncio.CancelledError:
            if waiter in queue:
                queue.remove(waiter)
            raise

    async def run(self) -> None:
        """Serve groups until cancelled; every caller still waiting then gets `GroupStopped`."""
        try:
            while True:
                await self._arrived.wait()
                group = self._take()
                if not group:  # whoever came has gone again
                    continue
                with anyio.CancelScope(shield=True):
                    await self._serve(group)
        finally:
            self._is_stopped = True
            for waiter in (*self._urgent, *self._waiting):
                waiter.fail(GroupStopped())
            self._urgent.clear()
            self._waiting.clear()

    def _take(self) -> list[_Waiter[Item, Result]]:
        group: list[_Waiter[Item, Result]] = []
        for queue in (self._urgent, self._waiting):
            count = min(len(queue), self._group_size_max - len(group))
            group += [queue.popleft() for _ in range(count)]
        if not self._urgent and not self._waiting:
            self._arrived = anyio.Event()
        return group

    async def _serve(self, group: list[_Waiter[Item, Result]]) -> None:
        self._served, begun = sorted(group, key=lambda waiter: waiter.since), self._clock()
        try:
            results = await self._effect([waiter.item for waiter in group])
            # Told when it is known that there is one for each: all of a group succeed or none.
            for waiter, result in tuple(zip(group, results, strict=True)):
                if not waiter.answer.done():  # else its caller has gone
                    waiter.answer.set_result(result)
        except Exception as error:  # noqa: BLE001 - every kind of failure belongs to the callers, none to this loop
            for waiter in group:
                waiter.fail(error)
        self._served = ()
        self._recent_items.append(len(group))
        self._recent_s.append(self._clock() - begun)
