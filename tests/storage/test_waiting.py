"""The queue for connections of a pool, as it is seen from outside."""

from __future__ import annotations

import time
from contextlib import ExitStack

import pytest

from paynode.storage import waiting

POOL = "a pool"


@pytest.fixture
def now(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    instant = [100.0]
    monkeypatch.setattr(time, "monotonic", lambda: instant[0])
    return instant


def test_the_oldest_that_waits_counts(now: list[float]) -> None:
    assert waiting.waited_s(POOL) == 0.0
    with waiting.noted(POOL):
        now[0] += 1
        with waiting.noted("another"):
            now[0] += 1
            assert (waiting.waited_s(POOL), waiting.waited_s("another")) == (2.0, 1.0)
    assert (waiting.waited_s(POOL), waiting.waited_s("another")) == (0.0, 0.0)


def test_who_is_overtaken_is_no_queue(now: list[float]) -> None:
    """Its connection is being opened: those that came later have been served by others."""
    first, second, third = ExitStack(), ExitStack(), ExitStack()
    for stack in (first, second, third):
        stack.enter_context(waiting.noted(POOL))
        now[0] += 1
    assert waiting.waited_s(POOL) == 3.0
    second.close()
    assert waiting.waited_s(POOL) == 1.0, "the third, who has not been overtaken"
    first.close()
    assert waiting.waited_s(POOL) == 1.0
    third.close()
    assert waiting.waited_s(POOL) == 0.0


def test_nobody_is_left_behind_when_somebody_gives_up(now: list[float]) -> None:
    with pytest.raises(LookupError), waiting.noted(POOL):
        raise LookupError
    assert waiting.waited_s(POOL) == 0.0
    assert waiting._SINCE == {}


def test_who_gives_up_has_overtaken_nobody(now: list[float]) -> None:
    with waiting.noted(POOL):
        now[0] += 1
        with pytest.raises(TimeoutError), waiting.noted(POOL):
            raise TimeoutError
        now[0] += 1
        assert waiting.waited_s(POOL) == 2.0
    assert waiting._SINCE == {}


def test_who_was_overtaken_takes_nobody_with_him(now: list[float]) -> None:
    """By the time that he is served, those whom he waited with are gone and others wait."""
    first, second = ExitStack(), ExitStack()
    first.enter_context(waiting.noted(POOL))
    second.enter_context(waiting.noted(POOL))
    second.close()
    assert waiting.waited_s(POOL) == 0.0
    with waiting.noted(POOL):
        now[0] += 1
        first.close()
        assert waiting.waited_s(POOL) == 1.0
    assert waiting._SINCE == {}
