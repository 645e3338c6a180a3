"""Stop: set once, seen by all; the first signal drains, the second does not wait."""

from __future__ import annotations

import os
import signal

import anyio
import pytest

from paynode.runtime.stopping import Stop, stop_on_signal
from tests.support.schedules import explore
from tests.support.waiting import wait_until


def test_a_pause_is_cut_short_and_says_so() -> None:
    async def test() -> None:
        stop, begun = Stop(), anyio.current_time()
        async with anyio.create_task_group() as group:

            async def set_later() -> None:
                await anyio.sleep(1)
                stop.set()

            group.start_soon(set_later)
            assert not await stop.pause(0.5)
            assert await stop.pause(3_600)
        assert anyio.current_time() - begun < 2
        assert await stop.pause(3_600), "and from then on it does not wait at all"

    explore(test)


def test_it_may_be_set_twice_and_waited_for_afterwards() -> None:
    async def test() -> None:
        stop = Stop()
        stop.set()
        stop.set()
        assert stop.is_set
        await stop.wait()

    explore(test)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_the_first_signal_drains_and_the_second_ends_the_process(
    number: signal.Signals, monkeypatch: pytest.MonkeyPatch
) -> None:
    exits: list[int] = []
    monkeypatch.setattr(os, "_exit", exits.append)
    stop = Stop()
    async with anyio.create_task_group() as group:
        await group.start(stop_on_signal, stop)
        os.kill(os.getpid(), number)
        await stop.wait()
        assert exits == []
        os.kill(os.getpid(), number)
        await wait_until(lambda: exits == [1], "the second signal ends the process")
        group.cancel_scope.cancel()
