"""`paynode dev`: one line when all is up, one signal and all is gone."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.support.pids import ProcessFact, wait_until_gone, with_children
from tests.support.waiting import wait_until_sync

_ROOT = Path(__file__).parents[2]
_ANY_PORTS = {f"PAYNODE_{section}__PORT": "0" for section in ("HTTP", "ADMIN", "SIM", "SHOP")}


@contextmanager
def _dev(data_dir: Path, **environment: str) -> Iterator[subprocess.Popen[str]]:
    """`paynode dev` in a process of its own, stopped at the end if it still runs."""
    with subprocess.Popen(
        [sys.executable, "-m", "tests.embedded.develop"],
        cwd=_ROOT,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, **_ANY_PORTS, "PAYNODE_DATA_DIR": str(data_dir), **environment},
    ) as process:
        try:
            yield process
        finally:
            process.kill()  # no orphans: that is one of the promises


def _ready_line(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline()


def _facts(data_dir: Path) -> dict[str, Any]:
    facts: dict[str, Any] = json.loads((data_dir / "dev.json").read_text())
    return facts


def _processes(data_dir: Path) -> list[ProcessFact]:
    return with_children(_facts(data_dir)["pids"].values())


def _end(process: subprocess.Popen[str]) -> tuple[int, str]:
    _, stderr = process.communicate(timeout=20)
    return process.returncode, stderr


def test_it_prints_one_line_and_writes_where_everything_is(data_dir: Path) -> None:
    with _dev(data_dir) as process:
        line = _ready_line(process)
        facts = _facts(data_dir)
        process.terminate()
        rest, _ = process.communicate(timeout=20)
    assert line == f"ready {facts['url']}\n"
    assert rest == ""
    assert facts["merchant"] == {"id": "mer_demo", "api_key": "key_demo"}
    assert set(facts["operator"]) == {"name", "token", "url"}
    assert len(facts["operator"]["token"]) >= 32
    assert set(facts["pids"]) == {
        "dev", "postgres", "valkey", "psp-sim", "serve", "worker", "scheduler", "shop",
    }  # fmt: skip
    assert (data_dir / "dev.json").stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_one_signal_stops_everything_and_the_exit_code_is_0(data_dir: Path, number: signal.Signals) -> None:
    with _dev(data_dir) as process:
        _ready_line(process)
        processes = _processes(data_dir)
        process.send_signal(number)
        code, _ = _end(process)
    assert code == 0
    assert len(processes) >= 8
    assert not [fact for fact in processes if fact.is_running()]


def test_a_killed_dev_leaves_no_process(data_dir: Path) -> None:
    with _dev(data_dir) as process:
        _ready_line(process)
        processes = _processes(data_dir)
        process.kill()
        wait_until_gone(processes)


def test_a_process_that_dies_is_named_with_its_last_words_and_all_stops(data_dir: Path) -> None:
    with _dev(data_dir) as process:
        _ready_line(process)
        processes = _processes(data_dir)
        os.kill(_facts(data_dir)["pids"]["worker"], signal.SIGKILL)
        code, stderr = _end(process)
    assert code == 1
    assert "worker ended unexpectedly with status -9; its last words:" in stderr
    assert "words of worker" in stderr.partition("ended unexpectedly")[2]
    wait_until_gone(processes)


def test_a_database_that_dies_is_named_and_all_stops(data_dir: Path) -> None:
    with _dev(data_dir) as process:
        _ready_line(process)
        processes = _processes(data_dir)
        os.kill(_facts(data_dir)["pids"]["postgres"], signal.SIGQUIT)
        code, stderr = _end(process)
    assert code == 1
    assert "postgres ended with status" in stderr
    wait_until_gone(processes)


@pytest.mark.parametrize(("status", "expected"), [("1", 1), ("75", 75)])
def test_a_failed_migration_ends_it_and_try_again_is_passed_on(data_dir: Path, status: str, expected: int) -> None:
    with _dev(data_dir, PAYNODE_TEST_FAILING="migrate", PAYNODE_TEST_STATUS=status) as process:
        code, stderr = _end(process)
    assert code == expected
    assert f"migrate ended with status {status}" in stderr


def test_a_second_signal_does_not_wait_for_the_stubborn(data_dir: Path) -> None:
    with _dev(data_dir, PAYNODE_TEST_STUBBORN="worker") as process:
        _ready_line(process)
        processes = _processes(data_dir)
        pids = _facts(data_dir)["pids"]
        process.terminate()
        others = [fact for fact in processes if fact.pid == pids["scheduler"]]
        wait_until_gone(others)
        process.terminate()
        code, stderr = _end(process)
    assert code == 1
    assert "worker did not stop in time and was killed" in stderr
    wait_until_gone(processes)


def test_a_terminal_that_nobody_reads_does_not_hold_up_the_stop(data_dir: Path) -> None:
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    try:
        while os.write(writing, b"x" * 4096):
            pass
    except BlockingIOError:
        os.set_blocking(writing, True)  # full: from now on every write to it would wait for ever
    environment = {**os.environ, **_ANY_PORTS, "PAYNODE_DATA_DIR": str(data_dir)}
    command = [sys.executable, "-m", "tests.embedded.develop"]
    with subprocess.Popen(
        command, cwd=_ROOT, stdout=subprocess.PIPE, stderr=writing, text=True, env=environment
    ) as process:
        _ready_line(process)
        process.terminate()
        assert process.wait(timeout=20) == 0
    os.close(reading)
    os.close(writing)


def test_a_second_dev_on_the_same_data_is_refused_and_the_first_goes_on(data_dir: Path) -> None:
    with _dev(data_dir) as first:
        _ready_line(first)
        with _dev(data_dir) as second:
            code, stderr = _end(second)
        assert code == 1
        assert "another `paynode dev` runs on" in stderr
        assert first.poll() is None
        assert all(fact.is_running() for fact in _processes(data_dir))


def test_a_taken_port_is_named_with_the_variable_that_moves_it(data_dir: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        with _dev(data_dir, PAYNODE_SHOP__PORT=port) as process:
            code, stderr = _end(process)
    assert code == 1
    assert f"127.0.0.1:{port} is taken: stop what listens there, or set PAYNODE_SHOP__PORT" in stderr


def test_the_api_key_is_neither_shown_nor_logged(data_dir: Path) -> None:
    with _dev(data_dir) as process:
        _ready_line(process)
        process.terminate()
        _, stderr = _end(process)
    logs = "".join(path.read_text() for path in (data_dir / "logs").iterdir())
    assert "words of merchants" in logs
    assert "key_demo" not in stderr + logs


def test_a_signal_during_the_start_stops_it_too(data_dir: Path) -> None:
    with _dev(data_dir) as process:
        password = data_dir / "servers" / "postgres.password"
        wait_until_sync(password.exists, "the servers began to start")
        process.terminate()
        code, _ = _end(process)
    assert code == 0
