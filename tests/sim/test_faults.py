"""Random faults: set, counted, cleared, repeatable."""

from __future__ import annotations

import contextlib

import aiohttp
import pytest

from paynode.sim.faults import FaultRates, Faults
from tests.sim.running import Receiver, Simulator
from tests.support.waiting import wait_until


async def test_rates_are_in_force_until_they_are_changed_and_each_bite_is_counted(sim: Simulator) -> None:
    await sim.faults(error_after=1)
    assert [(await sim.charge(f"op-{n}"))[0] for n in range(3)] == [500, 500, 500]

    shown = await sim.faults()

    assert shown == {"faults": {}, "bitten": {"error_after": 3}, "calls": 3}
    assert (await sim.charge("op-0"))[2] is True, "it was charged before the answer was lost"
    assert len(await sim.book()) == 3


async def test_an_answer_lost_before_the_work_charges_nothing(sim: Simulator) -> None:
    await sim.faults(error_before=0.5, hang_before=0.5)
    for number in range(8):
        with contextlib.suppress(aiohttp.ClientError):
            assert (await sim.charge(f"op-{number}"))[0] == 503
    bitten = (await sim.faults())["bitten"]
    assert bitten["error_before"] + bitten["hang_before"] >= 8
    assert await sim.book() == []


async def test_declines_can_be_made_and_inquiries_broken_or_blinded(sim: Simulator) -> None:
    await sim.faults(decline=1, inquiry_lag_ms=3_600_000)
    assert (await sim.charge("op-1"))[1]["status"] == "declined"
    assert await sim.operations("op-1") == []
    await sim.faults(inquiry_error=1)
    with pytest.raises(AssertionError):
        await sim.operations("op-1")
    await sim.faults()
    assert len(await sim.operations("op-1")) == 1


async def test_a_blinded_inquiry_sees_nothing_of_pages_either(sim: Simulator) -> None:
    await sim.press(await sim.open_page("op-1"), "pay")
    for lag_ms, seen in [(0, ["approved", "approved"]), (3_600_000, [])]:
        await sim.faults(inquiry_lag_ms=lag_ms)
        assert [item["status"] for item in await sim.operations("op-1")] == seen


async def test_latency_lets_a_callback_overtake_the_answer(sim: Simulator, receiver: Receiver) -> None:
    await sim.faults(latency_ms=300)
    await sim.charge("op-1")
    assert len(receiver.of("op-1")) == 1


async def test_a_dropped_callback_never_comes_and_a_duplicated_one_thrice(sim: Simulator, receiver: Receiver) -> None:
    await sim.faults(drop_callback=1)
    await sim.charge("op-lost")
    await sim.faults(duplicate_callback=1, callback_jitter_ms=20)
    await sim.charge("op-thrice")
    await wait_until(lambda: len(receiver.of("op-thrice")) == 3, "the duplicated callback came")
    assert receiver.of("op-lost") == []
    assert len(await sim.operations("op-lost")) == 1


async def test_a_fault_that_is_not_known_or_not_a_rate_is_refused(sim: Simulator) -> None:
    too_much = '{"error_before": 0.6, "hang_after": 0.6}'
    for body in ['{"no_such_fault": 0.1}', '{"error_before": 1.1}', too_much, "[]", ""]:
        async with sim.http.post(f"{sim.url}/faults", data=body) as response:
            assert response.status == 400
            assert (await response.json())["error"]["code"] == "faults_invalid"


def test_a_seed_repeats_the_same_misfortunes() -> None:
    def misfortunes(seed: int) -> list[object]:
        faults = Faults()
        faults.set(FaultRates(error_before=0.3, hang_after=0.3, seed=seed))
        return [faults.mishap("sale") for _ in range(100)]

    assert misfortunes(1) == misfortunes(1) != misfortunes(2)
    assert len(set(misfortunes(1))) == 3
