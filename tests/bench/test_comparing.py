"""What fell is told, what moved within its bounds is not, and nothing passes because nobody measured it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from paynode.bench.comparing import BAD, Kept, Verdict, compare, tolerance
from tests.support.properties import law

KEY = ("hot", "ratios.batch_loop")
values = st.floats(0.01, 1000)


@pytest.mark.parametrize(
    ("old", "new", "verdict"),
    [
        (Kept(value=10, may_move=1.25), 10, Verdict.AS_BEFORE),
        (Kept(value=10, may_move=1.25), 8.01, Verdict.AS_BEFORE),
        (Kept(value=10, may_move=1.25), 7.99, Verdict.FELL),
        (Kept(value=10, may_move=1.25), 12.49, Verdict.AS_BEFORE),
        (Kept(value=10, may_move=1.25), 12.51, Verdict.IMPROVED),
        (Kept(value=2, may_move=1.5, is_limit=True), 2.99, Verdict.AS_BEFORE),
        (Kept(value=2, may_move=1.5, is_limit=True), 3.01, Verdict.FELL),
        (Kept(value=2, may_move=1.5, is_limit=True), 1.3, Verdict.IMPROVED),
        (Kept(value=10, may_move=1.25), 0, Verdict.FELL),
        (Kept(value=0, may_move=1.25), 0, Verdict.AS_BEFORE),
        (Kept(value=0, may_move=1.25), 1, Verdict.IMPROVED),
        (Kept(value=0, may_move=1.25, is_limit=True), 1, Verdict.FELL),
        (None, 3, Verdict.NEW),
    ],
)
def test_a_figure_falls_when_it_is_worse_by_more_than_it_may_move(
    old: Kept | None, new: float, verdict: Verdict
) -> None:
    [moved] = compare({KEY: old} if old else {}, {KEY: new})
    assert moved.verdict is verdict


def test_a_figure_that_its_scenario_no_longer_tells_is_bad_and_one_that_was_not_run_is_not() -> None:
    old = {KEY: Kept(value=1, may_move=1.25), ("zipf", "ratios.hot"): Kept(value=1, may_move=1.25)}
    found = {one.key: one.verdict for one in compare(old, {("hot", "ratios.copy_ceiling"): 0.3})}
    assert found == {
        KEY: Verdict.GONE,
        ("hot", "ratios.copy_ceiling"): Verdict.NEW,
        ("zipf", "ratios.hot"): Verdict.NOT_RUN,
    }
    assert {Verdict.FELL, Verdict.GONE} == BAD


@law(300)
@given(values, values, st.floats(1.1, 3))
def test_what_fell_one_way_improved_the_other_way(old: float, new: float, may_move: float) -> None:
    [there] = compare({KEY: Kept(value=old, may_move=may_move)}, {KEY: new})
    [back] = compare({KEY: Kept(value=new, may_move=may_move)}, {KEY: old})
    assert (there.verdict is Verdict.FELL) == (back.verdict is Verdict.IMPROVED)


@law(300)
@given(values, values, st.floats(1.1, 3))
def test_a_limit_is_the_other_way_round(old: float, new: float, may_move: float) -> None:
    [ratio] = compare({KEY: Kept(value=old, may_move=may_move)}, {KEY: new})
    [limit] = compare({KEY: Kept(value=new, may_move=may_move, is_limit=True)}, {KEY: old})
    assert ratio.verdict is limit.verdict
    assert ratio.change == limit.change


def test_a_figure_may_move_as_far_as_its_rounds_were_apart() -> None:
    assert tolerance(1.4) == 1.4
    assert tolerance(1.01) == 1.1, "rounds that agree by chance bind nobody"
    assert tolerance(None) == 1.25
