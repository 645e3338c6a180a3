"""The page holds what was measured and needs nothing else; the verbs write it, compare, and end as they should."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import orjson
import pytest
from click.testing import CliRunner

from paynode.bench.page import render
from paynode.bench.reports import parse
from paynode.cli.bench_report import accept, check, report

MACHINE = "2 cores, x86_64 Linux, Python 3.11.7"
REPORTS: list[dict[str, Any]] = [
    {
        "scenario": "hot",
        "events": 150_000,
        "rounds": 3,
        "events_per_s": 36512.3,
        "baselines": {
            "row_lock_2": {"events_per_s": 2610},
            "batch_loop": {"events_per_s": 39100},
            "copy": {"events_per_s": 131_000},
        },
        "ratios": {"row_lock_best": 13.98, "batch_loop": 0.734},
        "spread": {"row_lock_best": 1.2},
        "machine": MACHINE,
    },
    {"scenario": "live", "rate": 10_000, "latency_ms": {"p50": 8.2, "p99": 21.4, "p999": 38.1}},
    {"scenario": "live", "rate": 20_000, "latency_ms": {"p50": 14.5, "p99": 41.2, "p999": 77}},
    {
        "scenario": "fair",
        "latency_ms": {"p50": 9, "p99": 15.7, "p999": 22},
        "quiet_ms": {"p50": 6, "p99": 9},
        "ratios": {"p99_vs_quiet": 1.62},
    },
    {"scenario": "stages", "stages_us": {"read": 2.1, "decide": 5.1, "(chain)": 1.6}, "busy_us": {"read": 1.9}},
    {"scenario": "backlog", "events": 1_000_000, "grown_mb": {"paynode": 74.2, "zipf_2_workers": 81}},
    {
        "scenario": "memory",
        "bytes_per_idle_merchant": 261,
        "footprints": [{"merchants": 0, "mb": 78}, {"merchants": 100_000, "mb": 102}],
    },
]
FIGURES = (
    "2026-11-24", MACHINE, "36,500", "row lock, 2 connections", "0.734", "21.4 ms", "p99 41.2", "15.7", "1.62",
    "decide", "of these: chain", "74.2 MB", "two workers", "261 B", "100,000 merchants", "missed",
    "reached", "not measured",
)  # fmt: skip


class Balanced(HTMLParser):
    """Fails on a tag that is not closed where it should be; keeps what is read."""

    _VOID = frozenset({"meta", "line", "circle", "polyline"})

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.text: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.attributes += attrs
        if tag not in self._VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag not in self._VOID:
            assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] not in ("style", "title"):
            self.text.append(data)


def page_of(reports: list[dict[str, Any]]) -> tuple[str, Balanced, str]:
    html = render(parse(orjson.dumps(reports), "file"), today="2026-11-24")
    read = Balanced()
    read.feed(html)
    assert read.open == []
    return html, read, " ".join(" ".join(read.text).split())


def test_every_scenarios_figures_are_on_the_page() -> None:
    _, _, text = page_of(REPORTS)
    for figure in FIGURES:
        assert figure in text, figure


def test_the_page_needs_nothing_from_elsewhere() -> None:
    html, read, _ = page_of(REPORTS)
    assert "<script" not in html
    assert not re.search(r"https?:|//|@import|url\(", re.sub(r"/\*.*?\*/", "", html))
    assert not {name for name, _ in read.attributes} & {"src", "href", "onclick", "onload"}


@pytest.mark.parametrize("number", range(len(REPORTS)))
def test_a_scenario_alone_makes_a_page(number: int) -> None:
    page_of([REPORTS[number]])


def test_nothing_at_all_makes_a_page_too() -> None:
    _, _, text = page_of([])
    assert "0 of 0" in text


def test_what_a_report_says_is_shown_and_not_obeyed() -> None:
    html, _, _ = page_of([{**REPORTS[0], "machine": "<script>alert(1)</script>", "ratios": {"<b>": 1.0}}])
    assert "<script>" not in html
    assert "<b>" not in html


def written(path: Path, reports: list[dict[str, Any]]) -> str:
    path.write_bytes(orjson.dumps(reports))
    return str(path)


def test_the_page_is_written_to_a_file(tmp_path: Path) -> None:
    html = tmp_path / "report.html"
    done = CliRunner().invoke(report, [written(tmp_path / "new.json", REPORTS), "--html", str(html)])
    assert done.exit_code == 0, done.output
    assert html.read_text("utf-8").startswith("<!doctype html>")


def test_what_was_accepted_is_compared_with_and_only_a_fall_is_a_failure(tmp_path: Path) -> None:
    kept, new = str(tmp_path / "docs" / "baseline.json"), tmp_path / "new.json"
    invoke = CliRunner().invoke
    assert invoke(accept, [written(new, REPORTS), "--baseline", kept]).exit_code == 0
    assert invoke(check, [str(new), "--baseline", kept]).exit_code == 0
    assert orjson.loads(Path(kept).read_bytes())["figures"]["hot"]["ratios.row_lock_best"] == {
        "value": 13.98, "may_move": 1.2,
    }  # fmt: skip

    slower = invoke(check, [written(new, [{**REPORTS[0], "events_per_s": 1.0}]), "--baseline", kept])
    assert slower.exit_code == 0, "a time is compared with nothing"

    fallen = invoke(
        check, [written(new, [{**REPORTS[0], "ratios": {"row_lock_best": 11.6, "batch_loop": 2}}]), "--baseline", kept]
    )
    assert fallen.exit_code == 1
    assert "fell: hot ratios.row_lock_best" in fallen.output
    assert "improved: hot ratios.batch_loop" in fallen.output

    grown = invoke(
        check, [written(new, [{**REPORTS[6], "bytes_per_idle_merchant": 400}]), "--baseline", kept, "--output", "json"]
    )
    assert grown.exit_code == 1
    verdicts = {one["figure"]: one["verdict"] for one in orjson.loads(grown.stdout)["data"]}
    assert verdicts["bytes_per_idle_merchant"] == "fell"


def test_a_file_of_something_else_is_refused(tmp_path: Path) -> None:
    no_report, good = tmp_path / "no.json", written(tmp_path / "good.json", REPORTS)
    no_report.write_text("{}")
    refused = CliRunner().invoke(report, [str(no_report), "--html", str(tmp_path / "x.html")])
    assert (refused.exit_code, "scenario" in refused.output) == (1, True)
    refused = CliRunner().invoke(check, [good, "--baseline", good])
    assert (refused.exit_code, "not a baseline" in refused.output) == (1, True)
