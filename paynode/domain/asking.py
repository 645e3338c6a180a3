"""Asking about a payment that is there: what the ingress hands to the database, and what may have become of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

from paynode.domain.accepting import KeyUse, StoredAnswer
from paynode.domain.errors import PaynodeError
from paynode.domain.requesting import Request


@dataclass(frozen=True, slots=True, kw_only=True)
class NewRequest:
    """A request on its way to the payment's actor, and the key that brought it.

    `stream` is that of the merchant's partition. Retries are kept off for `in_flight_s` after the commit, unless
    `answer` is stored at once.
    """

    request: Request
    use: KeyUse
    stream: str
    in_flight_s: float
    answer: StoredAnswer | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """The request is committed."""

    request_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Left:
    """An earlier request with this key is over without a stored answer: adopt what it asked."""

    request_id: str


# None: there is no such payment of this merchant. An error: refused for its key, before anybody decided.
AskVerdict: TypeAlias = Asked | StoredAnswer | Left | PaynodeError | None
