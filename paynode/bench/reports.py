"""Reading what `paynode bench … --output json` has said, of any scenario: one gate for the page and the comparison."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import orjson
from pydantic import BaseModel, ConfigDict, Field, ValidationError


class NotAReport(Exception):
    """A file that no scenario has written."""


class _Read(BaseModel):
    # Scenarios may say more than is shown.
    model_config = ConfigDict(frozen=True, extra="ignore")


class Percentiles(_Read):
    """Milliseconds; what was not measured is None."""

    p50: float
    p99: float
    p999: float | None = None


class Point(Percentiles):
    """Latencies at a rate that was asked for, in events a second."""

    rate: float


class Footprint(_Read):
    """Megabytes of a worker that knows so many merchants."""

    merchants: int
    mb: float


class Rate(_Read):
    """What a baseline did."""

    events_per_s: float
    latency_ms: Percentiles | None = None


class Report(_Read):
    """One run of one scenario. Sizes are megabytes (`_mb`) or bytes, stages microseconds for one event."""

    scenario: str
    machine: str = ""
    events: int = 0
    merchants: int | None = None
    rounds: int | None = None
    seconds: float | None = None
    rate: float | None = None
    events_per_s: float | None = None
    latency_ms: Percentiles | None = None
    quiet_ms: Percentiles | None = None
    answer_ms: Percentiles | None = None
    baselines: Mapping[str, Rate] = Field(default_factory=dict)
    ratios: Mapping[str, float] = Field(default_factory=dict)
    spread: Mapping[str, float] = Field(default_factory=dict)
    points: Sequence[Point] = ()
    stages_us: Mapping[str, float] = Field(default_factory=dict)
    busy_us: Mapping[str, float] = Field(default_factory=dict)
    idle_mb: float | None = None
    grown_mb: Mapping[str, float] = Field(default_factory=dict)
    footprints: Sequence[Footprint] = ()
    bytes_per_idle_merchant: float | None = None

    def figure(self, path: str) -> float | None:
        """What stands at `ratios.hot` or `latency_ms.p99`; None when it was not measured."""
        first, _, rest = path.partition(".")
        found: object = getattr(self, first, None)
        if rest:
            found = found.get(rest) if isinstance(found, Mapping) else getattr(found, rest, None)
        return float(found) if isinstance(found, int | float) else None


def read(path: Path) -> tuple[Report, ...]:
    """The reports in a file: one, a list of them, or one on each line.

    Raises: NotAReport, OSError.
    """
    return parse(path.read_bytes(), path.name)


def parse(content: bytes, name: str) -> tuple[Report, ...]:
    """The same of what a file holds; `name` is for the message.

    Raises: NotAReport.
    """
    try:
        return tuple(Report.model_validate(one) for one in _values(content))
    except orjson.JSONDecodeError as error:
        raise NotAReport(f"{name} is not JSON: {error}") from error
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"])
        raise NotAReport(f"{name} is not what a scenario reports: {place or 'it'}: {first['msg']}") from error


def _values(content: bytes) -> Sequence[object]:
    try:
        value: object = orjson.loads(content)
    except orjson.JSONDecodeError:
        lines = [line for line in content.splitlines() if line.strip()]
        if len(lines) < 2:
            raise
        return [orjson.loads(line) for line in lines]
    return value if isinstance(value, list) else [value]
