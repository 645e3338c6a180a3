"""Requests that wait for something to change: a payment, or what was asked about one.

They hear of it in two ways: a notice (fast, and it may get lost), and a poll of all that is waited for in one query
(the only way while Redis is away). Neither carries what has changed: both lead to the same read.
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Generic, Protocol, TypeAlias, TypeVar

import anyio

from paynode.domain.errors import Transient
from paynode.domain.road import Change


class Watched(Protocol):
    """What can be waited for: `version` rises with every change of it."""

    @property
    def id(self) -> str: ...
    @property
    def version(self) -> int: ...


View = TypeVar("View", bound=Watched)

# Looks at those of the ids that exist, in no order. Raises: Unavailable.
Look: TypeAlias = Callable[[Sequence[str]], Awaitable[Sequence[View]]]


class Watch(Generic[View]):
    """One waiter's view of one thing."""

    def __init__(self) -> None:
        self.latest: View | None = None
        self._news = anyio.Event()
        self._is_over = False

    async def until(self, is_enough: Callable[[View], bool], *, within_s: float) -> View | None:
        """What is waited for as soon as it is enough; else as it is when the time is up or the ingress stops.

        None: nobody could look at it.
        """
        with anyio.move_on_after(within_s):
            while not self._is_over and (self.latest is None or not is_enough(self.latest)):
                # Reset before the wait, not after it: news that come in between would be erased.
                self._news = anyio.Event()
                await self._news.wait()
        return self.latest

    def tell(self, view: View) -> None:
        """It was looked at. Reads may overtake each other: an older version is no news."""
        if self.latest is None or view.version >= self.latest.version:
            self.latest = view
            self._news.set()

    @property
    def is_over(self) -> bool:
        """Whether the ingress stops: nothing is waited for any longer."""
        return self._is_over

    def end(self) -> None:
        """Nobody waits any longer."""
        self._is_over = True
        self._news.set()


class Waiters(Generic[View]):
    """All requests that wait, by the id of what they wait for."""

    def __init__(self, look: Look[View], *, poll_s: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._look_at = look
        self._poll_s = poll_s
        self._clock = clock
        self._watches: dict[str, set[Watch[View]]] = {}
        # Notices name a payment: which of the watched ids each is about.
        self._about: defaultdict[str, set[str]] = defaultdict(set)
        self._noticed: set[str] = set()
        self._stirred = anyio.Event()
        self._is_stopped = False

    @contextmanager
    def watch(self, watched_id: str, *, payment_id: str | None = None, look_now: bool = False) -> Iterator[Watch[View]]:
        """Hear of something. Begin before it can change: `look_now` is for what has existed before.

        `payment_id` is the payment that it belongs to, unless it is one.
        """
        watch, about = Watch[View](), payment_id or watched_id
        if self._is_stopped:
            watch.end()
        self._watches.setdefault(watched_id, set()).add(watch)
        self._about[about].add(watched_id)
        if look_now:
            self._notice({watched_id})
        try:
            yield watch
        finally:
            self._watches[watched_id].discard(watch)
            if not self._watches[watched_id]:
                del self._watches[watched_id]
                self._forget(about, watched_id)

    def changed(self, change: Change) -> None:
        """A notice came; most are about payments that nobody here waits for."""
        if change.payment_id in self._about:
            self._notice(self._about[change.payment_id])

    def is_watched(self, watched_id: str) -> bool:
        """Whether anybody waits for it."""
        return watched_id in self._watches

    def stop(self) -> None:
        """Let everybody who waits answer with what there is; later ones do not wait at all."""
        self._is_stopped = True
        for watches in self._watches.values():
            for watch in watches:
                watch.end()

    async def run(self) -> None:
        """Look at what was noticed at once, and at everything every `poll_s`; until cancelled."""
        poll_at = self._clock() + self._poll_s
        while True:
            with anyio.move_on_after(max(0.0, poll_at - self._clock())):
                await self._stirred.wait()
            is_poll = self._clock() >= poll_at
            if is_poll:
                poll_at = self._clock() + self._poll_s
            await self._look(self._take(is_poll=is_poll))

    def _forget(self, about: str, watched_id: str) -> None:
        self._about[about].discard(watched_id)
        if not self._about[about]:
            del self._about[about]

    def _notice(self, watched_ids: set[str]) -> None:
        self._noticed |= watched_ids
        self._stirred.set()

    def _take(self, *, is_poll: bool) -> list[str]:
        due = list(self._watches if is_poll else self._noticed & self._watches.keys())
        self._noticed.clear()
        self._stirred = anyio.Event()
        return due

    async def _look(self, due: list[str]) -> None:
        if not due:
            return
        try:
            views = await self._look_at(due)
        except Transient:
            return  # the next poll looks again: whoever waits has a deadline of its own
        for view in views:
            for watch in self._watches.get(view.id, ()):
                watch.tell(view)
