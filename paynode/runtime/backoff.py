"""Waiting longer and longer, each time by chance within bounds (full jitter): so that many do not return as one."""

from __future__ import annotations

import random

import anyio


class Backoff:
    """Pauses that double from `min_ms` to `max_ms`, each drawn from nothing to the whole."""

    def __init__(self, *, min_ms: int, max_ms: int) -> None:
        self._min_ms = min_ms
        self._max_ms = max_ms
        self._failures = 0

    def reset(self) -> None:
        """It worked: the next failure waits shortly again."""
        self._failures = 0

    async def pause(self) -> None:
        """Wait after one more failure."""
        # 20 doublings exceed any maximum; the bound keeps the number small.
        ceiling_ms = min(self._min_ms << min(self._failures, 20), self._max_ms)
        self._failures += 1
        # At least a tenth, so that chance never makes a busy loop.
        await anyio.sleep(random.uniform(ceiling_ms / 10, ceiling_ms) / 1000)  # noqa: S311 - no secret is drawn
