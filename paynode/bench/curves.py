"""Curves of latencies over rates, in the units of the SVG that a template writes them to."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from paynode.bench.axes import Linear, Log, Tick, number
from paynode.bench.reports import Point

# The curves' own measures, in SVG units: the plot, and room for words left of, above, right of and below it.
_WIDTH: Final = 720.0
_HEIGHT: Final = 260.0
_LEFT: Final = 64.0
_TOP: Final = 12.0
_RIGHT: Final = 100.0
_BELOW: Final = 44.0
# Words at the ends of curves stand at least so far apart.
_APART: Final = 16.0
_PERCENTILES: Final = {"p50": "p50", "p99": "p99", "p999": "p99.9"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Curve:
    """One percentile: points, and where its name and last figure stand."""

    name: str
    points: Sequence[tuple[float, float]]
    words: str
    words_at: float

    @property
    def line(self) -> str:
        """As SVG wants it."""
        return " ".join(f"{x:.1f},{y:.1f}" for x, y in self.points)


@dataclass(frozen=True, slots=True, kw_only=True)
class Curves:
    """Latencies by rate, in SVG units."""

    curves: Sequence[Curve]
    across: Sequence[Tick]
    up: Sequence[Tick]
    left: float = _LEFT
    right: float = _LEFT + _WIDTH
    top: float = _TOP
    bottom: float = _TOP + _HEIGHT
    width: float = _LEFT + _WIDTH + _RIGHT
    height: float = _TOP + _HEIGHT + _BELOW


def curves(points: Sequence[Point]) -> Curves:
    """A curve for each percentile over the rates; a rate that was measured twice has two points."""
    known = sorted(points, key=lambda point: point.rate)
    across = Linear.around(point.rate for point in known)
    up = Log.around(value for point in known for value in (point.p50, point.p99, point.p999 or 0.0))
    drawn = {name: _drawn(name, known, across, up) for name in _PERCENTILES}
    ends = _spread_out({name: line[-1][1] for name, line in drawn.items() if line})
    return Curves(
        curves=tuple(
            Curve(
                name=name, points=drawn[name], words=f"{_PERCENTILES[name]} {_last(name, known)}", words_at=ends[name]
            )
            for name in ends
        ),
        across=tuple(Tick(at=_x(across.at(tick)), words=number(tick)) for tick in across.ticks),
        up=tuple(Tick(at=_y(up.at(tick)), words=number(tick)) for tick in up.ticks),
    )


def _drawn(name: str, points: Sequence[Point], across: Linear, up: Log) -> list[tuple[float, float]]:
    known = ((point.rate, getattr(point, name)) for point in points)
    return [(_x(across.at(rate)), _y(up.at(value))) for rate, value in known if value is not None]


def _last(name: str, points: Sequence[Point]) -> str:
    return number([value for point in points if (value := getattr(point, name)) is not None][-1])


def _spread_out(wanted: Mapping[str, float]) -> dict[str, float]:
    """Places for words as near to those wanted as they can be read, from the top down."""
    places: dict[str, float] = {}
    above = -_APART
    for name, place in sorted(wanted.items(), key=lambda item: item[1]):
        above = places[name] = max(place, above + _APART)
    return {name: places[name] for name in wanted}


def _x(part: float) -> float:
    return round(_LEFT + part * _WIDTH, 1)


def _y(part: float) -> float:
    return round(_TOP + (1 - part) * _HEIGHT, 1)
