"""What can be said of backups without making one: the settings, what is told of them, and what a drill counts."""

from __future__ import annotations

import os
import re
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from tests.drill.outcome import Outcome
from tests.drill.primary import BACKUP_RIGHTS
from tests.drill.programs import Programs, ProgramsMissing, find
from tests.drill.repository import PLACES, TEMPLATE, after, end_of, placed, template
from tests.drill.watching import Entry, broken_promises, captured, lost_entries, parse_lsn

DOCS = TEMPLATE.parents[1] / "docs" / "backups.md"
MIB = 2**20


def settings() -> dict[str, str]:
    parser = template()
    return {name: value for section in parser.sections() for name, value in parser[section].items()}


def entry(**fields: object) -> Entry:
    plain: dict[str, object] = {"type": "capture", "amount": 100, "currency": "EUR", "hash": "a", "at": 1.0}
    return Entry(**(plain | fields))  # type: ignore[arg-type]


def test_backups_are_encrypted_and_the_passphrase_stands_elsewhere() -> None:
    assert settings()["repo1-cipher-type"] == "aes-256-cbc"
    assert not [name for name in settings() if "pass" in name or "key" in name]


def test_nothing_drops_wal() -> None:
    assert "archive-push-queue-max" not in settings()


def test_every_setting_has_its_reason() -> None:
    is_said = False
    for line in TEMPLATE.read_text("utf-8").splitlines():
        if not line or line.startswith("["):
            is_said = False
        elif line.startswith("#"):
            is_said = True
        else:
            assert is_said, f"{line} without a reason"


def test_every_setting_is_told_of() -> None:
    told = set(re.findall(r"`([a-z0-9-]+)`", DOCS.read_text("utf-8")))
    assert set(settings()) <= told


def test_the_drill_uses_the_template_and_changes_places_alone(tmp_path: Path) -> None:
    placed_at = placed({name: f"/somewhere/{name}" for name in PLACES})
    path = tmp_path / "pgbackrest.conf"
    path.write_text(placed_at)
    lines = dict(line.split("=", 1) for line in placed_at.splitlines() if "=" in line)
    assert {name for name, value in lines.items() if settings()[name] != value} == PLACES
    assert set(lines) == set(settings())
    assert "[paynode]" in placed_at


def test_the_rights_of_the_role_are_those_that_are_drilled() -> None:
    said = BACKUP_RIGHTS.format(role="database_user").split()
    assert " ".join(said) in " ".join(DOCS.read_text("utf-8").split())


@pytest.mark.parametrize(
    ("segment", "end", "next_one"),
    [
        ("000000010000000000000007", 8 * 16 * MIB, "000000010000000000000008"),
        ("0000000200000000000000FF", 2**32, "000000020000000100000000"),
        ("000000010000000A00000001", (10 << 32) + 32 * MIB, "000000010000000A00000002"),
    ],
)
def test_segments_are_counted_as_postgresql_does(segment: str, end: int, next_one: str) -> None:
    assert end_of(segment) == end
    assert after(segment) == next_one


def test_a_place_in_the_wal_is_a_number_of_bytes() -> None:
    assert parse_lsn("A/2000028") == (10 << 32) + 2 * 16 * MIB + 0x28


def test_what_the_archive_had_must_be_there_as_it_was() -> None:
    seen = {
        ("kept", 1): entry(before_lsn=10),
        ("gone", 1): entry(before_lsn=10),
        ("other", 1): entry(before_lsn=10),
        ("at the edge", 1): entry(before_lsn=20),
        ("too late", 1): entry(before_lsn=21),
    }
    found = {("kept", 1): entry(), ("other", 1): entry(hash="b")}
    assert broken_promises(seen, found, 20) == [("gone", 1), ("other", 1), ("at the edge", 1)]


def test_what_is_lost_is_told_from_the_oldest_on() -> None:
    seen = {("b", 1): entry(at=5.0), ("a", 1): entry(at=3.0), ("kept", 1): entry(at=1.0)}
    assert [one.at for one in lost_entries(seen, {("kept", 1): entry()})] == [3.0, 5.0]


def test_of_what_is_lost_only_captures_are_summed() -> None:
    lost = [entry(), entry(amount=50), entry(type="fee", amount=7), entry(currency="CZK")]
    assert captured(lost) == {"EUR": 150, "CZK": 100}


@pytest.mark.parametrize(
    ("outcome", "code"),
    [
        (Outcome(), 0),
        (Outcome(failures=["too slow"]), 1),
        (Outcome(laws_broken=["books_balance"]), 3),
        (Outcome(laws_broken=["books_balance"], failures=["too slow"]), 3),
    ],
)
def test_a_broken_law_says_more_than_a_failure(outcome: Outcome, code: int) -> None:
    assert outcome.code == outcome.as_json()["code"] == code


def test_without_the_programs_it_says_what_is_missing(tmp_path: Path) -> None:
    ended = subprocess.run(
        [sys.executable, "-m", "tests.drill", "--postgres", str(tmp_path)],
        env={**os.environ, "PATH": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 75, ended.stderr
    assert "apt-get install pgbackrest postgresql" in ended.stderr


def test_a_newer_server_can_be_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("pgbackrest", "initdb"):
        (tmp_path / name).write_text("#!/bin/sh\n")
        (tmp_path / name).chmod(stat.S_IRWXU)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert find(tmp_path) == Programs(pgbackrest=tmp_path / "pgbackrest", postgres=tmp_path)
    with pytest.raises(ProgramsMissing, match="postgresql missing"):
        find(tmp_path / "elsewhere")
