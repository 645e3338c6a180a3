"""The Prefer header (RFC 7240): what the client would like; whatever is not understood is passed over."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

# Commas inside quotes do not part preferences. Possessive, and the closing quote optional: no input makes it go back.
_PIECE: Final = re.compile(r'(?:[^",]|"(?:[^"\\]|\\.?)*+"?)++', re.DOTALL)
_WAIT: Final = re.compile(r"[0-9]{1,2}", re.ASCII)
_WAIT_MAX_S: Final = 30


@dataclass(frozen=True, slots=True, kw_only=True)
class Preference:
    """`wait_s`: wait so long for the final status. `is_async`: do not wait (longer than that) for anything."""

    wait_s: int | None = None
    is_async: bool = False


def parse(headers: Sequence[str]) -> Preference:
    """The preferences of a request; of one that stands twice the first counts."""
    found: dict[str, str] = {}
    for header in headers:
        for piece in _PIECE.findall(header):
            name, _, value = piece.partition(";")[0].partition("=")
            found.setdefault(name.strip(" \t").lower(), value.strip(" \t").removeprefix('"').removesuffix('"'))
    return Preference(wait_s=_seconds(found.get("wait", "")), is_async="respond-async" in found)


def _seconds(value: str) -> int | None:
    if _WAIT.fullmatch(value) is None:
        return None
    seconds = int(value)
    return seconds if 1 <= seconds <= _WAIT_MAX_S else None
