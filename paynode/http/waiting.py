"""Requests that wait for a payment to change.

They hear of it in two ways: a notice (fast, and it may get lost), and a poll of all waiting payments in one query (the
only way while Redis is away). Neither carries the payment: both lead to the same read.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Protocol

import anyio

from paynode.domain.errors import Transient
from paynode.domain.reading import PaymentView
from paynode.domain.road import Change


class Looking(Protocol):
    """Where payments are looked at."""

    async def payments_by_id(self, ids: Sequence[str]) -> Sequence[PaymentView]:
        """Those that exist, in no order. Raises: Unavailable."""


class Watch:
    """One waiter's view of one payment."""

    def __init__(self) -> None:
        self.latest: PaymentView | None = None
        self._news = anyio.Event()
        self._is_over = False

    async def until(self, is_enough: Callable[[PaymentView], bool], *, within_s: float) -> PaymentView | None:
        """The payment as soon as it is enough; else as it is when the time is up or the ingress stops.

        None: nobody could look at it.
        """
        with anyio.move_on_after(within_s):
            while not self._is_over and (self.latest is None or not is_enough(self.latest)):
                # Reset before the wait, not after it: news that come in between would be erased.
                self._news = anyio.Event()
                await self._news.wait()
        return self.latest

    def tell(self, view: PaymentView) -> None:
        """The payment was looked at. Reads may overtake each other: an older version is no news."""
        if self.latest is None or view.version >= self.latest.version:
            self.latest = view
            self._news.set()

    def end(self) -> None:
        """Nobody waits any longer."""
        self._is_over = True
        self._news.set()


class Waiters:
    """All requests that wait, by payment."""

    def __init__(self, looking: Looking, *, poll_s: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._looking = looking
        self._poll_s = poll_s
        self._clock = clock
        self._watches: dict[str, set[Watch]] = {}
        self._noticed: set[str] = set()
        self._stirred = anyio.Event()
        self._is_stopped = False

    @contextmanager
    def watch(self, payment_id: str, *, look_now: bool = False) -> Iterator[Watch]:
        """Hear of a payment. Begin before it can change: `look_now` is for one that has existed before."""
        watch = Watch()
        if self._is_stopped:
            watch.end()
        self._watches.setdefault(payment_id, set()).add(watch)
        if look_now:
            self._notice(payment_id)
        try:
            yield watch
        finally:
            self._watches[payment_id].discard(watch)
            if not self._watches[payment_id]:
                del self._watches[payment_id]

    def changed(self, change: Change) -> None:
        """A notice came; most are about payments that nobody here waits for."""
        if self.is_watched(change.payment_id):
            self._notice(change.payment_id)

    def is_watched(self, payment_id: str) -> bool:
        """Whether anybody waits for the payment."""
        return payment_id in self._watches

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

    def _notice(self, payment_id: str) -> None:
        self._noticed.add(payment_id)
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
            views = await self._looking.payments_by_id(due)
        except Transient:
            return  # the next poll looks again: whoever waits has a deadline of its own
        for view in views:
            for watch in self._watches.get(view.id, ()):
                watch.tell(view)
