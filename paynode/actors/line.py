"""Decisions that wait to be written, in their order, and what may overtake.

Somebody stands at a till and waits: what is decided about a payment at a point of sale goes before what other merchants
wait for, never before what the same merchant has waiting, upon which it was decided.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Sequence
from typing import Final, Generic, NamedTuple, Protocol, TypeAlias, TypeVar

from paynode.actors.merchant import Decided

# Decisions in one batch while there are points of sale: whoever comes next sits through one that is under way. It costs
# the others a quarter of their throughput.
_BESIDE_POS: Final = 100
# Seconds after the last decision about a point of sale in which the next one is expected.
_EXPECTED_S: Final = 2.0


class Undisturbed(Protocol):
    """Where decisions come from."""

    @property
    def has_failed(self) -> bool: ...


Run = TypeVar("Run", bound=Undisturbed)
_Whose: TypeAlias = tuple[int, str] | None


class Waiting(NamedTuple, Generic[Run]):
    """A decision and the run that it comes from; `whose` is the actor that decided it, None if none did."""

    run: Run
    decided: Decided
    whose: _Whose

    @classmethod
    def of(cls, run: Run, decided: Decided) -> Waiting[Run]:
        """A decision that comes to wait."""
        message = decided.message
        return cls(run, decided, None if message is None else (id(run), message.merchant_id))


class Line(Generic[Run]):
    """The decisions of one committer."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._first: deque[Waiting[Run]] = deque()
        self._others: deque[Waiting[Run]] = deque()
        self._waiting: Counter[_Whose] = Counter()  # of the others, by whose they are
        self._pos_at = float("-inf")

    def __len__(self) -> int:
        return len(self._first) + len(self._others)

    def add(self, waiting: Waiting[Run]) -> None:
        """Behind all others, or before those of other merchants."""
        if waiting.decided.is_pos:
            self._pos_at = self._clock()
            if waiting.whose not in self._waiting:
                self._first.append(waiting)
                return
        self._others.append(waiting)
        self._waiting[waiting.whose] += 1

    def put_back(self, taken: Sequence[Waiting[Run]]) -> None:
        """These were taken and are still to be written, before all that came since."""
        returning = [*taken, *self._first]
        self._first.clear()
        self._others.extendleft(reversed(returning))
        self._waiting.update(waiting.whose for waiting in returning)

    def take(self, count: int) -> list[Waiting[Run]]:
        """The next ones; those of runs that failed are dropped, for they stand on what was not written."""
        if self._clock() - self._pos_at < _EXPECTED_S:
            count = min(count, _BESIDE_POS)
        taken: list[Waiting[Run]] = []
        while len(self) and len(taken) < count:
            waiting = self._next()
            if not waiting.run.has_failed:
                taken.append(waiting)
        return taken

    def _next(self) -> Waiting[Run]:
        if self._first:
            return self._first.popleft()
        waiting = self._others.popleft()
        self._waiting[waiting.whose] -= 1
        if not self._waiting[waiting.whose]:
            del self._waiting[waiting.whose]
        return waiting
