"""What paynode is to reach: each goal a ratio, a latency or a size of one scenario, with the moonshot beyond it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum
from typing import Final

from paynode.bench.reports import Report


class Standing(Enum):
    """How far a goal was reached; NOT_MEASURED when no report has its figure."""

    MOONSHOT = "moonshot"
    REACHED = "reached"
    MISSED = "missed"
    NOT_MEASURED = "not measured"


@dataclass(frozen=True, slots=True, kw_only=True)
class Goal:
    """A figure of a scenario's report (`ratios.hot`), and what it is to be: at least that, or with `is_limit` at most.

    `unit` is empty for a ratio. Of a scenario that was run at several rates, the run at `rate` is meant.
    """

    scenario: str
    figure: str
    what: str
    goal: float
    moonshot: float
    unit: str = ""
    is_limit: bool = False
    rate: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Judged:
    """A goal with what was measured; None when nothing was."""

    goal: Goal
    value: float | None

    @property
    def standing(self) -> Standing:
        """Which of its two marks it has passed."""
        if self.value is None:
            return Standing.NOT_MEASURED
        if self.times(self.goal.moonshot) >= 1:
            return Standing.MOONSHOT
        return Standing.REACHED if self.times(self.goal.goal) >= 1 else Standing.MISSED

    def times(self, mark: float) -> float:
        """How many times better than this mark it is: 1 is just reached, less is missed."""
        assert self.value is not None
        return mark / max(self.value, 1e-9) if self.goal.is_limit else self.value / mark


def _at_least(scenario: str, ratio: str, goal: float, moonshot: float, what: str) -> Goal:
    return Goal(scenario=scenario, figure=f"ratios.{ratio}", what=what, goal=goal, moonshot=moonshot)


def _at_most(scenario: str, figure: str, goal: float, moonshot: float, unit: str, what: str) -> Goal:
    return Goal(
        scenario=scenario, figure=figure, what=what, goal=goal, moonshot=moonshot, unit=unit, is_limit=True,
        rate=10_000 if scenario == "live" else None,
    )  # fmt: skip


GOALS: Final = (
    _at_least("hot", "row_lock_best", 12, 25, "Hot merchant: times the best row-lock loop"),
    _at_least("hot", "one_statement_best", 10, 20, "Hot merchant: times the best single statement"),
    _at_least("hot", "per_message_worker", 20, 35, "Hot merchant: times a worker with a transaction for each message"),
    _at_least("hot", "batch_loop", 0.8, 1.3, "Hot merchant: times the forty-line batch loop"),
    _at_least("hot", "copy_ceiling", 0.2, 0.4, "Hot merchant: part of the bare COPY of its rows"),
    _at_least("zipf", "hot", 0.9, 1.2, "10,000 merchants: times one hot merchant"),
    _at_least("duplicates", "none", 0.7, 0.9, "A tenth said twice: times nothing twice"),
    _at_least("ingress", "transaction_per_request", 2.5, 4, "Checkouts: times a transaction for each"),
    _at_most("ingress", "ratios.transaction_per_request_p99", 0.5, 0.2, "", "Checkouts: p99, as a part of that one's"),
    _at_least("ingress", "noop", 0.3, 0.5, "Checkouts: part of a server that does nothing"),
    _at_most("live", "latency_ms.p99", 50, 15, "ms", "Live, 10,000 a second: p99 to the commit"),
    _at_most("pos", "latency_ms.p99", 50, 20, "ms", "Till beside a backlog: p99, with the PSP's time"),
    _at_most("fair", "ratios.p99_vs_quiet", 2, 1.2, "", "Neighbours of a backlog: p99, times without it"),
    _at_least("backlog", "hot", 0.8, 1.0, "Backlog of a million: times a short one"),
    _at_most("backlog", "grown_mb.paynode", 100, 50, "MB", "Backlog of a million: memory grows by"),
    _at_most("memory", "bytes_per_idle_merchant", 400, 200, "B", "Each known idle merchant: memory"),
)


def judge(reports: Iterable[Report], goals: Iterable[Goal] = GOALS) -> tuple[Judged, ...]:
    """Each goal with its figure; of several reports that have it, the last one's."""
    known = tuple(reports)
    return tuple(Judged(goal=goal, value=_value(goal, known)) for goal in goals)


def _value(goal: Goal, reports: Iterable[Report]) -> float | None:
    value = None
    for one in reports:
        if one.scenario == goal.scenario and goal.rate in (None, one.rate):
            found = one.figure(goal.figure)
            value = value if found is None else found
    return value
