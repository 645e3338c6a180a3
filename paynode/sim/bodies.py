"""The bodies of requests, read strictly."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from typing import Annotated, Final, Literal, TypeVar

import orjson
from aiohttp import web
from iso4217 import Currency
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from paynode.sim.records import Kind
from paynode.sim.refusals import Refusal, what_is_wrong

_Reference = Annotated[str, Field(pattern=r"^[A-Za-z0-9_.:-]{1,64}$")]
_Id = Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]{1,100}$")]
_Url = Annotated[str, Field(pattern=r"^https?://[\x21-\x7e]{1,2000}$")]
_KEY: Final = re.compile(r"[\x21-\x7e]{1,255}")


class Body(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    reference: _Reference
    amount: Annotated[int, Field(ge=1, le=10**12)]
    currency: Annotated[str, Field(pattern=r"^[A-Z]{3}$")]


class _NewCharge(Body):
    description: Annotated[str, Field(max_length=500)] = ""
    capture: Literal["automatic", "manual"] = "automatic"

    @property
    def kind(self) -> Kind:
        return Kind.SALE if self.capture == "automatic" else Kind.AUTHORIZE


class ChargeBody(_NewCharge):
    token: Annotated[str, Field(max_length=100)]


class SessionBody(_NewCharge):
    return_url: _Url


class AboutBody(Body):
    """About a charge: `of` is the caller's name of it, `charge` the PSP's, which may be left out."""

    of: _Reference
    charge: _Id | None = None


class CaptureBody(AboutBody):
    final: bool = False


AnyBody = TypeVar("AnyBody", bound=Body)


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """What a caller asks for, with the key and the hash that recognise a repetition."""

    kind: Kind
    reference: str
    amount: int
    currency: str
    idempotency_key: str
    request_hash: str


async def read(request: web.Request, model: type[AnyBody]) -> tuple[AnyBody, str]:
    """The body and the Idempotency-Key. Raises: Refusal."""
    keys = request.headers.getall("Idempotency-Key", [])
    if len(keys) != 1 or not _KEY.fullmatch(keys[0]):
        raise Refusal(400, "idempotency_key_missing", "send one Idempotency-Key of 1 to 255 visible characters")
    try:
        body = model.model_validate_json(await request.read())
    except ValidationError as error:
        raise Refusal(400, "body_invalid", what_is_wrong(error)) from error
    if not _is_chargeable(body.currency):
        raise Refusal(400, "currency_unknown", "not a currency of ISO 4217 that has minor units")
    return body, keys[0]


def order_of(path: str, body: Body, kind: Kind, idempotency_key: str) -> Order:
    """An order with the hash of its request."""
    canonical = path.encode() + orjson.dumps(body.model_dump(), option=orjson.OPT_SORT_KEYS)
    return Order(
        kind=kind,
        reference=body.reference,
        amount=body.amount,
        currency=body.currency,
        idempotency_key=idempotency_key,
        request_hash=hashlib.sha256(canonical).hexdigest(),
    )


def _is_chargeable(currency: str) -> bool:
    try:
        return Currency(currency).exponent is not None
    except ValueError:
        return False
