"""The figures of `paynode bench` as one page of HTML: no script, nothing from elsewhere, to be kept and printed.

Drawn by a style sheet and some SVG and not by a library of plots: the known ones bring scripts along, draw for one
colour scheme, or need a numerical stack; what is drawn here are bars, and curves of a few points (decision 0031).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from paynode.bench.axes import TIMES, number
from paynode.bench.contenders import RATIOS, Kind, contender
from paynode.bench.curves import Curves, curves
from paynode.bench.goals import GOALS, judge
from paynode.bench.headlines import headlines
from paynode.bench.plots import Bars, Ranges, Stack, bars, from_goal, marks, ranges, stack
from paynode.bench.reports import Percentiles, Point, Report

_CSS: Final = Path(__file__).parent / "templates" / "report.css"

_TITLES: Final = {
    "hot": "One hot merchant",
    "zipf": "Many merchants, by Zipf's law",
    "duplicates": "Events said twice",
    "backlog": "A long backlog",
    "live": "Live, one hot merchant",
    "ingress": "Checkouts accepted",
    "e2e": "From checkout to ledger",
    "fair": "Neighbours of a backlog",
    "pos": "A till beside a backlog",
    "memory": "Idle merchants",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Throughput:
    """One scenario: paynode among those that are used instead, and under the ceilings."""

    title: str
    words: str
    rivals: Bars
    ceilings: Bars | None


@dataclass(frozen=True, slots=True, kw_only=True)
class RatioRow:
    """A ratio; `spread` is how far it moved from round to round."""

    title: str
    words: str
    value: str
    spread: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RateCurves:
    """Latencies by rate of one scenario."""

    title: str
    plot: Curves
    points: Sequence[Point]


def render(reports: Sequence[Report], *, today: str) -> str:
    """The whole page."""
    environment = Environment(
        loader=PackageLoader("paynode.bench"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["number"] = number
    judged = judge(reports)
    return environment.get_template("report.html").render(
        css=Markup(_CSS.read_text("utf-8")),  # noqa: S704 - our own
        today=today,
        machines=sorted({one.machine for one in reports if one.machine}),
        tiles=headlines(reports),
        marks=marks(judged),
        axis=from_goal(),
        throughputs=[_throughput(one) for one in reports if one.events_per_s is not None and one.baselines],
        latencies=_latencies(reports),
        by_rate=_by_rate(reports),
        stacks=_stacks(reports),
        grown=_grown(reports),
        footprints=_footprints(reports),
        ratios=_ratios(reports),
    )


def _throughput(report: Report) -> Throughput:
    own = ("paynode", report.events_per_s or 0.0, "own", "")
    beside = sorted(report.baselines.items(), key=lambda item: -item[1].events_per_s)
    rows: dict[Kind, list[tuple[str, float, str, str]]] = {kind: [] for kind in Kind}
    for name, rate in beside:
        who = contender(name)
        rows[who.kind].append((who.words, rate.events_per_s, who.kind.value, _times(own[1], rate.events_per_s)))
    ceilings = rows[Kind.CEILING]
    return Throughput(
        title=title_of(report),
        words=_what(report),
        rivals=bars([own, *rows[Kind.SELF], *rows[Kind.RIVAL]]),
        ceilings=bars([*ceilings, own]) if ceilings else None,
    )


def _times(own: float, other: float) -> str:
    return f"{number(own / other)}{TIMES}" if other else ""


def title_of(report: Report) -> str:
    """What a reader calls the scenario."""
    return _TITLES.get(report.scenario, report.scenario.replace("_", " "))


def _what(report: Report) -> str:
    words = [f"{report.events:,} events"] if report.events else []
    if report.merchants and report.merchants > 1:
        words.append(f"{report.merchants:,} merchants")
    if report.rounds and report.rounds > 1:
        words.append(f"median of {report.rounds} rounds, in turns")
    return ", ".join(words)


def _latencies(reports: Sequence[Report]) -> Ranges | None:
    """Those of scenarios that have no curve; the words say at which rate, or beside what."""
    drawn = {one.title for one in _by_rate(reports)}
    rows: dict[str, Percentiles] = {}
    for one in reports:
        if title_of(one) not in drawn:
            at = f", {number(one.rate)} a second" if one.rate else ""
            own = {"": one.latency_ms, ", with nothing beside": one.quiet_ms, ", to the answer": one.answer_ms}
            rows |= {f"{title_of(one)}{at}{words}": found for words, found in own.items() if found is not None}
    return ranges(rows) if rows else None


def _by_rate(reports: Iterable[Report]) -> list[RateCurves]:
    """Of a scenario that has points, or that was run at several rates."""
    points: dict[str, list[Point]] = {}
    for one in reports:
        own = points.setdefault(title_of(one), [])
        own += one.points
        if one.rate is not None and one.latency_ms is not None:
            own.append(Point(rate=one.rate, **one.latency_ms.model_dump()))
    return [
        RateCurves(title=title, plot=curves(found), points=sorted(found, key=lambda point: point.rate))
        for title, found in points.items()
        if len({point.rate for point in found}) > 1
    ]


def _stacks(reports: Iterable[Report]) -> list[Stack]:
    found: list[Stack] = []
    for one in reports:
        kinds = {"by the clock": one.stages_us, "of one processor": one.busy_us}
        longest = max((_whole(stages) for stages in kinds.values()), default=0.0)
        found += [stack(words, stages, longest) for words, stages in kinds.items() if stages]
    return found


def _whole(stages: Mapping[str, float]) -> float:
    return sum(value for name, value in stages.items() if not name.startswith("("))


def _grown(reports: Iterable[Report]) -> Bars | None:
    """What a worker's memory grows by while a backlog is drained."""
    rows = [
        ("one merchant" if name == "paynode" else contender(name).words.removeprefix("paynode, "), mb, "own", "")
        for one in reports
        for name, mb in one.grown_mb.items()
    ]
    return bars(rows, unit="MB", limits=_limits("grown_mb.paynode")) if rows else None


def _footprints(reports: Iterable[Report]) -> Bars | None:
    """A worker's memory by the merchants that it knows."""
    rows = [(f"{print_.merchants:,} merchants", print_.mb, "own", "") for one in reports for print_ in one.footprints]
    return bars(rows, unit="MB") if rows else None


def _limits(figure: str) -> dict[str, float]:
    goals = [goal for goal in GOALS if goal.figure == figure]
    return {words: value for goal in goals for words, value in (("goal", goal.goal), ("moonshot", goal.moonshot))}


def _ratios(reports: Iterable[Report]) -> list[RatioRow]:
    return [
        RatioRow(
            title=title_of(one),
            words=RATIOS.get(name, name.replace("_", " ")),
            value=number(value),
            spread=f"{number(one.spread[name])}{TIMES}" if name in one.spread else "",
        )
        for one in reports
        for name, value in one.ratios.items()
    ]
