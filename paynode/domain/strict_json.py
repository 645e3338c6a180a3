"""JSON from strangers: what `json.loads` would quietly accept, change or choke on is found here.

Two readers that disagree about a duplicate key, a fraction or a lone surrogate disagree about money: what parsers
differ on is wrong, whatever the schema. Values that no member may have are replaced by a `Refused`, which no schema
takes. So they are reported with their place, together with everything else. No detail repeats a text of the stranger's.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final, NoReturn, TypeAlias

# Strings (their brackets do not nest; an unclosed one runs to the end) and brackets. Possessive: it never goes back.
_STRUCTURE: Final = re.compile(r'"(?:[^"\\]|\\.?)*+"?|[\[{]|[\]}]', re.DOTALL)
# Control characters (C0, DEL, C1) and lone surrogates: databases refuse them, terminals and logs obey them.
_FORBIDDEN: Final = re.compile(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff]")
# Digits and sign of the largest 64-bit integer. `int()` of 60,000 digits would be 60,000 digits of work.
_INTEGER_LENGTH_MAX: Final = 20

Place: TypeAlias = tuple[str | int, ...]


class Malformed(Exception):
    """Not JSON at all, or nested too deeply."""


@dataclass(frozen=True, slots=True)
class Refused:
    """Stands where a value stood that nothing may have."""

    detail: str


@dataclass(frozen=True, slots=True)
class Misfit:
    """One thing that is wrong whatever the schema: where, by member names and indexes, and what."""

    place: Place
    detail: str


def read(raw: bytes, *, depth_max: int) -> tuple[object, Iterator[Misfit]]:
    """The value, and what is wrong with it whatever its schema; looked for as far as somebody wants to know.

    Raises: Malformed.
    """
    try:
        text = raw.decode("utf-8")
    except UnicodeDecodeError as error:
        raise Malformed("not UTF-8") from error
    if _is_too_deep(text, depth_max):
        raise Malformed(f"nested more than {depth_max} levels deep")
    try:
        value: object = _DECODER.decode(text)
    except json.JSONDecodeError as error:
        raise Malformed(f"{error.msg} at line {error.lineno}, column {error.colno}") from error
    return value, _misfits(value, ())


def pointer(place: Sequence[str | int]) -> str:
    """RFC 6901. What UTF-8 cannot carry becomes a question mark: a member's name may be anything."""
    text = "".join("/" + str(part).replace("~", "~0").replace("/", "~1") for part in place)
    return text.encode("utf-8", "replace").decode()


def _is_too_deep(text: str, depth_max: int) -> bool:
    """Looked at before the parser, which recurses: 100,000 brackets would overflow its stack."""
    if text.count("[") + text.count("{") <= depth_max:
        return False
    depth = 0
    for match in _STRUCTURE.finditer(text):
        token = match[0]
        if token in ("[", "{"):
            depth += 1
            if depth > depth_max:
                return True
        elif token in ("]", "}"):
            depth -= 1
    return False


def _misfits(value: object, place: Place) -> Iterator[Misfit]:
    match value:
        case Refused():
            yield Misfit(place, value.detail)
        case str() if _FORBIDDEN.search(value):
            yield Misfit(place, "has a control character or a lone surrogate")
        case dict():
            for name, member in value.items():
                if _FORBIDDEN.search(name):
                    yield Misfit((*place, name), "its name has a control character or a lone surrogate")
                yield from _misfits(member, (*place, name))
        case list():
            for index, item in enumerate(value):
                yield from _misfits(item, (*place, index))


def _object(pairs: list[tuple[str, object]]) -> dict[str, object]:
    members = dict(pairs)
    if len(members) < len(pairs):
        seen: set[str] = set()
        for name, _ in pairs:
            if name in seen:
                # Which of the two is meant? Parsers disagree, and an attacker can choose between them.
                members[name] = Refused("stands more than once")
            seen.add(name)
    return members


def _integer(digits: str) -> int | Refused:
    return int(digits) if len(digits) <= _INTEGER_LENGTH_MAX else Refused("is too large")


def _fraction(_: str) -> Refused:
    return Refused("must be an integer, written without fraction and exponent")


def _constant(name: str) -> NoReturn:
    raise json.JSONDecodeError(f"{name} is not JSON", "", 0)


_DECODER: Final = json.JSONDecoder(
    object_pairs_hook=_object, parse_int=_integer, parse_float=_fraction, parse_constant=_constant
)
