"""Members of a JSON object from a stranger, taken one by one. No message repeats a text of the object's."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

from paynode.domain.strict_json import Malformed, Misfit, pointer, read

_TEXT_MAX: Final = 500
# A place that may be told: members of such names are ours, or harmless where a detail is shown.
_TELLABLE: Final = re.compile(r"(?:/(?:[a-z_]{1,30}|\d{1,3})){1,4}", re.ASCII)


class NotStrict(Exception):
    """Not what it must be; the message says what is wrong."""


def read_object(raw: bytes, *, depth_max: int) -> Mapping[str, object]:
    """The object in these bytes, if nothing is wrong with it whatever its schema.

    Raises: NotStrict.
    """
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


def _where(misfit: Misfit) -> str:
    place = pointer(misfit.place)
    return place if _TELLABLE.fullmatch(place) else "a member"


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
