"""Anchors the heads of all ledgers outside the database, again and again. One process at a time.

What is anchored is what a later look is held against: a ledger that was cut off together with its head, or sealed anew
from some entry on, is sound in itself and shows only here.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Protocol

from paynode.domain.anchoring import Anchor, Contradiction
from paynode.domain.errors import Transient
from paynode.domain.ledger import Head
from paynode.runtime.rounds import Rounds, Singleton
from paynode.runtime.stopping import Stop


class Heads(Protocol):
    """The heads of all ledgers. Raises: Unavailable."""

    async def read(self, each: Callable[[str, Head], None]) -> None:
        """Hand over every head, by merchant; return when all of it is durable on every server that counts."""


class NextAnchor(Protocol):
    """The anchor that is being written. Raises: Unavailable."""

    @property
    def contradicted(self) -> int: ...
    @property
    def contradictions(self) -> Sequence[Contradiction]: ...
    def add(self, merchant_id: str, head: Head) -> None: ...
    async def keep(self) -> Anchor | None: ...


class Anchors(Protocol):
    """Where anchors are kept. Raises: Unavailable."""

    def next(self) -> AbstractAsyncContextManager[NextAnchor]: ...


class AnchoringObserver(Protocol):
    """Hears of anchors, of none when nothing was new, and of ledgers that have lost what was anchored of them."""

    def anchored(self, anchor: Anchor | None) -> None: ...
    def anchor_contradicted(self, count: int, examples: Sequence[Contradiction]) -> None: ...
    def anchoring_failed(self, error: Exception) -> None: ...


class Anchoring:
    """A round every `interval_s` seconds."""

    def __init__(
        self, heads: Heads, anchors: Anchors, singleton: Singleton, observer: AnchoringObserver, *, interval_s: float
    ) -> None:
        self._heads = heads
        self._anchors = anchors
        self._rounds = Rounds(singleton, observer.anchoring_failed, interval_s=interval_s, transient=Transient)
        self._observer = observer

    async def run(self, stop: Stop) -> None:
        """Anchor until `stop`."""
        await self._rounds.run(self.run_once, stop)

    async def run_once(self) -> None:
        """Anchor once."""
        async with self._anchors.next() as anchor:
            # What is read may be the work of a transaction that a failover takes back: it is kept only after `read`
            # has made sure of all of it.
            await self._heads.read(anchor.add)
            self._observer.anchored(await anchor.keep())
            self._observer.anchor_contradicted(anchor.contradicted, anchor.contradictions)
