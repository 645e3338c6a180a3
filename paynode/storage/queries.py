"""Statements live in `.sql` files: named, with a line that says why, and tested one by one against the schema.

-- name: find_keys
-- Why the statement is there, or why it is as it is.
SELECT …
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import cache
from itertools import dropwhile
from pathlib import Path
from types import MappingProxyType
from typing import Final

_HERE: Final = Path(__file__).parent
_HEADER: Final = re.compile(r"^-- name: *(.*)$", re.MULTILINE)
_NAME: Final = re.compile(r"[a-z]+(_[a-z0-9]+)+", re.ASCII)


@cache
def load(name: str) -> Mapping[str, str]:
    """The statements of `<name>.sql` by their names.

    Raises: ValueError for a file that does not follow the form; OSError when there is no such file.
    """
    return parse((_HERE / f"{name}.sql").read_text("utf-8"), f"{name}.sql")


def parse(text: str, file: str) -> Mapping[str, str]:
    """The statements of one file; `file` is for the messages."""
    preface, *parts = _HEADER.split(text)
    if any(line and not _is_comment(line) for line in preface.splitlines()):
        raise ValueError(f"{file}: a statement stands before the first name")
    queries: dict[str, str] = {}
    for query, block in zip(parts[::2], parts[1::2], strict=True):
        if _NAME.fullmatch(query) is None:
            raise ValueError(f"{file}: {query!r} is not of the form verb_noun")
        if query in queries:
            raise ValueError(f"{file}: {query} stands twice")
        queries[query] = _statement(block, f"{file}: {query}")
    return MappingProxyType(queries)


def _statement(block: str, where: str) -> str:
    """The statement below its comment. The comment does not travel: the server's own lists show the statement."""
    lines = block.strip().splitlines()
    statement = "\n".join(dropwhile(_is_comment, lines)).removesuffix(";")
    if not lines or not _is_comment(lines[0]):
        raise ValueError(f"{where} needs a comment above the statement that says why")
    if not statement:
        raise ValueError(f"{where} has no statement")
    return statement


def _is_comment(line: str) -> bool:
    return line.startswith("--")
