"""The body of `POST /v1/payments`: one of the three gates where something is validated."""

from __future__ import annotations

import re
from typing import Annotated, Final, Literal
from urllib.parse import urlsplit

from iso4217 import Currency
from pydantic import AfterValidator, Field, StringConstraints
from pydantic_core import PydanticCustomError

from paynode.domain.money import AMOUNT_MAX, AMOUNT_MIN
from paynode.http.strict_body import StrictBody, read_as

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


class HostedPageBody(StrictBody):
    """The customer pays on the PSP's page."""

    type: Literal["hosted_page"]
    return_url: Annotated[str, Field(min_length=1, max_length=2000), AfterValidator(_return_url)]


class TokenBody(StrictBody):
    """The shop has a token for the customer's card."""

    type: Literal["token"]
    token: Annotated[str, Field(min_length=1, max_length=255), AfterValidator(_token)]


class CustomerBody(StrictBody):
    """Who pays, as far as the merchant tells."""

    email: Annotated[str, Field(max_length=254), AfterValidator(_email)] | None = None
    name: Annotated[str, Field(min_length=1, max_length=200)] | None = None
    reference: Annotated[str, Field(min_length=1, max_length=200)] | None = None


_MetadataKey = Annotated[str, StringConstraints(min_length=1, max_length=40)]
_MetadataValue = Annotated[str, StringConstraints(max_length=500)]


class PaymentBody(StrictBody):
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
    return read_as(PaymentBody, raw, depth_max=depth_max)
