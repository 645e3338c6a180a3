"""What is said to a PSP and what it said: the vocabulary that the gateway and every adapter share."""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from paynode.domain.record import record

# What a row can hold and its reader takes: characters of a text, and an integer of 64 bits.
_TEXT_MAX: Final = 8192
_INTEGER_MAX: Final = 2**63 - 1
_NOT_TEXT: Final = re.compile(r"[\x00\ud800-\udfff]")


class Outcome(StrEnum):
    """What became of one try of an operation at a PSP. `UNKNOWN` is not a failure: bytes may have left."""

    APPROVED = "approved"
    DECLINED = "declined"
    PENDING = "pending"  # a payment page is open and waits for the customer
    EXPIRED = "expired"  # the page closed without a charge, or an authorization lapsed, and the PSP says so
    ABSENT = "absent"  # asked after the settle window, the PSP knows of nothing: no proof, so nowhere else either
    REVERSED = "reversed"  # what was approved has been taken back by the PSP
    HELD = "held"  # not sent, and not to be before somebody has looked at it
    NOT_SENT = "not_sent"  # proof that nothing left: may be tried again, or elsewhere
    UNKNOWN = "unknown"


@record
class PspRequest:
    """The bytes of one operation, made once and stored before the first of them leaves.

    `idempotency_key` is the operation's id, so that a second sending of the same bytes is recognised.
    """

    path: str
    body: bytes
    idempotency_key: str


@record
class Answer:
    """An outcome with what the PSP claims about it.

    `amount` is in minor units; `psp_at_ms` is the PSP's own time in milliseconds since 1970; `reason` is a
    stable word (`insufficient_funds`, `timeout`, `http_503`, `connection_refused`, ...) for people and metrics.
    `is_psp_failure` says whether the breaker counts it: a decline never does. `fraud_check` is what was found before it
    was sent, None: nobody looked.
    """

    outcome: Outcome
    reference: str | None = None
    amount: int | None = None
    currency: str | None = None
    page_url: str | None = None
    reason: str = ""
    psp_at_ms: int | None = None
    fraud_check: str | None = None
    is_psp_failure: bool = False

    @property
    def is_storable(self) -> bool:
        """Whether a row can hold it. One that none can was not understood, whatever the adapter says."""
        texts = (self.reference, self.currency, self.page_url, self.reason)
        numbers = (self.amount, self.psp_at_ms)
        return _are_texts(*texts) and all(number is None or abs(number) <= _INTEGER_MAX for number in numbers)


@dataclass(frozen=True, slots=True, kw_only=True)
class Callback:
    """A verified callback: the PSP's own event id, our reference (the operation's id as text), the claim.

    `kinds`: the kinds of operation (words of OperationKind) that such an event can be about: of any other it is no
    evidence, or a refund that names a sale would capture it.
    """

    event_id: str
    our_reference: str
    answer: Answer
    kinds: frozenset[str]

    @property
    def is_storable(self) -> bool:
        """Whether a row can hold it."""
        return self.answer.is_storable and _are_texts(self.event_id, self.our_reference)


@dataclass(frozen=True, slots=True, kw_only=True)
class Capabilities:
    """What a PSP can do, as its adapter declares it. What is not declared is not asked for.

    `idempotent_for_s`: seconds within which the PSP recognises a key; 0: the stored bytes are never sent again.
    `settle_s`: seconds after the last sending before "not found" counts. `is_callback_binding`: a callback's signature
    covers operation, amount and currency; else what it claims is confirmed by an inquiry. `currencies`: None is all.
    `has_report`: its settlements can be asked for.
    """

    has_page: bool
    has_token: bool
    can_authorize: bool
    can_capture_partially: bool
    can_capture_repeatedly: bool
    can_refund_partially: bool
    can_cancel_page: bool
    is_callback_binding: bool
    idempotent_for_s: float
    settle_s: float
    currencies: frozenset[str] | None = None
    has_report: bool = True


class SettlementKind(StrEnum):
    """What a line of a settlement report is about."""

    CHARGE = "charge"
    REFUND = "refund"
    REVERSAL = "reversal"
    FEE = "fee"


@dataclass(frozen=True, slots=True, kw_only=True)
class SettlementLine:
    """One line of a PSP's report; amounts in minor units, positive; `our_reference` where the PSP keeps it."""

    kind: SettlementKind
    reference: str
    our_reference: str | None
    amount: int
    currency: str
    at_ms: int


def _are_texts(*texts: str | None) -> bool:
    return all(text is None or (len(text) <= _TEXT_MAX and not _NOT_TEXT.search(text)) for text in texts)
