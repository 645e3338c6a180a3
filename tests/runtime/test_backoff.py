"""Backoff: longer and longer, by chance within bounds, never nothing and never more than the maximum."""

from __future__ import annotations

import anyio
import pytest

from paynode.runtime.backoff import Backoff
from tests.support.schedules import explore, run


async def pause_ms(backoff: Backoff) -> float:
    begun = anyio.current_time()
    await backoff.pause()
    return (anyio.current_time() - begun) * 1_000


def test_pauses_double_up_to_the_maximum() -> None:
    async def test() -> None:
        backoff = Backoff(min_ms=50, max_ms=2_000)
        for ceiling in (50, 100, 200, 400, 800, 1_600, 2_000, 2_000):
            assert ceiling / 10 <= await pause_ms(backoff) <= ceiling + 0.01

    explore(test)


def test_after_success_the_next_pause_is_short_again() -> None:
    async def test() -> None:
        backoff = Backoff(min_ms=50, max_ms=2_000)
        for _ in range(10):
            await backoff.pause()
        backoff.reset()
        assert await pause_ms(backoff) <= 50.01

    explore(test)


def test_many_failures_make_no_huge_number() -> None:
    async def test() -> None:
        backoff = Backoff(min_ms=50, max_ms=2_000)
        for _ in range(5_000):
            await backoff.pause()
        assert await pause_ms(backoff) <= 2_000.01

    run(test, 1)


def test_pauses_differ_so_that_many_do_not_come_back_as_one() -> None:
    async def test() -> None:
        pauses = [await pause_ms(Backoff(min_ms=1_000, max_ms=1_000)) for _ in range(200)]
        assert len({round(pause) for pause in pauses}) > 50
        assert sum(pauses) / 200 == pytest.approx(550, abs=100)

    run(test, 1)
