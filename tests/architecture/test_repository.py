"""Nothing in the repository belongs to one machine or names where packages come from."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator, Mapping
from typing import Final

import pytest

from tests.architecture.sources import ROOT

FORBIDDEN: Final[Mapping[str, re.Pattern[str]]] = {
    # Locks and scripts that name a host work on one network; plain pip knows where to look by itself.
    "a package registry's host": re.compile(
        r"\b(pypi\.org|pythonhosted\.org|npmjs\.(org|com)|crates\.io|docker\.io|ghcr\.io|quay\.io|proxy\.golang\.org)",
        re.IGNORECASE,
    ),
    "an address of a package index": re.compile(r"(--(extra-)?index-url|--find-links)[ =]\S|PIP_INDEX_URL\=\S"),
    # Paths are relative to the repository, or asked of the system (`tempfile`, `~`, `which`).
    "a path of one machine": re.compile(
        r"(?<![\w.$}~/-])(/(home|Users)/\w|/(work|workspace|root|mnt)(/|\b)|[A-Z]:\\\w)"
    ),
}


def files() -> Iterator[tuple[str, str]]:
    """What is or will be committed, by its path; in an unpacked archive there is no git to ask, and no test to run."""
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"],
        cwd=ROOT,
        check=False,
        capture_output=True,
        text=True,
    )
    if listed.returncode != 0:
        pytest.skip("not a git repository")
    for name in filter(None, listed.stdout.split("\0")):
        path = ROOT / name
        if path.is_file() and not path.is_symlink():
            yield name, path.read_bytes().decode("utf-8", "replace")


def complaints(name: str, text: str) -> Iterator[str]:
    for what, pattern in FORBIDDEN.items():
        for number, line in enumerate(text.splitlines(), start=1):
            if pattern.search(line):
                yield f"{name}:{number} has {what}: {line.strip()[:100]}"


def test_no_file_belongs_to_a_machine_or_a_registry() -> None:
    found = [complaint for name, text in files() for complaint in complaints(name, text)]
    assert not found, "\n".join(["", *found])


@pytest.mark.parametrize(
    "parts",
    [
        ("https://py", "pi.org/simple"),
        ("https://files.python", "hosted.org/packages/x.whl"),
        ("FROM docker", ".io/library/python"),
        ("pip install --index", "-url https://mirror.example/simple"),
        ("path = '/ho", "me/somebody/paynode'"),
        ("cd /wo", "rk/main"),
        ("open('/ro", "ot/.ssh/id')"),
        ("C:", "\\Projects"),
    ],
)
def test_the_rule_bites(parts: tuple[str, ...]) -> None:
    assert list(complaints("a.txt", "".join(parts)))


@pytest.mark.parametrize(
    "text",
    [
        "https://www.apache.org/licenses/LICENSE-2.0",
        "paynode/workers/home/x.py",
        "GET /works",
        "the root of the house",
        "$HOME/work and ~/work",
        "/usr/lib/postgresql",
        "{p01}:events",
    ],
)
def test_the_rule_leaves_the_innocent_alone(text: str) -> None:
    assert not list(complaints("a.txt", text))
