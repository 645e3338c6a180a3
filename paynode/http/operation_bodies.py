"""The bodies of capture, void, cancel and refund. All members are optional, so that there need be no body at all."""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator, Field
from pydantic_core import PydanticCustomError

from paynode.domain.money import AMOUNT_MAX, AMOUNT_MIN
from paynode.http.strict_body import StrictBody

# None, and a member that is not there: all that is left.
_Amount = Annotated[int, Field(ge=AMOUNT_MIN, le=AMOUNT_MAX)]


def _printable(value: str) -> str:
    if not value.isprintable():
        raise PydanticCustomError("paynode", "must be printable")
    return value


class CaptureBody(StrictBody):
    """`final`: no further capture comes, and the rest of the authorization may be let go."""

    amount: _Amount | None = None
    final: bool = False


class RefundBody(StrictBody):
    """`reason` is for the merchant's own books."""

    amount: _Amount | None = None
    reason: Annotated[str, Field(max_length=200), AfterValidator(_printable)] | None = None


class EmptyBody(StrictBody):
    """A void or a cancel: there is nothing to choose."""
