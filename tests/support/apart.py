"""Programs that nobody here wrote, each in an environment of its own, apart from paynode's."""

from __future__ import annotations

import fcntl
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

REQUIREMENTS = Path(__file__).parents[2] / "requirements"


def programs_of(name: str, session: pytest.TempPathFactory) -> Path:
    """The directory of the programs of requirements/NAME.txt, installed once for all processes of this test session.

    A machine that cannot install them fails: tests that are not run must not look like tests that passed.
    """
    root = session.getbasetemp()
    place = (root.parent if root.name.startswith("popen-gw") else root) / f"apart-{name}"
    done = place / ".installed"
    with place.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not done.exists():
            _run(sys.executable, "-m", "venv", "--clear", "--without-pip", str(place))
            _install(place, REQUIREMENTS / f"{name}.txt")
            done.touch()
    return place / "bin"


def _install(place: Path, requirements: Path) -> None:
    # What runs the tests may have no pip of its own (Debian without ensurepip); what it was made from has.
    python = sys.executable if find_spec("pip") else str(Path(sys.base_prefix) / "bin" / "python3")
    flags = ("--quiet", "--disable-pip-version-check", "--no-deps", "--ignore-requires-python")
    checked = ("--require-hashes", "--only-binary", ":all:", "--requirement", str(requirements))
    _run(python, "-m", "pip", "--python", str(place / "bin" / "python"), "install", *flags, *checked)


def _run(*command: str) -> None:
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=900)
    assert done.returncode == 0, f"{' '.join(command)}\n{done.stdout[-2000:]}{done.stderr[-4000:]}"
