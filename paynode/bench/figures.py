"""What a scenario reports, in one form, and what its figures are called."""

from __future__ import annotations

import platform
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final


class BenchFailed(Exception):
    """The run says nothing, or cannot be made: a payment that never ended, books that do not agree."""


# Of paynode to what somebody would use instead, by the name of the ratio: the best of these baselines.
_RATIOS: Final[Mapping[str, Sequence[str]]] = {
    "row_lock_best": ("row_lock_1", "row_lock_2", "row_lock_8", "row_lock_32"),
    "one_statement_best": ("one_statement_1", "one_statement_8", "function_1", "function_8"),
    "per_message_worker": ("per_message_1", "per_message_8", "per_message_32"),
    "batch_loop": ("batch_loop",),
    "copy_ceiling": ("copy",),
}
# Microseconds of the longest latency that is told apart from longer ones, and digits that are kept of each.
_LATENCY_MAX_US: Final = 600_000_000
_DIGITS: Final = 3


@dataclass(slots=True)
class Rounds:
    """What was measured in each round, by name: rounds in turns, so that a slow minute is everybody's."""

    rates: dict[str, list[float]] = field(default_factory=dict)

    def add(self, name: str, rate: float) -> None:
        """One more round of it."""
        self.rates.setdefault(name, []).append(rate)

    def median(self, name: str) -> float:
        """The middle one."""
        return middle(self.rates[name])

    @property
    def baselines(self) -> dict[str, dict[str, float]]:
        """All but paynode's own."""
        return {name: {"events_per_s": round(self.median(name), 1)} for name in self.rates if name != "paynode"}

    @property
    def ratios(self) -> dict[str, float]:
        """Of paynode's median to that of the best of each kind, of those kinds that were measured."""
        found = {}
        for ratio, names in _RATIOS.items():
            best = max((self.median(name) for name in names if name in self.rates), default=0)
            if best:
                found[ratio] = round(self.median("paynode") / best, 3)
        return found

    @property
    def spread(self) -> dict[str, float]:
        """How far each ratio moved between rounds: the largest of one round to the smallest."""
        return {
            ratio: round(max(moved) / min(moved), 3)
            for ratio, names in _RATIOS.items()
            if (moved := self._by_round([name for name in names if name in self.rates]))
        }

    def _by_round(self, names: Sequence[str]) -> list[float]:
        if not names:
            return []
        best = [max(rates) for rates in zip(*(self.rates[name] for name in names), strict=True)]
        return [own / other for own, other in zip(self.rates["paynode"], best, strict=True)]


def middle(values: Sequence[float]) -> float:
    """The median."""
    return statistics.median(values)


class Latencies:
    """Latencies in seconds, of which percentiles are asked; none is left out, however long."""

    def __init__(self) -> None:
        try:
            from hdrh.histogram import HdrHistogram  # type: ignore[import-untyped]
        except ModuleNotFoundError as missing:
            raise BenchFailed("this needs hdrhistogram: install paynode[bench]") from missing
        self._histogram = HdrHistogram(1, _LATENCY_MAX_US, _DIGITS)

    def add(self, seconds: Iterable[float]) -> None:
        """Some more."""
        for one in seconds:
            self._histogram.record_value(min(max(round(one * 1e6), 1), _LATENCY_MAX_US))

    @property
    def percentiles(self) -> dict[str, float]:
        """Milliseconds."""
        asked = {"p50": 50.0, "p99": 99.0, "p999": 99.9}
        return {name: round(self._histogram.get_value_at_percentile(at) / 1000, 2) for name, at in asked.items()}


def machine() -> str:
    """What it was measured on, as far as it can be told."""
    cores = len(list(Path("/sys/devices/system/cpu").glob("cpu[0-9]*")))
    return f"{cores} cores, {platform.machine()} {platform.system()}, Python {platform.python_version()}"
