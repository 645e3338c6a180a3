"""A running simulator for each test that asks for one."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.sim.running import Receiver, Simulator, receiving, running


@pytest.fixture
async def receiver() -> AsyncIterator[Receiver]:
    async with receiving() as receiver:
        yield receiver


@pytest.fixture
async def sim(tmp_path: Path, receiver: Receiver) -> AsyncIterator[Simulator]:
    async with running(tmp_path, receiver.url) as sim:
        yield sim
