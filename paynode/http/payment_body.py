"""The body of `POST /v1/payments`: one of the three gates where something is validated."""

from __future__ import annotations

import re
from typing import Annotated, Final, Literal
from urllib.parse import urlsplit

from iso4217 import Currency
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StringConstraints, ValidationError
from pydantic_core import ErrorDetails, PydanticCustomError

from paynode.domain.money import AMOUNT_MAX, AMOUNT_MIN
from paynode.http import json_gate
from paynode.http.problem import Flaw, Problem

# Metals, funds and the codes for tests have no minor unit; nobody is paid in them.
_CURRENCIES: Final = frozenset(currency.code for currency in Currency if currency.exponent is not None)
_URL_CHARACTERS: Final = re.compile(r"[A-Za-z0-9\-._~:/?#\[\]@!$&'()*+,;=%]+", re.ASCII)
_TOKEN_CHARACTERS: Final = re.compile(r"[\x21-\x7e]+", re.ASCII)
_CARD_NUMBER: Final = re.compile(r"[0-9]{12,19}", re.ASCII)
_EMAIL: Final = re.compile(r"[^@\s]+@[^@\s]+")


def _refuse(detail: str) -> PydanticCustomError:
    # The text stands as it is: no value goes into it.
    return PydanticCustomError("paynode", detail)


def _order_id(value: str) -> str:
    if not value.isprintable():
        raise _refuse("must be printable")
    return value


def _currency(value: str) -> str:
    if value not in _CURRENCIES:
        raise _refuse("must be an ISO 4217 code in capitals")
    return value


def _token(value: str) -> str:
    if _TOKEN_CHARACTERS.fullmatch(value) is None:
        raise _refuse("must be ASCII without blanks")
    if _CARD_NUMBER.fullmatch(value) is not None:
        raise _refuse("looks like a card number: never send one, only a token for it")
    return value


def _email(value: str) -> str:
    if _EMAIL.fullmatch(value) is None:
        raise _refuse("must be an e-mail address")
    return value


def _return_url(value: str) -> str:
    refusal = _refuse("must be an absolute http(s) URL without credentials")
    if _URL_CHARACTERS.fullmatch(value) is None:
        raise refusal
    try:
        parts = urlsplit(value)
        port = parts.port
    except ValueError as error:
        raise refusal from error
    if parts.scheme not in ("http", "https") or not parts.hostname or "@" in parts.netloc or port == 0:
        raise refusal
    return value


class _Body(BaseModel):
    """Strict: a numeral is no number, 1 is not true. An unknown member is refused: it may be a misspelt one."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)


class HostedPageBody(_Body):
    """The customer pays on the PSP's page."""

    type: Literal["hosted_page"]
    return_url: Annotated[str, Field(min_length=1, max_length=2000), AfterValidator(_return_url)]


class TokenBody(_Body):
    """The shop has a token for the customer's card."""

    type: Literal["token"]
    token: Annotated[str, Field(min_length=1, max_length=255), AfterValidator(_token)]


class CustomerBody(_Body):
    """Who pays, as far as the merchant tells."""

    email: Annotated[str, Field(max_length=254), AfterValidator(_email)] | None = None
    name: Annotated[str, Field(min_length=1, max_length=200)] | None = None
    reference: Annotated[str, Field(min_length=1, max_length=200)] | None = None


_MetadataKey = Annotated[str, StringConstraints(min_length=1, max_length=40)]
_MetadataValue = Annotated[str, StringConstraints(max_length=500)]


class PaymentBody(_Body):
    """What a merchant asks."""

    order_id: Annotated[str, Field(min_length=1, max_length=64), AfterValidator(_order_id)]
    amount: Annotated[int, Field(ge=AMOUNT_MIN, le=AMOUNT_MAX)]
    currency: Annotated[str, AfterValidator(_currency)]
    capture: Literal["automatic", "manual"] = "automatic"
    method: Annotated[HostedPageBody | TokenBody, Field(discriminator="type")]
    on_timeout: Literal["reverse"] | None = None
    customer: CustomerBody | None = None
    description: Annotated[str, Field(max_length=500)] | None = None
    metadata: Annotated[dict[_MetadataKey, _MetadataValue], Field(max_length=20)] = Field(default_factory=dict)


def read_payment(raw: bytes, *, depth_max: int) -> tuple[PaymentBody, object]:
    """What is asked, and the parsed JSON it was asked with (for its fingerprint).

    Raises: Problem, with all flaws.
    """
    try:
        value, flaws = json_gate.parse(raw, depth_max=depth_max)
    except json_gate.Malformed as error:
        raise Problem(status=400, code="body_malformed", detail=f"the body is not acceptable JSON: {error}") from error
    try:
        body = PaymentBody.model_validate(value)
    except ValidationError as error:
        found = error.errors(include_url=False, include_context=True, include_input=False)
        raise _invalid([*flaws, *_beyond(flaws, found)]) from error
    if flaws:
        raise _invalid(flaws)
    _refuse_unsupported(body)
    return body, value


def _invalid(flaws: list[Flaw]) -> Problem:
    detail = f"{len(flaws)} of the body's members cannot be accepted" if len(flaws) > 1 else "the body has a flaw"
    return Problem(status=400, code="body_invalid", detail=detail, errors=flaws)


def _refuse_unsupported(body: PaymentBody) -> None:
    flaws = []
    if body.capture == "manual":
        flaws.append(Flaw(detail="only automatic capture is there yet", pointer="/capture"))
    if body.on_timeout is not None:
        flaws.append(Flaw(detail="is not there yet", pointer="/on_timeout"))
    if flaws:
        raise Problem(status=400, code="not_supported_yet", detail="valid, but this version cannot do it", errors=flaws)


# pydantic's kinds of error, in our words: theirs speak of Python, and some quote the value.
_SAYS: Final = {
    "missing": "is required",
    "extra_forbidden": "is not known",
    "string_type": "must be a string",
    "int_type": "must be an integer",
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
