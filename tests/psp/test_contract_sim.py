"""The contract of adapters, kept by the simulator's."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager

import pytest

from paynode.domain.payment import PspOrder
from paynode.psp.adapter import Adapter
from paynode.psp.sim import SimPsp
from tests.psp.account import Account, Delivery, Trait
from tests.psp.conftest import adapter
from tests.psp.contract import Check, checks_for, name_of
from tests.sim.running import Receiver, SharedProcess, Simulator, receiving, shared_process, speaking


class SimAccount(Account):
    """All that there is."""

    TRAITS = frozenset(Trait)
    approving_token = "tok_approve"
    declining_token = "tok_decline"

    def __init__(self, psp: SimPsp, sim: Simulator, receiver: Receiver) -> None:
        self._psp = psp
        self._sim = sim
        self._receiver = receiver

    @property
    def adapter(self) -> Adapter:
        return self._psp

    async def customer_pays(self, page_url: str) -> None:
        await self._sim.press(page_url, "pay")

    async def customer_declines(self, page_url: str) -> None:
        await self._sim.press(page_url, "decline")

    @asynccontextmanager
    async def losing_answers(self) -> AsyncIterator[None]:
        await self._sim.faults(hang_after=1)
        yield
        assert (await self._sim.faults())["bitten"]["hang_after"] >= 1

    async def deliveries(self, order: PspOrder) -> Sequence[Delivery]:
        return [
            Delivery({"Sim-Signature": one.signatures[0]}, one.raw) for one in self._receiver.of(order.operation_id)
        ]

    async def reverse(self, order: PspOrder) -> None:
        await self._sim.reverse(order.operation_id)

    def elsewhere(self, url: str) -> AbstractAsyncContextManager[Adapter]:
        return adapter(url)


@pytest.fixture(scope="module")
def process(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SharedProcess]:
    with shared_process(tmp_path_factory.mktemp("sim")) as process:
        yield process


@pytest.fixture
async def account(process: SharedProcess) -> AsyncIterator[SimAccount]:
    async with (
        receiving(listener=process.listener) as receiver,
        speaking(process.process, process.url, process.stderr) as sim,
        adapter(process.url) as psp,
    ):
        yield SimAccount(psp, sim, receiver)
        await sim.faults()


@pytest.mark.parametrize("check", checks_for(SimAccount), ids=name_of)
async def test_the_simulator_keeps_the_contract(check: Check, account: SimAccount) -> None:
    await check(account)
