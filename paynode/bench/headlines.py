"""The few figures that are read first."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from paynode.bench.axes import TIMES, number
from paynode.bench.goals import Standing, judge
from paynode.bench.reports import Report


@dataclass(frozen=True, slots=True, kw_only=True)
class Headline:
    """A figure in words, what it is of, and what stands small below."""

    value: str
    words: str
    note: str


@dataclass(frozen=True, slots=True)
class _Wanted:
    scenario: str
    figure: str
    unit: str
    words: str
    note: str
    rate: float | None = None


_WANTED: Final = (
    _Wanted("hot", "events_per_s", "", "events a second", "of one hot merchant, durable and chained"),
    _Wanted("hot", "ratios.row_lock_best", TIMES, "the best row-lock loop", "on the same servers, in turns"),
    _Wanted(
        "live", "latency_ms.p99", " ms", "from due to committed", "p99 of one hot merchant, 10,000 a second", 10_000
    ),
    _Wanted("memory", "bytes_per_idle_merchant", " B", "for each idle merchant", "that a worker knows"),
)


def headlines(reports: Sequence[Report]) -> list[Headline]:
    """How many goals are reached, and those of the figures above that were measured; of several runs the last."""
    found = [_goals(reports)]
    for one in _WANTED:
        runs = [run for run in reports if run.scenario == one.scenario and one.rate in (None, run.rate)]
        values = (run.figure(one.figure) for run in runs)
        known = [value for value in values if value is not None]
        if known:
            found.append(Headline(value=f"{number(known[-1])}{one.unit}", words=one.words, note=one.note))
    return found


def _goals(reports: Sequence[Report]) -> Headline:
    standings = [one.standing for one in judge(reports) if one.value is not None]
    moonshots = standings.count(Standing.MOONSHOT)
    reached = moonshots + standings.count(Standing.REACHED)
    note = f"{moonshots} of them beyond the moonshot"
    return Headline(value=f"{reached} of {len(standings)}", words="goals reached", note=note)
