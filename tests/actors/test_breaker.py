"""The breaker: what trips it, who may probe, and whose results still count."""

from __future__ import annotations

from datetime import datetime, tzinfo
from typing import Self

import aiobreaker.circuitbreaker as library_circuit
import aiobreaker.state as library_state
import pytest

from paynode.psp.breaker import Breaker, BreakerRules, Permit, State

OPEN_S, WINDOW_S = 5.0, 30.0


class Clock:
    """Monotonic by hand."""

    def __init__(self) -> None:
        self.now = 1_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def breaker(clock: Clock) -> Breaker:
    return Breaker(BreakerRules(window_s=WINDOW_S, calls_min=4, failed_max=0.5, open_s=OPEN_S), clock=clock)


def entered(breaker: Breaker) -> Permit:
    permit = breaker.enter()
    assert permit is not None
    return permit


def state(breaker: Breaker) -> State:
    return breaker.state


def is_held(breaker: Breaker) -> bool:
    return breaker.is_held


def call(breaker: Breaker, *, fails: bool) -> None:
    permit = entered(breaker)
    permit.report(has_failed=fails)
    permit.give_back()


def trip(breaker: Breaker) -> None:
    for _ in range(4):
        call(breaker, fails=True)
    assert state(breaker) is State.OPEN


@pytest.mark.parametrize(
    ("results", "expected"),
    [
        ("", State.CLOSED),
        ("fff", State.CLOSED),  # too few to say anything
        ("ffff", State.OPEN),
        ("ffs", State.CLOSED),
        ("ffsf", State.OPEN),  # a success begins nothing anew: it is the share that counts
        ("ssssfff", State.CLOSED),
        ("ssssffff", State.OPEN),
        ("sfsf", State.OPEN),
        ("ssss", State.CLOSED),
    ],
)
def test_the_share_of_failures_trips_it(breaker: Breaker, results: str, expected: State) -> None:
    for result in results:
        call(breaker, fails=result == "f")
    assert state(breaker) is expected


def test_two_thirds_of_failures_trip_it_though_no_two_of_them_are_in_a_row(clock: Clock) -> None:
    """What the library by itself would never see: every success begins its count anew."""
    rules = BreakerRules(window_s=WINDOW_S, calls_min=10, failed_max=0.6, open_s=OPEN_S)
    breaker = Breaker(rules, clock=clock)
    for number in range(12):
        if state(breaker) is State.CLOSED:
            call(breaker, fails=number % 3 != 0)
    assert state(breaker) is State.OPEN


def test_failures_in_a_row_trip_it_whatever_was_good_before(clock: Clock) -> None:
    rules = BreakerRules(window_s=WINDOW_S, calls_min=10, failed_max=0.5, in_a_row=5, open_s=OPEN_S)
    breaker = Breaker(rules, clock=clock)
    for result in "s" * 100 + "ffff" + "s" + "ffff":
        call(breaker, fails=result == "f")
    assert state(breaker) is State.CLOSED
    call(breaker, fails=True)
    assert state(breaker) is State.OPEN
    clock.now += OPEN_S
    call(breaker, fails=False)
    assert state(breaker) is State.CLOSED
    for _ in range(4):
        call(breaker, fails=True)
    assert state(breaker) is State.CLOSED, "the count began anew"


def test_what_is_older_than_the_window_counts_no_more(breaker: Breaker, clock: Clock) -> None:
    for _ in range(3):
        call(breaker, fails=True)
    clock.now += WINDOW_S
    call(breaker, fails=True)
    assert state(breaker) is State.CLOSED
    assert (breaker.calls, breaker.failures) == (1, 1)


def test_failures_that_trickle_in_over_the_window_trip_it(breaker: Breaker, clock: Clock) -> None:
    for _ in range(4):
        call(breaker, fails=True)
        clock.now += WINDOW_S / 5
    assert state(breaker) is State.OPEN


def test_an_open_breaker_lets_nobody_through_until_its_time_is_over(breaker: Breaker, clock: Clock) -> None:
    trip(breaker)
    clock.now += OPEN_S - 0.001
    assert breaker.enter() is None
    clock.now += 0.001
    assert breaker.enter() is not None
    assert state(breaker) is State.HALF_OPEN


def test_it_tells_for_how_long_it_has_not_been_closed(breaker: Breaker, clock: Clock) -> None:
    assert breaker.open_for_s == 0
    trip(breaker)
    for _ in range(3):
        clock.now += OPEN_S
        call(breaker, fails=True)
    assert breaker.open_for_s == 3 * OPEN_S
    clock.now += OPEN_S
    call(breaker, fails=False)
    assert breaker.open_for_s == 0


def test_of_fifty_callers_one_probes(breaker: Breaker, clock: Clock) -> None:
    trip(breaker)
    clock.now += OPEN_S
    permits = [breaker.enter() for _ in range(50)]
    assert sum(permit is not None for permit in permits) == 1
    probe = permits[0]
    assert probe is not None
    probe.report(has_failed=False)
    probe.give_back()
    assert state(breaker) is State.CLOSED
    assert all(breaker.enter() is not None for _ in range(50))


def test_a_failed_probe_opens_it_again_for_the_whole_time(breaker: Breaker, clock: Clock) -> None:
    trip(breaker)
    clock.now += OPEN_S
    call(breaker, fails=True)
    assert state(breaker) is State.OPEN
    clock.now += OPEN_S - 0.001
    assert breaker.enter() is None
    clock.now += 0.001
    call(breaker, fails=False)
    assert state(breaker) is State.CLOSED


def test_a_probe_that_was_given_up_makes_room_for_another(breaker: Breaker, clock: Clock) -> None:
    trip(breaker)
    clock.now += OPEN_S
    entered(breaker).give_back()  # cancelled: nothing is known
    assert state(breaker) is State.HALF_OPEN
    assert breaker.enter() is not None


@pytest.mark.parametrize("fails", [True, False])
def test_a_late_result_of_an_older_state_counts_no_more(breaker: Breaker, clock: Clock, fails: bool) -> None:
    slow = entered(breaker)
    trip(breaker)
    clock.now += OPEN_S
    probe = entered(breaker)
    slow.report(has_failed=fails)
    slow.give_back()
    assert state(breaker) is State.HALF_OPEN, "neither closed nor opened by a call from before"
    assert breaker.enter() is None, "and the probe is still the only one"
    probe.report(has_failed=False)
    probe.give_back()
    assert state(breaker) is State.CLOSED


def test_the_calls_under_way_when_it_trips_do_not_prolong_it(breaker: Breaker, clock: Clock) -> None:
    slow = [entered(breaker) for _ in range(10)]
    trip(breaker)
    clock.now += OPEN_S / 2
    for permit in slow:
        permit.report(has_failed=True)
        permit.give_back()
    clock.now += OPEN_S / 2
    assert breaker.enter() is not None


def test_after_it_closed_what_failed_before_counts_no_more(breaker: Breaker, clock: Clock) -> None:
    trip(breaker)
    clock.now += OPEN_S
    call(breaker, fails=False)
    for _ in range(3):
        call(breaker, fails=True)
    assert state(breaker) is State.CLOSED
    call(breaker, fails=True)
    assert state(breaker) is State.OPEN


def test_a_probe_that_outlives_a_reset_makes_no_room_for_a_second_one(breaker: Breaker, clock: Clock) -> None:
    trip(breaker)
    clock.now += OPEN_S
    late = entered(breaker)
    breaker.reset()
    trip(breaker)
    clock.now += OPEN_S
    entered(breaker)
    late.report(has_failed=False)
    late.give_back()
    assert state(breaker) is State.HALF_OPEN
    assert breaker.enter() is None, "the one probe is still under way"


def test_who_holds_it_open_holds_it_until_it_is_reset(breaker: Breaker, clock: Clock) -> None:
    breaker.hold_open()
    clock.now += 100 * OPEN_S
    assert breaker.refuses
    assert breaker.enter() is None
    assert is_held(breaker)
    breaker.reset()
    assert not is_held(breaker)
    assert state(breaker) is State.CLOSED
    assert breaker.enter() is not None


def test_a_reset_forgets_what_was_counted(breaker: Breaker) -> None:
    for _ in range(3):
        call(breaker, fails=True)
    breaker.reset()
    assert (breaker.calls, breaker.failures) == (0, 0)
    call(breaker, fails=True)
    assert state(breaker) is State.CLOSED


@pytest.mark.parametrize("is_after", [False, True])
def test_to_look_changes_nothing(breaker: Breaker, clock: Clock, is_after: bool) -> None:
    trip(breaker)
    clock.now += OPEN_S if is_after else 0
    assert breaker.refuses is not is_after
    assert state(breaker) is State.OPEN


@pytest.mark.parametrize("year", [1990, 2100])
def test_the_time_of_day_plays_no_part(
    breaker: Breaker, clock: Clock, monkeypatch: pytest.MonkeyPatch, year: int
) -> None:
    """A clock that is set, or a change to summer time, neither opens nor closes anything."""

    class WrongClock(datetime):
        @classmethod
        def now(cls, tz: tzinfo | None = None) -> Self:
            return cls(year, 1, 1, tzinfo=tz)

    trip(breaker)
    monkeypatch.setattr(library_state, "datetime", WrongClock)
    monkeypatch.setattr(library_circuit, "datetime", WrongClock)
    assert breaker.enter() is None
    clock.now += OPEN_S
    call(breaker, fails=True)
    assert breaker.enter() is None
    clock.now += OPEN_S
    assert breaker.enter() is not None
