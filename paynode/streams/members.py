"""Members of a JSON object from a stranger, taken one by one. No message repeats a text of the object's."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

import orjson

from paynode.domain.strict_json import Malformed, Misfit, pointer, read

_TEXT_MAX: Final = 500
# A place that may be told: members of such names are ours, or harmless where a detail is shown.
_TELLABLE: Final = re.compile(r"(?:/(?:[a-z_]{1,30}|\d{1,3})){1,4}", re.ASCII)

# What may stand in an object that is read the short way, and in what stands in it.
_PLAIN: Final = frozenset({str, int})
_PLAIN_OR_OBJECT: Final = _PLAIN | {dict}


class NotStrict(Exception):
    """Not what it must be; the message says what is wrong."""


def read_object(raw: bytes, *, depth_max: int) -> Mapping[str, object]:
    """The object in these bytes, if nothing is wrong with it whatever its schema.

    Raises: NotStrict.
    """
    if (plain := _read_plain(raw)) is not None:
        return plain
    try:
        value, misfits = read(raw, depth_max=depth_max)
    except Malformed as error:
        raise NotStrict(f"not acceptable JSON: {error}") from error
    first = next(misfits, None)
    if first is not None:
        raise NotStrict(f"{_where(first)} {first.detail}")
    if not isinstance(value, dict):
        raise NotStrict("not an object")
    return value


def _read_plain(raw: bytes) -> dict[str, object] | None:
    """The same of an object as publishers write it, in a sixth of the time; None for what must be looked at closely.

    Plain is an object of texts, integers and such objects, with printable characters and no escape in it. Then its
    quotes count its texts: of a member that stands twice the parser keeps one, and quotes are left over.
    """
    try:
        text = raw.decode()
        value = orjson.loads(raw) if text.isprintable() and "\\" not in text else None
    except ValueError:
        return None
    if type(value) is not dict:
        return None
    texts = 0
    for one in (value, *[member for member in value.values() if type(member) is dict]):
        types = [*map(type, one.values())]
        if not (_PLAIN if one is not value else _PLAIN_OR_OBJECT).issuperset(types):
            return None
        texts += len(one) + types.count(str)
    return value if raw.count(b'"') == 2 * texts else None


def _where(misfit: Misfit) -> str:
    place = pointer(misfit.place)
    return place if _TELLABLE.fullmatch(place) else "a member"


def only(fields: Mapping[str, object], *, required: frozenset[str], optional: frozenset[str] = frozenset()) -> None:
    """Refuse a missing member, and one that we do not know: it might have meant something."""
    if fields.keys() == required:
        return
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
