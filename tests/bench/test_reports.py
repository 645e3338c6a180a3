"""Whatever form the figures come in, they are read in one way, or refused with the place that is wrong."""

from __future__ import annotations

import orjson
import pytest

from paynode.bench.goals import GOALS, Standing, judge
from paynode.bench.reports import NotAReport, Report, parse

HOT: dict[str, object] = {"scenario": "hot", "ratios": {"batch_loop": 1.0}, "latency_ms": {"p50": 1, "p99": 3}}


@pytest.mark.parametrize(
    "content",
    [
        orjson.dumps([HOT, HOT]),
        orjson.dumps([HOT, HOT], option=orjson.OPT_INDENT_2),
        orjson.dumps(HOT) + b"\n\n" + orjson.dumps(HOT) + b"\n",
    ],
)
def test_a_list_and_lines_are_the_same(content: bytes) -> None:
    assert [one.scenario for one in parse(content, "file")] == ["hot", "hot"]


def test_what_is_not_shown_may_be_there() -> None:
    [report] = parse(orjson.dumps({**HOT, "left": {"checkouts": 3}}), "file")
    assert report.figure("ratios.batch_loop") == 1.0


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"", "not JSON"),
        (b"ready http://127.0.0.1", "not JSON"),
        (b"{}", "scenario"),
        (b"[1]", "it"),
        (b'{"scenario": "hot", "ratios": {"batch_loop": "fast"}}', "ratios.batch_loop"),
        (b'{"scenario": "hot", "latency_ms": {"p50": 1}}', "latency_ms.p99"),
    ],
)
def test_what_is_not_a_report_is_refused_with_the_place(content: bytes, why: str) -> None:
    with pytest.raises(NotAReport, match=why):
        parse(content, "file")


def test_a_figure_is_found_by_its_path_or_is_none() -> None:
    [report] = parse(orjson.dumps(HOT), "file")
    assert report.figure("latency_ms.p99") == 3
    assert [
        report.figure(path) for path in ("latency_ms.p999", "quiet_ms.p99", "ratios.hot", "nothing", "scenario")
    ] == [None] * 5


@pytest.mark.parametrize(
    ("scenario", "figures", "standing"),
    [
        ("memory", {"bytes_per_idle_merchant": 401}, Standing.MISSED),
        ("memory", {"bytes_per_idle_merchant": 400}, Standing.REACHED),
        ("memory", {"bytes_per_idle_merchant": 200}, Standing.MOONSHOT),
        ("hot", {"ratios": {"batch_loop": 0.79}}, Standing.MISSED),
        ("hot", {"ratios": {"batch_loop": 0.8}}, Standing.REACHED),
        ("hot", {"ratios": {"batch_loop": 1.3}}, Standing.MOONSHOT),
        ("live", {"rate": 10_000, "latency_ms": {"p50": 1, "p99": 16}}, Standing.REACHED),
        ("live", {"rate": 2_000, "latency_ms": {"p50": 1, "p99": 16}}, Standing.NOT_MEASURED),
    ],
)
def test_a_goal_is_reached_at_its_mark(scenario: str, figures: dict[str, object], standing: Standing) -> None:
    report = Report.model_validate({"scenario": scenario, **figures})
    standings = {one.standing for one in judge([report]) if one.goal.scenario == scenario}
    assert standing in standings
    assert standings <= {standing, Standing.NOT_MEASURED}


def test_a_moonshot_is_always_beyond_its_goal() -> None:
    for goal in GOALS:
        assert goal.moonshot < goal.goal if goal.is_limit else goal.moonshot > goal.goal
    assert len({(goal.scenario, goal.figure) for goal in GOALS}) == len(GOALS)


def test_of_several_runs_the_last_one_counts_that_has_the_figure() -> None:
    runs = [
        Report(scenario="hot", ratios={"batch_loop": 0.5}),
        Report(scenario="hot", ratios={"batch_loop": 0.9}),
        Report(scenario="hot"),
    ]
    [judged] = [one for one in judge(runs) if one.goal.figure == "ratios.batch_loop"]
    assert judged.value == 0.9
