"""Plots show figures where they belong, whatever figures come."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from paynode.bench.axes import Linear, Log, number
from paynode.bench.curves import curves
from paynode.bench.plots import stack
from paynode.bench.reports import Point
from tests.support.properties import law

positive = st.floats(1e-3, 1e9)


@law(300)
@given(st.lists(positive, min_size=1, max_size=9), st.sampled_from([Linear, Log]))
def test_an_axis_has_all_of_its_figures_and_a_tick_at_each_end(
    values: Sequence[float], kind: type[Linear] | type[Log]
) -> None:
    axis = kind.around(values)
    places = [axis.at(value) for value in sorted(values)]
    assert places == sorted(places)
    assert places[0] >= 0
    assert places[-1] <= 1
    assert axis.at(axis.ticks[0]) == pytest.approx(0)
    assert axis.at(axis.ticks[-1]) == pytest.approx(1)
    assert max(values) <= axis.ticks[-1] * 1.001
    assert len(axis.ticks) <= 14


def test_an_axis_of_nothing_is_an_axis() -> None:
    assert Linear.around([]).at(0.5) == 0.5
    assert Log.around([0.0]).ticks[0] == 1


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0"),
        (62431.7, "62,400"),
        (1_234_567, "1,230,000"),
        (38.17, "38.2"),
        (0.4149, "0.415"),
        (10, "10"),
        (9.999, "10"),
    ],
)
def test_three_digits_count(value: float, text: str) -> None:
    assert number(value) == text


def test_a_curve_leaves_out_what_was_not_measured_and_its_words_can_be_read() -> None:
    points = [Point(rate=2000, p50=10, p99=10.1), Point(rate=1000, p50=5, p99=5.1, p999=6)]
    drawn = curves(points).curves
    assert [(one.name, len(one.points)) for one in drawn] == [("p50", 2), ("p99", 2), ("p999", 1)]
    assert [one.words for one in drawn] == ["p50 10", "p99 10.1", "p99.9 6"]
    places = sorted(one.words_at for one in drawn)
    assert all(after - before >= 15 for before, after in pairwise(places))


def test_a_stage_in_parentheses_is_a_part_and_not_added_again() -> None:
    stacked = stack("by the clock", {"read": 1.0, "decide": 3.0, "(chain)": 2.0}, longest=8.0)
    assert (stacked.total, stacked.width) == ("4", 50.0)
    assert [part.share for part in stacked.parts] == [25.0, 75.0]
    assert stacked.within == (("chain", "2"),)
