"""A form as Stripe reads it, and whether its own description of the request has a place for each field of it."""

from __future__ import annotations

import importlib
import re
import types
import typing
from collections.abc import Iterator, Mapping
from typing import Any, Final
from urllib.parse import parse_qsl

Nested = dict[str, Any]

_PART: Final = re.compile(r"([^\[\]]+)")


def nested(body: bytes) -> Nested:
    """`a[b][0]=c` as `{"a": {"b": {"0": "c"}}}`: lists stay numbered."""
    tree: Nested = {}
    for name, value in parse_qsl(body.decode("ascii"), keep_blank_values=True, strict_parsing=True):
        *above, last = _PART.findall(name)
        place = tree
        for part in above:
            place = place.setdefault(part, {})
        assert last not in place, f"{name} is given twice"
        place[last] = value
    return tree


def misfits(form: Mapping[str, Any], shape: type, where: str = "") -> Iterator[str]:
    """What Stripe's TypedDict of a request has no place for, or not for this value."""
    options = importlib.import_module("stripe._request_options").RequestOptions.__annotations__
    # The package's own options (a key, a version) stand among the fields, and are no part of the form.
    raw = {name: hint for name, hint in shape.__annotations__.items() if name in form and name not in options}
    # Of an object, not of the class: that would want every name of every base.
    hints = typing.get_type_hints(
        types.SimpleNamespace(__annotations__=raw), vars(importlib.import_module(shape.__module__))
    )
    for name, value in form.items():
        path = f"{where}.{name}".lstrip(".")
        if name not in hints:
            yield f"{path} is unknown"
        elif not any(_fits(value, one, path) for one in _choices(hints[name])):
            yield f"{path} may not be {value!r}"


def missing(form: Mapping[str, Any], shape: type) -> set[str]:
    """What must be said and is not."""
    return set(shape.__required_keys__) - set(form)  # type: ignore[attr-defined]


def _choices(hint: Any) -> list[Any]:
    origin = typing.get_origin(hint)
    if origin in (typing.Union, types.UnionType):
        return [one for choice in typing.get_args(hint) for one in _choices(choice)]
    return [hint]


def _fits(value: Any, hint: Any, path: str) -> bool:
    origin, args = typing.get_origin(hint), typing.get_args(hint)
    if origin is typing.Literal:
        return value in args
    if origin is list:
        return isinstance(value, dict) and all(
            index == str(number) and any(_fits(item, one, path) for one in _choices(args[0]))
            for number, (index, item) in enumerate(value.items())
        )
    if origin is dict:
        return isinstance(value, dict) and all(isinstance(item, str) for item in value.values())
    if hasattr(hint, "__required_keys__"):
        return isinstance(value, dict) and not list(misfits(value, hint, path)) and not missing(value, hint)
    if hint is int:
        return isinstance(value, str) and re.fullmatch(r"[0-9]+", value) is not None
    if hint is bool:
        return value in ("true", "false")
    return hint is str and isinstance(value, str)
