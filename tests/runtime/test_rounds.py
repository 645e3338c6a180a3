"""Rounds: one process at a time makes them, whatever fails they go on, and at the stop the lease is left."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import anyio
import pytest

from paynode.runtime.rounds import ANYBODY, Rounds, Singleton
from paynode.runtime.stopping import Stop
from tests.support.schedules import explore

INTERVAL_S = 10.0


class Away(Exception):
    """A server is away."""


@dataclass
class World:
    """A lease, rounds that take a second, and what was heard of them at which second."""

    is_held: bool = True
    fails: list[str] = field(default_factory=list)
    more: int = 0
    said: list[tuple[int, str]] = field(default_factory=list)
    began: float = field(default_factory=anyio.current_time)

    def say(self, what: str) -> None:
        self.said.append((int(anyio.current_time() - self.began), what))

    def failed(self, error: Exception) -> None:
        self.say(f"failed: {error}")

    def try_to(self, what: str) -> None:
        if what in self.fails:
            self.fails.remove(what)
            raise Away(what)

    async def hold(self) -> bool:
        self.try_to("hold")
        return self.is_held

    async def drop(self) -> None:
        self.try_to("drop")
        self.say("dropped")

    async def run_once(self) -> bool | None:
        self.try_to(f"round with {self.more} more")
        self.say("begun")
        await anyio.sleep(1)
        self.say("done")
        self.more -= 1
        return self.more >= 0 or None

    def rounds(self, singleton: Singleton | None = None) -> Rounds:
        return Rounds(singleton or self, self.failed, interval_s=INTERVAL_S, transient=Away)


def story(
    stop_s: float, *, singleton: Singleton | None = None, is_held: bool = True, fails: Sequence[str] = (), more: int = 0
) -> list[tuple[int, str]]:
    """What is said until rounds end that are stopped after so many seconds: the same in every order of things."""

    async def test() -> list[tuple[int, str]]:
        world, stop = World(is_held=is_held, fails=list(fails), more=more), Stop()
        async with anyio.create_task_group() as group:
            group.start_soon(world.rounds(singleton).run, world.run_once, stop)
            await anyio.sleep(stop_s)
            stop.set()
        return world.said

    [first, *others] = explore(test)
    assert all(one == first for one in others)
    return first


def test_a_round_is_made_again_and_again_and_at_the_stop_the_lease_is_left_at_once() -> None:
    assert story(15) == [(0, "begun"), (1, "done"), (11, "begun"), (12, "done"), (15, "dropped")]


def test_the_round_under_way_is_finished_before_the_lease_is_left() -> None:
    assert story(0.5) == [(0, "begun"), (1, "done"), (1, "dropped")]


def test_whoever_does_not_hold_the_lease_makes_no_round() -> None:
    assert story(35, is_held=False) == [(35, "dropped")]


def test_where_no_lease_is_needed_anybody_makes_rounds() -> None:
    assert story(5, is_held=False, singleton=ANYBODY) == [(0, "begun"), (1, "done")]


def test_a_round_with_more_to_do_is_followed_by_another_without_a_pause() -> None:
    assert [second for second, what in story(25, more=2) if what == "begun"] == [0, 1, 2, 13, 24]


def test_rounds_with_more_to_do_end_at_the_stop_too() -> None:
    assert story(1.5, more=1_000)[-2:] == [(2, "done"), (2, "dropped")]


@pytest.mark.parametrize("what", ["hold", "round with 0 more"])
def test_what_fails_is_told_and_the_next_round_begins_anew_after_the_pause(what: str) -> None:
    failed = f"failed: {what}"
    assert story(25, fails=[what, what])[:4] == [(0, failed), (10, failed), (20, "begun"), (21, "done")]


def test_after_a_failure_there_is_a_pause_though_there_was_more_to_do() -> None:
    failed = "round with 0 more"
    assert story(11.5, fails=[failed], more=1)[1:4] == [(1, "done"), (1, f"failed: {failed}"), (11, "begun")]


def test_a_lease_that_cannot_be_left_ends_by_itself() -> None:
    assert story(5, fails=["drop"])[-1] == (5, "failed: drop")


async def test_it_may_be_stopped_before_it_begins_and_run_again() -> None:
    world, stop = World(), Stop()
    stop.set()
    for _ in range(2):
        await world.rounds().run(world.run_once, stop)
    assert world.said == [(0, "dropped")] * 2


async def test_what_is_not_transient_ends_the_rounds_and_is_told_nobody() -> None:
    async def fall() -> bool:
        raise ValueError

    world = World()
    with pytest.raises(ValueError):
        await world.rounds().run(fall, Stop())
    assert world.said == []
