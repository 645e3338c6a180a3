"""Passwords of the log-in roles: given, or generated once for all processes."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from paynode import config
from paynode.config import Settings
from paynode.storage.logins import LOGIN_ROLES, Role, make_passwords, passwords


def _settings(home: Path, **given: str) -> Settings:
    return config.load({"data_dir": home, "database": {"passwords": given}})


def test_passwords_that_nobody_gave_are_generated_once_and_only_their_owner_reads_them(tmp_path: Path) -> None:
    settings = _settings(tmp_path / "home")
    made = make_passwords(settings)
    assert set(made) == set(LOGIN_ROLES)
    assert len(set(made.values())) == len(LOGIN_ROLES)
    assert all(len(password) == 43 for password in made.values())  # 256 bits in base64url
    assert make_passwords(settings) == passwords(settings) == made
    assert (tmp_path / "home" / "roles.json").stat().st_mode & 0o777 == 0o600


def test_a_given_password_wins_and_is_written_nowhere(tmp_path: Path) -> None:
    made = make_passwords(_settings(tmp_path, committer="given"))
    assert made[Role.COMMITTER] == "given"
    assert "given" not in (tmp_path / "roles.json").read_text()


def test_no_file_is_made_when_all_are_given(tmp_path: Path) -> None:
    make_passwords(_settings(tmp_path, **{role.value: "given" for role in LOGIN_ROLES}))
    assert not list(tmp_path.iterdir())


def test_whoever_starts_at_the_same_time_agrees_on_one_file(tmp_path: Path) -> None:
    settings = _settings(tmp_path / "home")
    with ThreadPoolExecutor(16) as threads:
        made = list(threads.map(make_passwords, [settings] * 64))
    assert all(one == made[0] for one in made)
    assert [path.name for path in (tmp_path / "home").iterdir()] == ["roles.json"]
    assert json.loads((tmp_path / "home" / "roles.json").read_text()) == made[0]
