"""A process whose loop hangs ends itself; one that is stopped for a while, or merely busy, does not."""

from __future__ import annotations

import signal
import subprocess
import sys
import time

import anyio
import pytest

from paynode.runtime.watchdog import EXIT_CODE
from tests.support.waiting import wait_until

# Says `up`, then does what it is told after each line that it reads.
_GUARDED = """
import sys, time
import anyio
from paynode.runtime.memory import limit_memory
from paynode.runtime.watchdog import Watchdog

async def main():
    async with Watchdog(hang_s=1.5).guard():
        print("up", flush=True)
        word = (await anyio.to_thread.run_sync(sys.stdin.readline)).strip()
        if word == "hang":
            while True:
                pass
        if word == "busy":
            for _ in range(12):
                time.sleep(0.3)
                await anyio.sleep(0.01)
        if word == "eat":
            limit_memory(1024)
            hoard = bytearray(2**32)

anyio.run(main)
"""


@pytest.fixture
def guarded() -> subprocess.Popen[str]:
    process = subprocess.Popen(
        [sys.executable, "-c", _GUARDED],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "up\n"
    return process


def test_a_loop_that_hangs_ends_the_process_and_says_where(guarded: subprocess.Popen[str]) -> None:
    _, told = guarded.communicate("hang\n", timeout=20)
    assert guarded.returncode == EXIT_CODE
    assert "in main" in told


def test_a_loop_that_is_busy_and_turns_now_and_then_is_left_alone(guarded: subprocess.Popen[str]) -> None:
    guarded.communicate("busy\n", timeout=20)
    assert guarded.returncode == 0


async def test_a_process_that_was_stopped_and_goes_on_is_left_alone(guarded: subprocess.Popen[str]) -> None:
    guarded.send_signal(signal.SIGSTOP)
    stopped_at = time.monotonic()
    await wait_until(lambda: time.monotonic() - stopped_at > 4, "more than it would bear")
    guarded.send_signal(signal.SIGCONT)
    await anyio.sleep(0.3)
    assert guarded.poll() is None
    guarded.communicate("nothing\n", timeout=20)
    assert guarded.returncode == 0


def test_a_process_that_asks_for_more_memory_than_it_may_have_ends(guarded: subprocess.Popen[str]) -> None:
    _, told = guarded.communicate("eat\n", timeout=20)
    assert guarded.returncode == 1
    assert "MemoryError" in told
