"""Whether anything fell: what was measured now against what was accepted before. Ratios and sizes, never times.

The same time moves by a factor of 1.6 between two hours of one machine; a ratio of two things that were measured in
turns moves by less, and how much is written down beside it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Final, TypeAlias

# A scenario and one of its figures: ("hot", "ratios.batch_loop").
Key: TypeAlias = tuple[str, str]

# How much a figure may move of which only one round is known, and the least that any may: a quarter, a tenth.
_UNKNOWN: Final = 1.25
_LEAST: Final = 1.1


class Verdict(Enum):
    """What became of a figure. GONE: its scenario was run and did not tell it; NOT_RUN: its scenario was not."""

    FELL = "fell"
    IMPROVED = "improved"
    AS_BEFORE = "as before"
    GONE = "gone"
    NOT_RUN = "not run"
    NEW = "new"


# What a check ends with failure for.
BAD: Final = frozenset({Verdict.FELL, Verdict.GONE})


@dataclass(frozen=True, slots=True, kw_only=True)
class Kept:
    """A figure that was accepted, and the factor by which it may move either way. Less is better of a limit."""

    value: float
    may_move: float
    is_limit: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Moved:
    """A figure before and now; `change` is how many times better it is now."""

    key: Key
    old: Kept | None
    new: float | None
    verdict: Verdict

    @property
    def change(self) -> float | None:
        """1.1 is a tenth better; None when there is nothing to compare."""
        if self.old is None or self.new is None:
            return None
        return _times_better(self.old, self.new)


def tolerance(spread: float | None) -> float:
    """The factor by which a figure may move: what lay between its best and its worst round, when that is known."""
    return _UNKNOWN if spread is None else max(spread, _LEAST)


def compare(old: Mapping[Key, Kept], new: Mapping[Key, float]) -> tuple[Moved, ...]:
    """Every figure of either, in the order of their names."""
    scenarios = {scenario for scenario, _ in new}
    return tuple(
        Moved(key=key, old=old.get(key), new=new.get(key), verdict=_verdict(key, old.get(key), new.get(key), scenarios))
        for key in sorted({*old, *new})
    )


def _verdict(key: Key, old: Kept | None, new: float | None, scenarios: Iterable[str]) -> Verdict:
    if new is None:
        return Verdict.GONE if key[0] in scenarios else Verdict.NOT_RUN
    if old is None:
        return Verdict.NEW
    change = _times_better(old, new)
    if change * old.may_move < 1:
        return Verdict.FELL
    return Verdict.IMPROVED if change > old.may_move else Verdict.AS_BEFORE


def _times_better(old: Kept, new: float) -> float:
    """A figure of nothing, which a ratio should never be, is infinitely worse than any other, or better as a limit."""
    before, now = (new, old.value) if old.is_limit else (old.value, new)
    if before == now:
        return 1.0
    return now / before if before > 0 else float("inf")
