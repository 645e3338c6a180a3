"""The figures that were accepted, kept in a file beside the code, to be compared with."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Final

import orjson
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from paynode.bench.comparing import Kept, Key, tolerance
from paynode.bench.goals import GOALS
from paynode.bench.reports import NotAReport, Report

_RATIOS: Final = "ratios"
_SIZES: Final = frozenset({"MB", "B"})
_LIMITS: Final = frozenset((goal.scenario, goal.figure) for goal in GOALS if goal.is_limit)
_SIZED: Final = tuple((goal.scenario, goal.figure) for goal in GOALS if goal.unit in _SIZES)


class _Figure(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    value: float = Field(ge=0)
    may_move: float = Field(ge=1)


class _File(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    taken: str
    machine: str
    figures: Mapping[str, Mapping[str, _Figure]]


def accept(reports: Iterable[Report], *, today: str) -> bytes:
    """What is kept of these: the text of the file."""
    figures: dict[str, dict[str, _Figure]] = {}
    machine = ""
    for one in reports:
        machine = one.machine or machine
        for key, value in _guarded(one):
            spread = one.spread.get(key[1].removeprefix(f"{_RATIOS}."))
            figure = _Figure(value=value, may_move=round(tolerance(spread), 3))
            figures.setdefault(one.scenario, {})[key[1]] = figure
    kept = _File(taken=today, machine=machine, figures=figures)
    return orjson.dumps(kept.model_dump(), option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE)


def read(path: Path) -> Mapping[Key, Kept]:
    """What was accepted.

    Raises: NotAReport, OSError.
    """
    try:
        kept = _File.model_validate_json(path.read_bytes())
    except ValidationError as error:
        raise NotAReport(f"{path.name} is not a baseline: {error.errors()[0]['msg']}") from error
    return {
        (scenario, name): Kept(value=one.value, may_move=one.may_move, is_limit=(scenario, name) in _LIMITS)
        for scenario, figures in kept.figures.items()
        for name, one in figures.items()
    }


def guarded(reports: Iterable[Report]) -> Mapping[Key, float]:
    """What is compared of these; of a scenario that was run twice, the last run."""
    return {key: value for one in reports for key, value in _guarded(one)}


def _guarded(report: Report) -> Iterator[tuple[Key, float]]:
    for name, value in report.ratios.items():
        yield (report.scenario, f"{_RATIOS}.{name}"), value
    for scenario, name in _SIZED:
        size = report.figure(name) if scenario == report.scenario else None
        if size is not None:
            yield (scenario, name), size
