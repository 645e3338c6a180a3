"""What a partition's reader has read ahead and nobody has begun: by merchant, each in order, taken in turns.

A merchant with a hundred thousand messages waiting must neither make its neighbours wait nor fill the memory. So only
the next entries are kept whole, as far as there is room; of the rest only the ids, and they are fetched at their turn.
"""

from __future__ import annotations

import sys
from collections import Counter, deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Final

from paynode.actors.room import Room
from paynode.domain.road import Entry

# Turns in a row that served nobody else, after which a merchant counts as alone: half a second of a hot one's.
_ALONE_AFTER: Final = 100
# Shares that a merchant has while it is alone: three turns, one that is being written, one that waits to be, and one
# that is decided meanwhile. The first neighbour to come sits through them, and no second.
_ALONE_SHARES: Final = 50


@dataclass(slots=True)
class _Queue:
    whole: deque[Entry] = field(default_factory=deque)
    ids: deque[str] = field(default_factory=deque)

    def __len__(self) -> int:
        return len(self.whole) + len(self.ids)


@dataclass(slots=True)
class Turn:
    """What is to be begun next. `ids` are those to be fetched; they come after the merchant's whole ones."""

    whole: list[Entry] = field(default_factory=list)
    ids: list[str] = field(default_factory=list)


class Backlog:
    """Entries that wait, and how many of each merchant are begun and not settled.

    `share` bounds the latter: a batch takes no more of one merchant, and the next batch is prepared meanwhile. One that
    has long had the partition to itself may have more.
    """

    def __init__(self, room: Room, *, share: int) -> None:
        self._room = room
        self._share = share
        self._queues: dict[str, _Queue] = {}  # in the order of their turns
        self._begun: Counter[str] = Counter()
        self._merchant_of: dict[str, str] = {}  # of what is begun, by entry id
        self._size = 0
        self._alone: tuple[str, int] = ("", 0)  # who was served alone, and in how many turns in a row

    def __len__(self) -> int:
        return self._size

    @property
    def in_hand(self) -> int:
        """Those that wait, and those that are begun and not settled."""
        return self._size + len(self._merchant_of)

    def add(self, entries: Iterable[Entry]) -> None:
        """Put entries behind those of their merchants."""
        for entry in entries:
            merchant = entry.merchant
            queue = self._queues.get(merchant)
            if queue is None:
                queue = self._queues[merchant] = _Queue()
            # One whose predecessors are ids only is kept as an id too: the order of a merchant's entries is kept.
            if not queue.ids and self._room.take_whole(len(queue.whole)):
                queue.whole.append(entry)
            else:
                queue.ids.append(entry.id)
            self._size += 1

    def take(self, count: int, *, is_beside_tills: bool = False) -> Turn:
        """Up to `count` entries, of each merchant so many as its share allows; who was served goes to the end.

        Beside tills nobody counts as alone: people there would sit through many of its large batches, and wait for as
        long as each keeps the event loop.
        """
        turn = Turn()
        served: list[str] = []
        for merchant, queue in self._queues.items():
            left = count - len(turn.whole) - len(turn.ids)
            if left <= 0:
                break
            allowance = self._allowance(merchant, is_beside_tills=is_beside_tills)
            if self._serve(merchant, queue, turn, min(left, allowance)):
                served.append(merchant)
        self._remember(served)
        for merchant in served:
            queue = self._queues.pop(merchant)
            if len(queue):
                self._queues[merchant] = queue
        return turn

    def _allowance(self, merchant: str, *, is_beside_tills: bool) -> int:
        # Entries that do not say whose they are cannot be told apart: they are all of them one merchant's, or nobody's.
        if not merchant:
            return sys.maxsize
        last, turns = self._alone
        is_alone = last == merchant and turns >= _ALONE_AFTER and len(self._queues) == 1 and not is_beside_tills
        return self._share * (_ALONE_SHARES if is_alone else 1) - self._begun[merchant]

    def _remember(self, served: Sequence[str]) -> None:
        if len(served) == 1:
            [merchant] = served
            last, turns = self._alone
            self._alone = (merchant, turns + 1 if merchant == last else 1)
        elif served:
            self._alone = ("", 0)

    def _serve(self, merchant: str, queue: _Queue, turn: Turn, count: int) -> bool:
        taken = 0
        while taken < count and queue.whole:
            entry = queue.whole.popleft()
            turn.whole.append(entry)
            self._merchant_of[entry.id] = merchant
            taken += 1
        self._room.give_whole(taken)
        while taken < count and queue.ids:
            entry_id = queue.ids.popleft()
            turn.ids.append(entry_id)
            self._merchant_of[entry_id] = merchant
            taken += 1
        self._begun[merchant] += taken
        self._size -= taken
        return taken > 0

    def settle(self, entry_ids: Sequence[str]) -> int:
        """These are done with: their merchants may have others begun in their place. Says how many were begun here."""
        known = 0
        for entry_id in entry_ids:
            merchant = self._merchant_of.pop(entry_id, None)
            if merchant is not None:
                known += 1
                self._begun[merchant] -= 1
                if self._begun[merchant] <= 0:
                    del self._begun[merchant]
        return known

    def close(self) -> None:
        """Nothing of it is taken any more."""
        self._room.give_whole(sum(len(queue.whole) for queue in self._queues.values()))
        self._queues.clear()

    def put_back(self) -> None:
        """What is begun and not settled waits again, before all else of its merchant; only its id is kept."""
        begun: dict[str, list[str]] = {}
        for entry_id, merchant in self._merchant_of.items():
            begun.setdefault(merchant, []).append(entry_id)
        for merchant, entry_ids in begun.items():
            queue = self._queues.setdefault(merchant, _Queue())
            self._room.give_whole(len(queue.whole))
            queue.ids = deque((*entry_ids, *(entry.id for entry in queue.whole), *queue.ids))
            queue.whole.clear()
        self._size += len(self._merchant_of)
        self._merchant_of.clear()
        self._begun.clear()
