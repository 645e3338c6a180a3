"""How much of an entry nobody can read is kept: enough to see what it was, and all that may be requeued."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

# Characters of one value, and of all fields together. An event of the largest size is kept whole with its signature;
# whoever puts a megabyte on a stream does not get it into the database.
_VALUE_MAX: Final = 64 * 1024
_FIELDS_MAX: Final = 2 * _VALUE_MAX
_NAME_MAX: Final = 100
# An outside event and its signature come first: they are the last to be left out.
_FIRST: Final = ("event", "sig")


def kept(fields: Mapping[str, str]) -> Mapping[str, str]:
    """The fields as they are when they are small; else of each its beginning and its size, and how many more came."""
    if sum(map(len, fields)) + sum(map(len, fields.values())) <= _VALUE_MAX:
        return fields
    names = [*(name for name in _FIRST if name in fields), *(name for name in fields if name not in _FIRST)]
    room, found = _FIELDS_MAX, dict[str, str]()
    for number, name in enumerate(names):
        short, value = _cut(name, _NAME_MAX), _cut(fields[name], _VALUE_MAX)
        room -= len(short) + len(value)
        if room < 0:
            found["…"] = f"{len(names) - number} more fields"
            break
        found[short] = value
    return found


def _cut(text: str, most: int) -> str:
    return text if len(text) <= most else f"{text[:most]}… ({len(text)} characters)"
