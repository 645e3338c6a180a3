"""JSON objects from strangers, read strictly.

Two readers that disagree about a duplicate key, a fraction or a lone surrogate disagree about money: what parsers
differ on is refused. No message repeats a text of the object's.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Final, NoReturn

# Control characters (C0, DEL, C1) and lone surrogates: databases refuse them, terminals and logs obey them.
_FORBIDDEN: Final = re.compile(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff]")
# Digits and sign of the largest 64-bit integer. `int()` of 60,000 digits would be 60,000 digits of work.
_INTEGER_LENGTH_MAX: Final = 20
_TEXT_MAX: Final = 500


class NotStrict(Exception):
    """Not what it must be; the message says what is wrong."""


def read_object(raw: bytes, *, depth_max: int) -> Mapping[str, object]:
    """The object in these bytes.

    Raises: NotStrict.
    """
    try:
        value: object = _DECODER.decode(raw.decode("utf-8"))
    except UnicodeDecodeError as error:
        raise NotStrict("not UTF-8") from error
    except json.JSONDecodeError as error:
        raise NotStrict(f"not JSON: {error.msg} at character {error.pos}") from error
    except RecursionError as error:  # the parser's own bound, some hundreds of levels
        raise NotStrict("nested too deeply") from error
    if not isinstance(value, dict):
        raise NotStrict("not an object")
    _look_through(value, depth_max)
    return value


def only(fields: Mapping[str, object], *, required: frozenset[str], optional: frozenset[str] = frozenset()) -> None:
    """Refuse a missing member, and one that we do not know: it might have meant something."""
    missing = required - fields.keys()
    if missing:
        raise NotStrict(f"missing {', '.join(sorted(missing))}")
    unknown = len(fields.keys() - required - optional)
    if unknown:
        raise NotStrict(f"{unknown} unknown beside {', '.join(sorted(required | optional))}")


def text(fields: Mapping[str, object], name: str) -> str:
    """A member that must be a text of a bounded length."""
    value = fields[name]
    if not isinstance(value, str) or len(value) > _TEXT_MAX:
        raise NotStrict(f"{name} is not a text of at most {_TEXT_MAX} characters")
    return value


def matching(fields: Mapping[str, object], name: str, pattern: re.Pattern[str]) -> str:
    """A member that must be a text of this form, from beginning to end."""
    value = text(fields, name)
    if pattern.fullmatch(value) is None:
        raise NotStrict(f"{name} is not of the form {pattern.pattern}")
    return value


def matching_or_none(fields: Mapping[str, object], name: str, pattern: re.Pattern[str]) -> str | None:
    """The same for a member that may be left out; null is not leaving out."""
    return matching(fields, name, pattern) if name in fields else None


def integer(fields: Mapping[str, object], name: str, *, least: int, most: int) -> int:
    """A member that must be an integer within bounds."""
    value = fields[name]
    # `type(...) is int`: True is an int to isinstance.
    if type(value) is not int or not least <= value <= most:
        raise NotStrict(f"{name} is not an integer from {least} to {most}")
    return value


def _look_through(value: object, levels: int) -> None:
    if isinstance(value, str) and _FORBIDDEN.search(value):
        raise NotStrict("a text has a control character or a lone surrogate")
    if not isinstance(value, dict | list):
        return
    if levels == 0:
        raise NotStrict("nested too deeply")
    parts = [*value.keys(), *value.values()] if isinstance(value, dict) else value
    for part in parts:
        _look_through(part, levels - 1)


def _object(pairs: list[tuple[str, object]]) -> dict[str, object]:
    members = dict(pairs)
    if len(members) < len(pairs):
        raise NotStrict("a member stands more than once")
    return members


def _integer(digits: str) -> int:
    if len(digits) > _INTEGER_LENGTH_MAX:
        raise NotStrict("an integer is too large")
    return int(digits)


def _fraction(_: str) -> NoReturn:
    raise NotStrict("a number has a fraction or an exponent")


def _constant(name: str) -> NoReturn:
    raise NotStrict(f"{name} is not JSON")


_DECODER: Final = json.JSONDecoder(
    object_pairs_hook=_object, parse_int=_integer, parse_float=_fraction, parse_constant=_constant
)
