"""Members of a JSON body, each read as what it must be: the gate of the database's rows."""

from __future__ import annotations

import re
from collections.abc import Mapping
from enum import StrEnum
from typing import Final, NoReturn, TypeVar

import orjson

from paynode.domain.errors import Poison
from paynode.domain.money import AMOUNT_MAX, AMOUNT_MIN, Money

_UUID: Final = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.ASCII)
_CURRENCY: Final = re.compile(r"[A-Z]{3}", re.ASCII)
_BIGINT_MAX: Final = 2**63 - 1
# Characters. The longest text that any gate lets in is a URL of 2,000; above this something else was written here.
_TEXT_MAX: Final = 8192

Word = TypeVar("Word", bound=StrEnum)


def refuse(detail: str) -> NoReturn:
    """Nothing can be done with this body. Raises: Poison (`body_invalid`), as all of these do."""
    raise Poison("body_invalid", detail)


def object_of(body: str | bytes, names: frozenset[str]) -> Mapping[str, object]:
    """The members of a body that has exactly these."""
    try:
        fields = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise Poison("body_invalid", f"not JSON: {error}") from error
    if type(fields) is not dict:
        refuse("not an object")
    if fields.keys() != names:
        refuse(f"missing {sorted(names - fields.keys())}, unknown {sorted(fields.keys() - names)[:10]}")
    return fields


def text(fields: Mapping[str, object], name: str) -> str:
    """A text that a row can hold."""
    value = fields[name]
    if type(value) is not str or len(value) > _TEXT_MAX or "\0" in value:
        refuse(f"{name} is not a text of at most {_TEXT_MAX} characters")
    return value


def text_or_none(fields: Mapping[str, object], name: str) -> str | None:
    """A text that a row can hold, or null."""
    return None if fields[name] is None else text(fields, name)


def uuid(fields: Mapping[str, object], name: str) -> str:
    """A UUID in its canonical form."""
    value = text(fields, name)
    if _UUID.fullmatch(value) is None:
        refuse(f"{name} is not a UUID in its canonical form")
    return value


def uuid_or_none(fields: Mapping[str, object], name: str) -> str | None:
    """A UUID in its canonical form, or null."""
    return None if fields[name] is None else uuid(fields, name)


def flag(fields: Mapping[str, object], name: str) -> bool:
    """True or false."""
    value = fields[name]
    if type(value) is not bool:
        refuse(f"{name} is not true or false")
    return value


def integer_or_none(fields: Mapping[str, object], name: str) -> int | None:
    """An integer of 64 bits, or null."""
    value = fields[name]
    if value is None:
        return None
    # `type(...) is int`: True is an int to isinstance, and would be stored as 1.
    if type(value) is not int or abs(value) > _BIGINT_MAX:
        refuse(f"{name} is not an integer of 64 bits")
    return value


def integer(fields: Mapping[str, object], name: str) -> int:
    """An integer of 64 bits."""
    value = integer_or_none(fields, name)
    if value is None:
        refuse(f"{name} is missing")
    return value


def currency(fields: Mapping[str, object]) -> str:
    """Three capital letters."""
    value = text(fields, "currency")
    if _CURRENCY.fullmatch(value) is None:
        refuse("currency is not three capital letters")
    return value


def money(fields: Mapping[str, object]) -> Money:
    """`amount`, within the bounds of a payment's, and `currency`."""
    amount = integer_or_none(fields, "amount")
    if amount is None or not AMOUNT_MIN <= amount <= AMOUNT_MAX:
        refuse("amount is out of bounds")
    return Money(amount=amount, currency=currency(fields))


def word(fields: Mapping[str, object], name: str, kind: type[Word]) -> Word:
    """A word of a vocabulary."""
    value = text(fields, name)
    try:
        return kind(value)
    except ValueError as error:
        raise Poison("body_invalid", f"{name} is no {kind.__name__}: {value[:40]!r}") from error
