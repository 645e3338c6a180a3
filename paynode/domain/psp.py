"""What is said to a PSP and what it said: the vocabulary that the gateway and every adapter share."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Outcome(StrEnum):
    """What became of one try of an operation at a PSP. `UNKNOWN` is not a failure: bytes may have left."""

    APPROVED = "approved"
    DECLINED = "declined"
    PENDING = "pending"  # a payment page is open and waits for the customer
    EXPIRED = "expired"  # the page closed without a charge, and the PSP says so
    NOT_SENT = "not_sent"  # proof that nothing left: may be tried again, or elsewhere
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True, kw_only=True)
class PspRequest:
    """The bytes of one operation, made once and stored before the first of them leaves.

    `idempotency_key` is the operation's id, so that a second sending of the same bytes is recognised.
    """

    path: str
    body: bytes
    idempotency_key: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """An outcome with what the PSP claims about it.

    `amount` is in minor units; `psp_at_ms` is the PSP's own time in milliseconds since 1970; `reason` is a
    stable word (`insufficient_funds`, `timeout`, `http_503`, `connection_refused`, ...) for people and metrics.
    `is_psp_failure` says whether the breaker counts it: a decline never does.
    """

    outcome: Outcome
    reference: str | None = None
    amount: int | None = None
    currency: str | None = None
    page_url: str | None = None
    reason: str = ""
    psp_at_ms: int | None = None
    is_psp_failure: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Callback:
    """A verified callback: the PSP's own event id, our reference (the operation's id as text), the claim."""

    event_id: str
    our_reference: str
    answer: Answer
