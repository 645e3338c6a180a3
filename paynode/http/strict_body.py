"""Bodies of requests as typed objects, with everything that is wrong with them said at once."""

from __future__ import annotations

from typing import Final, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError
from pydantic_core import ErrorDetails

from paynode.http import json_gate
from paynode.http.problem import Flaw, Problem


class StrictBody(BaseModel):
    """Strict: a numeral is no number, 1 is not true. An unknown member is refused: it may be a misspelt one."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)


Body = TypeVar("Body", bound=StrictBody)


def read_as(kind: type[Body], raw: bytes, *, depth_max: int) -> tuple[Body, object]:
    """The body, and the parsed JSON that it came as (for its fingerprint).

    Raises: Problem, with all flaws.
    """
    try:
        value, flaws = json_gate.parse(raw, depth_max=depth_max)
    except json_gate.Malformed as error:
        raise Problem(status=400, code="body_malformed", detail=f"the body is not acceptable JSON: {error}") from error
    try:
        body = kind.model_validate(value)
    except ValidationError as error:
        found = error.errors(include_url=False, include_context=True, include_input=False)
        raise _invalid([*flaws, *_beyond(flaws, found)]) from error
    if flaws:
        raise _invalid(flaws)
    return body, value


def _invalid(flaws: list[Flaw]) -> Problem:
    detail = f"{len(flaws)} of the body's members cannot be accepted" if len(flaws) > 1 else "the body has a flaw"
    return Problem(status=400, code="body_invalid", detail=detail, errors=flaws)


# pydantic's kinds of error, in our words: theirs speak of Python, and some quote the value.
_SAYS: Final = {
    "missing": "is required",
    "extra_forbidden": "is not known",
    "string_type": "must be a string",
    "int_type": "must be an integer",
    "bool_type": "must be true or false",
    "dict_type": "must be an object",
    "model_type": "must be an object",
    "model_attributes_type": "must be an object",
    "string_too_short": "must have at least {min_length} characters",
    "string_too_long": "must have at most {max_length} characters",
    "too_long": "must have at most {max_length} pairs",
    "greater_than_equal": "must be at least {ge}",
    "less_than_equal": "must be at most {le}",
    "literal_error": "must be {expected}",
    "union_tag_not_found": "is required",
    "union_tag_invalid": "must be one of {expected_tags}",
}


def _beyond(known: list[Flaw], found: list[ErrorDetails]) -> list[Flaw]:
    """The schema's flaws, but for places that have one already."""
    places = {flaw.pointer for flaw in known}
    flaws = [_flaw(error) for error in found]
    return [flaw for flaw in flaws if flaw.pointer not in places]


def _flaw(error: ErrorDetails) -> Flaw:
    says = _SAYS.get(error["type"])
    detail = error["msg"] if says is None else says.format_map(error.get("ctx", {}))
    return Flaw(detail=detail, pointer=json_gate.pointer(_place(error)))


def _place(error: ErrorDetails) -> list[str | int]:
    """pydantic's path says more than the body's: the kind of method chosen, and that a key and no value is wrong."""
    place = list(error["loc"])
    if error["type"].startswith("union_tag"):
        return [*place, "type"]
    if place[:1] == ["method"] and place[1:2] in (["hosted_page"], ["token"]):
        del place[1]
    if place[:1] == ["metadata"] and place[2:] == ["[key]"]:
        del place[2]
    return place
