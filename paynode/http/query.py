"""Query parameters of lists: all known, each once, each checked; and the opaque cursor."""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Final, TypeVar

from aiohttp import web

from paynode.domain import ids
from paynode.domain.payment import Status
from paynode.http.problem import Flaw, Problem

_LIMIT: Final = re.compile(r"[0-9]{1,3}", re.ASCII)
_LIMIT_DEFAULT: Final = 20
_LIMIT_MAX: Final = 100
_INSTANT: Final = re.compile(
    r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}(\.[0-9]{1,6})?(Z|[+-][0-9]{2}:[0-9]{2})", re.ASCII
)
_CURSOR: Final = re.compile(r"[A-Za-z0-9_-]{1,60}", re.ASCII)
_UUID: Final = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.ASCII)
_NUMBER: Final = re.compile(r"[0-9]{1,18}", re.ASCII)

Value = TypeVar("Value")
Reader = Callable[[str], object]


class Unreadable(Exception):
    """A parameter's value is not of its kind; the text says what it must be."""


def read_query(request: web.Request, readers: Mapping[str, Reader]) -> dict[str, object]:
    """The parameters that are there, read.

    Raises: Problem, with all flaws. An unknown parameter is one: a misspelt filter must not list everything.
    """
    values: dict[str, object] = {}
    flaws: list[Flaw] = []
    for name in dict.fromkeys(request.query):
        given = request.query.getall(name)
        try:
            values[name] = _read(readers, name, given)
        except Unreadable as error:
            flaws.append(Flaw(detail=str(error), parameter=name.encode("utf-8", "replace").decode()))
    if flaws:
        raise Problem(status=400, code="query_invalid", detail="the query cannot be accepted", errors=flaws)
    return values


def _read(readers: Mapping[str, Reader], name: str, given: list[str]) -> object:
    if name not in readers:
        raise Unreadable("is not known")
    if len(given) > 1:
        raise Unreadable("stands more than once")
    return readers[name](given[0])


def get(values: Mapping[str, object], name: str, kind: type[Value]) -> Value | None:
    """The value of a parameter, as its reader made it."""
    value = values.get(name)
    assert value is None or isinstance(value, kind)
    return value


def limit_of(values: Mapping[str, object]) -> int:
    """How many items a page has."""
    return get(values, "limit", int) or _LIMIT_DEFAULT


def limit(text: str) -> int:
    """Reads the number of items of a page."""
    value = int(text) if _LIMIT.fullmatch(text) is not None else 0
    if not 1 <= value <= _LIMIT_MAX:
        raise Unreadable(f"must be a whole number from 1 to {_LIMIT_MAX}")
    return value


def order_id(text: str) -> str:
    """Reads an order id; one that no payment can have finds nothing, so it is refused."""
    if not 1 <= len(text) <= 64 or not text.isprintable():
        raise Unreadable("must have 1 to 64 printable characters")
    return text


def status(text: str) -> Status:
    """Reads the status of a payment."""
    try:
        return Status(text)
    except ValueError as error:
        raise Unreadable(f"must be one of {', '.join(Status)}") from error


def payment_id(text: str) -> str:
    """Reads the public id of a payment; gives its UUID."""
    uuid = ids.parse(ids.PAYMENT, text)
    if uuid is None:
        raise Unreadable("must be the id of a payment: pay_…")
    return uuid


def moment(text: str) -> datetime:
    """Reads an RFC 3339 date-time."""
    try:
        if _INSTANT.fullmatch(text) is not None:
            return datetime.fromisoformat(text).astimezone(UTC)
    except (ValueError, OverflowError):
        pass  # the 30th of February; the first hour of the year 1, east of Greenwich
    raise Unreadable("must be an RFC 3339 date-time with its offset")


def cursor_of(kind: str, position: str) -> str:
    """A cursor: opaque to clients, and of one kind of list only."""
    return base64.urlsafe_b64encode(f"{kind}:{position}".encode()).decode().rstrip("=")


def id_cursor(kind: str) -> Reader:
    """Reads a cursor whose position is an id."""
    return lambda text: _position(kind, text, _UUID)


def number_cursor(kind: str) -> Reader:
    """Reads a cursor whose position is a number."""
    return lambda text: int(_position(kind, text, _NUMBER))


def _position(kind: str, text: str, form: re.Pattern[str]) -> str:
    refusal = Unreadable("must be the next_cursor of a page of this list")
    if _CURSOR.fullmatch(text) is None:
        raise refusal
    try:
        found, _, position = base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)).decode("ascii").partition(":")
    except (binascii.Error, UnicodeDecodeError) as error:
        raise refusal from error
    if found != kind or form.fullmatch(position) is None:
        raise refusal
    return position
