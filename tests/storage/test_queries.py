"""Every statement in a .sql file is well-formed, valid on the present schema, and used."""

from __future__ import annotations

import re
from pathlib import Path

import asyncpg
import pytest

import paynode
from paynode.config import Settings
from paynode.storage.postgres import Role, session
from paynode.storage.queries import load, parse

_PACKAGE = Path(paynode.__file__).parent
_FILES = sorted(path.stem for path in (_PACKAGE / "storage").glob("*.sql"))


def _sources() -> str:
    return "\n".join(path.read_text("utf-8") for path in _PACKAGE.rglob("*.py"))


@pytest.mark.parametrize("file", _FILES)
async def test_every_statement_is_valid_on_the_migrated_schema(untouched: Settings, file: str) -> None:
    async with session(untouched, Role.OWNER, application_name="test") as owner:
        for name, statement in load(file).items():
            try:
                await owner.prepare(statement)
            except asyncpg.PostgresError as error:
                raise AssertionError(f"{file}.sql: {name}: {error}") from error


@pytest.mark.parametrize("file", _FILES)
def test_every_statement_is_used_by_its_name(file: str) -> None:
    # Some modules hand the name to a function of theirs instead of looking it up on the spot.
    used = set(re.findall(r'[\[(\s]"([a-z0-9_]+)"', _sources()))
    assert set(load(file)) <= used, f"no Python file refers to these statements of {file}.sql"


def test_a_statement_comes_without_its_comment_and_semicolon() -> None:
    assert parse("-- About the file.\n\n-- name: find_it\n-- Why.\nSELECT 1\nFROM x;\n", "f.sql") == {
        "find_it": "SELECT 1\nFROM x"
    }


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("-- name: find_it\n-- Why.\nSELECT 1;\n\n-- name: find_it\n-- Why.\nSELECT 2;\n", "find_it stands twice"),
        ("-- name: find_it\nSELECT 1;\n", "says why"),
        ("-- name: find_it\n-- Why.\n", "has no statement"),
        ("-- name: Find it\n-- Why.\nSELECT 1;\n", "verb_noun"),
        ("SELECT 1;\n-- name: find_it\n-- Why.\nSELECT 1;\n", "before the first name"),
    ],
)
def test_a_file_that_does_not_follow_the_form_is_refused(text: str, complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        parse(text, "f.sql")
