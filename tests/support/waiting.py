"""Waiting for a fact instead of for a time."""

from __future__ import annotations

import inspect
import time
from collections.abc import Awaitable, Callable

import anyio

_POLL_S = 0.01


async def wait_until(predicate: Callable[[], bool | Awaitable[bool]], description: str, timeout: float = 10.0) -> None:
    """Return as soon as the predicate, plain or async, holds; fail the test with `description` after `timeout` s."""
    give_up_at = time.monotonic() + timeout
    while True:
        answer = predicate()
        if await answer if inspect.isawaitable(answer) else answer:
            return
        if time.monotonic() >= give_up_at:
            raise AssertionError(f"after {timeout:g} s still not: {description}")
        await anyio.sleep(_POLL_S)


def wait_until_sync(predicate: Callable[[], bool], description: str, timeout: float = 10.0) -> None:
    """The same for a test that runs no event loop."""
    give_up_at = time.monotonic() + timeout
    while not predicate():
        if time.monotonic() >= give_up_at:
            raise AssertionError(f"after {timeout:g} s still not: {description}")
        time.sleep(_POLL_S)
