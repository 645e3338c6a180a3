"""The laws under thousands of schedules; and that the simulation would see it if one were broken.

`scripts/simulate` runs more. A failure names its seed, and PAYNODE_TEST_SEED=<seed> runs that one alone.
"""

from __future__ import annotations

import os
import random
from collections.abc import Sequence

import pytest

from tests.simulation.bugs import BUGS
from tests.simulation.main import simulate
from tests.simulation.runs import Report, run, run_all, virtual_time
from tests.simulation.world import Size

# So many the same in every run, and some that nobody has seen yet.
_FIXED = 600
_FRESH = 100
# Seeds within which a planted bug must be caught. The rarest, a batch that does not look at its epoch, is caught in 2
# of 100: several layers guard the same money.
_ENOUGH = 600


def _seeds() -> Sequence[int]:
    named = os.environ.get("PAYNODE_TEST_SEED")
    if named is not None:
        return [int(named)]
    return [*range(_FIXED), *(random.SystemRandom().randrange(2**32) for _ in range(_FRESH))]


def test_no_schedule_breaks_a_law() -> None:
    seeds = _seeds()
    report = simulate(seeds, jobs=os.cpu_count() or 1)
    few = dict(list(report.violations.items())[:3])
    assert not few, f"{len(report.violations)} seeds; PAYNODE_TEST_SEED=<seed> runs one again: {few}"
    if len(seeds) > 1:
        _prove_that_it_bit(report)


def _prove_that_it_bit(report: Report) -> None:
    met = ("takeovers", "redeliveries", "ambiguous commits", "lost requests", "lost replies", "kill", "flush")
    for what in (*met, "charged twice"):
        assert report.counts[what] >= 10, f"{what}: {report.counts}"


@pytest.mark.parametrize("bug", BUGS)
def test_a_planted_bug_is_caught(bug: str) -> None:
    with BUGS[bug](), virtual_time():
        for seed in range(_ENOUGH):
            if run(seed, Report()):
                return
    pytest.fail(f"{bug}: not caught within {_ENOUGH} seeds")


def test_the_same_seed_is_the_same_run() -> None:
    reports = [run_all(range(5)) for _ in range(2)]
    assert reports[0].counts == reports[1].counts


def test_a_world_without_a_storm_is_calm() -> None:
    calm, report = Size(partitions=2, merchants=2, payments=6, events=2, storm_s=0.0), Report()
    with virtual_time():
        for seed in range(20):
            assert run(seed, report, calm) == []
