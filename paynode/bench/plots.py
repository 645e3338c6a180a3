"""Plots as a template draws them: every place a percentage of the plot, every figure already in words.

They are boxes that the style sheet draws; only the curves (curves.py) need SVG.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from paynode.bench.axes import TIMES, Linear, Log, Tick, number
from paynode.bench.goals import Judged, Standing
from paynode.bench.reports import Percentiles

# How far from its goal a figure is still told apart: a quarter of it, eight times.
_FROM_GOAL: Final = Log(0.25, 8.0)
_FROM_GOAL_TICKS: Final = (0.25, 0.5, 1.0, 2.0, 4.0, 8.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Mark:
    """A goal with what was reached: `at` is None when nothing was measured."""

    what: str
    value: str
    goal: str
    moonshot: str
    standing: Standing
    at: float | None
    goal_at: float
    moonshot_at: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Bar:
    """One row: `kind` says how it is drawn, `note` stands small beside the figure."""

    words: str
    value: str
    width: float
    kind: str
    note: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Bars:
    """Rows upon one axis from zero; `limits` are marks across all of them."""

    rows: Sequence[Bar]
    ticks: Sequence[Tick]
    limits: Sequence[Tick] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Range:
    """From a median to the slowest of a thousand."""

    words: str
    p50: Tick
    p99: Tick
    p999: Tick | None

    @property
    def end(self) -> float:
        """Where it ends."""
        return (self.p999 or self.p99).at


@dataclass(frozen=True, slots=True, kw_only=True)
class Ranges:
    """Rows upon one logarithmic axis."""

    rows: Sequence[Range]
    ticks: Sequence[Tick]


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """A stage: its share of the whole, and which of the style sheet's colours it has."""

    words: str
    value: str
    share: float
    colour: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Stack:
    """Stages one after the other; `within` are parts of those, measured by themselves."""

    words: str
    total: str
    width: float
    parts: Sequence[Part]
    within: Sequence[tuple[str, str]]


def marks(judged: Sequence[Judged]) -> tuple[Mark, ...]:
    """How far each goal is reached, further to the right always being better."""
    return tuple(_mark(one) for one in judged)


def _mark(one: Judged) -> Mark:
    goal = one.goal
    beyond = goal.goal / goal.moonshot if goal.is_limit else goal.moonshot / goal.goal
    limit = "≤ " if goal.is_limit else "≥ "
    return Mark(
        what=goal.what,
        value="not measured" if one.value is None else _sized(one.value, goal.unit),
        goal=limit + _sized(goal.goal, goal.unit),
        moonshot=limit + _sized(goal.moonshot, goal.unit),
        standing=one.standing,
        at=None if one.value is None else _percent(_FROM_GOAL.at(one.times(goal.goal))),
        goal_at=_percent(_FROM_GOAL.at(1.0)),
        moonshot_at=_percent(_FROM_GOAL.at(beyond)),
    )


def from_goal() -> tuple[Tick, ...]:
    """The axis of `marks`: times as good as the goal asks for."""
    words = ("a quarter", "half", "goal", f"2{TIMES}", f"4{TIMES}", f"8{TIMES}")
    return tuple(
        Tick(at=_percent(_FROM_GOAL.at(tick)), words=word) for tick, word in zip(_FROM_GOAL_TICKS, words, strict=True)
    )


def bars(
    rows: Sequence[tuple[str, float, str, str]], *, unit: str = "", limits: Mapping[str, float] | None = None
) -> Bars:
    """Rows of (words, value, kind, note)."""
    limits = limits or {}
    axis = Linear.around([*(value for _, value, _, _ in rows), *limits.values()])
    return Bars(
        rows=tuple(
            Bar(words=words, value=_sized(value, unit), width=_percent(axis.at(value)), kind=kind, note=note)
            for words, value, kind, note in rows
        ),
        ticks=_ticks(axis),
        limits=tuple(
            Tick(at=_percent(axis.at(value)), words=f"{words}: {_sized(value, unit)}")
            for words, value in limits.items()
        ),
    )


def ranges(rows: Mapping[str, Percentiles]) -> Ranges:
    """Latencies that stand for themselves, in milliseconds."""
    axis = Log.around(value for one in rows.values() for value in (one.p50, one.p99, one.p999 or 0.0))

    def tick(value: float) -> Tick:
        return Tick(at=_percent(axis.at(value)), words=number(value))

    return Ranges(
        rows=tuple(
            Range(words=words, p50=tick(one.p50), p99=tick(one.p99), p999=None if one.p999 is None else tick(one.p999))
            for words, one in rows.items()
        ),
        ticks=_ticks(axis),
    )


def stack(words: str, stages: Mapping[str, float], longest: float) -> Stack:
    """Microseconds of each stage. A name in parentheses is a part of another stage and is not added again."""
    own = {name: value for name, value in stages.items() if not name.startswith("(")}
    total = sum(own.values())
    return Stack(
        words=words,
        total=number(total),
        width=_percent(total / longest if longest else 0.0),
        parts=tuple(
            Part(words=name, value=number(value), share=_percent(value / total if total else 0.0), colour=place)
            for place, (name, value) in enumerate(own.items())
        ),
        within=tuple((name.strip("()"), number(value)) for name, value in stages.items() if name not in own),
    )


def _ticks(axis: Linear | Log) -> tuple[Tick, ...]:
    return tuple(Tick(at=_percent(axis.at(tick)), words=number(tick)) for tick in axis.ticks)


def _percent(part: float) -> float:
    return round(part * 100, 2)


def _sized(value: float, unit: str) -> str:
    return f"{number(value)} {unit}" if unit else number(value)
