"""The adapter, pointed wherever a test wants it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path

import pytest

from paynode.psp.sim import SimPsp
from tests.sim.running import API_KEY, WEBHOOK_SECRET, Receiver, Simulator, receiving, running

Adapter = Callable[[str], AbstractAsyncContextManager[SimPsp]]


@asynccontextmanager
async def adapter(url: str, concurrency: int = 4) -> AsyncIterator[SimPsp]:
    async with sim_psp(url, concurrency) as psp:
        yield psp


def sim_psp(url: str = "http://psp.invalid", concurrency: int = 1) -> SimPsp:
    """An adapter that is not entered yet."""
    return SimPsp(
        name="sim",
        url=url,
        api_key=API_KEY,
        webhook_secret=WEBHOOK_SECRET,
        idempotent_for_s=60,
        settle_s=1,
        concurrency=concurrency,
    )


@pytest.fixture
async def receiver() -> AsyncIterator[Receiver]:
    async with receiving() as receiver:
        yield receiver


@pytest.fixture
async def sim(tmp_path: Path, receiver: Receiver) -> AsyncIterator[Simulator]:
    async with running(tmp_path, receiver.url) as sim:
        yield sim


@pytest.fixture
async def psp(sim: Simulator) -> AsyncIterator[SimPsp]:
    async with adapter(sim.url) as psp:
        yield psp
