"""One simulator for all tests of a module, which look at nothing but their own doing; each finds it without faults."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

import pytest

from tests.sim.running import Receiver, SharedProcess, Simulator, receiving, shared_process, speaking


@pytest.fixture(scope="module")
def process(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SharedProcess]:
    with shared_process(tmp_path_factory.mktemp("sim")) as process:
        yield process


@pytest.fixture
async def receiver(process: SharedProcess) -> AsyncIterator[Receiver]:
    async with receiving(listener=process.listener) as receiver:
        yield receiver


@pytest.fixture
async def sim(process: SharedProcess, receiver: Receiver) -> AsyncIterator[Simulator]:
    async with speaking(process.process, process.url, process.stderr) as sim:
        yield sim
        await sim.faults()
