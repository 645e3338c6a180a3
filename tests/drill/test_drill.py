"""The drill as it is run: green as it stands, red over whatever harm is done; nothing is left of it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.drill.programs import ProgramsMissing, find
from tests.drill.spoiling import Spoiling
from tests.support.directories import open_directory
from tests.support.pids import wait_until_gone, with_children
from tests.support.waiting import wait_until_sync

_DRILL = [sys.executable, "-m", "tests.drill", "--output", "json"]
_WHOLE_S = 450


@pytest.fixture
def scratch() -> Iterator[Path]:
    """Where the drill makes its directory; its servers may run as another user."""
    try:
        find()
    except ProgramsMissing as missing:
        pytest.skip(str(missing))
    with open_directory() as directory:
        yield directory


@pytest.mark.long
@pytest.mark.parametrize(
    ("spoiling", "code"),
    [(Spoiling.NOTHING, 0), (Spoiling.MISSING, 1), (Spoiling.CORRUPT, 1), (Spoiling.ROW, 3)],
)
def test_what_was_archived_comes_back_and_harm_shows(scratch: Path, spoiling: Spoiling, code: int) -> None:
    environment = {**os.environ, "TMPDIR": str(scratch)}
    ended = subprocess.run(
        [*_DRILL, "--spoil", spoiling], env=environment, capture_output=True, text=True, timeout=_WHOLE_S, check=False
    )
    assert ended.returncode == code, ended.stdout + ended.stderr
    found = json.loads(ended.stdout)
    assert found["code"] == code
    assert found["ledger_promised"] > 0
    if spoiling is Spoiling.NOTHING:
        assert found["charges_known"] > 0
        assert 0 < found["rpo_s"] <= found["archive_timeout_s"] + 10
        assert len(found["charges_lost"]) > 0, "money was lost in mid-segment, and the PSP's book tells which"
    if spoiling in (Spoiling.MISSING, Spoiling.CORRUPT):
        assert not found["laws_broken"], "doctor cannot see what the archive did not give back"
        assert any("in the archive" in failure for failure in found["failures"]), found["failures"]
    assert list(scratch.iterdir()) == [], "nothing is left"


@pytest.mark.long
def test_a_drill_that_is_stopped_leaves_nothing(scratch: Path) -> None:
    environment = {**os.environ, "TMPDIR": str(scratch)}
    drill = subprocess.Popen(_DRILL, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    try:
        assert drill.stderr is not None
        wait_until_sync(lambda: "backup" in drill.stderr.readline(), "it pays, and backs up", 120)  # type: ignore[union-attr]
        everything = with_children([drill.pid])
        drill.send_signal(signal.SIGTERM)
        drill.communicate(timeout=60)
    finally:
        drill.kill()
    assert drill.returncode != 0
    wait_until_gone(everything)
    assert list(scratch.iterdir()) == []
