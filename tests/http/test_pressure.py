"""When is it too much, and for whom: CoDel's test, then the classes in their order."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import pairwise

import pytest

from paynode.http.pressure import TIMES_TARGET, Pressure
from paynode.http.work import ORDER, Work

TARGET_S, INTERVAL_S, LOOK_S = 0.05, 0.2, 0.02


def felt(ages: Iterable[float], pressure: Pressure | None = None, *, begun_at: float = 0.0) -> Pressure:
    """After one look for each age."""
    pressure = pressure or Pressure(target_s=TARGET_S, interval_s=INTERVAL_S)
    for number, age_s in enumerate(ages):
        pressure.feel(age_s, begun_at + number * LOOK_S)
    return pressure


def refused(pressure: Pressure, age_s: float) -> list[Work]:
    return [work for work in ORDER if pressure.refuses(work, age_s)]


def test_what_is_refused_first_is_what_the_contract_says() -> None:
    assert [*ORDER] == ["export", "read", "checkout", "pos", "operation", "callback"]


def test_a_burst_harms_nobody_however_old_it_gets_within_an_interval() -> None:
    pressure = felt([9.0] * 10)  # ten looks are nine pauses: 180 ms
    assert refused(pressure, 9.0) == []


def test_a_queue_that_stands_for_an_interval_is_one() -> None:
    pressure = felt([0.06] * 11)
    assert pressure.is_standing
    assert refused(pressure, 0.06) == [Work.EXPORT]


def test_a_queue_that_empties_once_in_an_interval_is_none() -> None:
    assert not felt([0.5] * 9 + [0.0] + [0.5] * 9).is_standing
    assert not felt(([0.08] * 4 + [0.0]) * 100).is_standing


@pytest.mark.parametrize("place", range(len(ORDER) + 1))
def test_the_older_what_waits_the_more_classes_are_refused_and_always_the_first_ones(place: int) -> None:
    pressure = felt([5.0] * 20)
    age_s = TARGET_S * 2**place  # on the threshold of the class of this place: not above it
    assert refused(pressure, age_s) == [*ORDER[:place]]
    assert refused(pressure, age_s * 1.01) == [*ORDER[: place + 1]]


def test_every_class_bears_twice_what_the_one_before_it_does() -> None:
    times = [TIMES_TARGET[work] for work in ORDER]
    assert times[0] == 1
    assert all(after == 2 * before for before, after in pairwise(times))


def test_while_it_stands_the_age_of_the_moment_decides() -> None:
    pressure = felt([1.0] * 20)
    assert refused(pressure, 0.01) == []
    assert refused(pressure, 10.0) == [*ORDER]


def test_it_is_over_when_the_age_was_below_the_target_for_an_interval() -> None:
    pressure = felt([1.0] * 20)
    felt([0.01] * 10, pressure, begun_at=1.0)
    assert refused(pressure, 9.0) == [*ORDER], "it may come back at once"
    felt([0.01] * 11, pressure, begun_at=1.0 + 10 * LOOK_S)
    assert refused(pressure, 9.0) == []
