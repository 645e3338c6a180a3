"""A payment, its operations and the facts about them.

What a payment *is* follows from its terms and the set of facts alone (`folding.py`): nothing here remembers in
which order they came.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from paynode.domain.money import Money
from paynode.domain.psp import Outcome


class Status(StrEnum):
    """The status of a payment, as merchants see it."""

    CREATED = "created"
    REQUIRES_ACTION = "requires_action"
    PROCESSING = "processing"
    UNKNOWN = "unknown"
    REVIEW = "review"
    DECLINED = "declined"
    AUTHORIZED = "authorized"
    PARTIALLY_CAPTURED = "partially_captured"
    CAPTURED = "captured"
    VOIDED = "voided"
    CANCELED = "canceled"
    EXPIRED = "expired"
    FAILED = "failed"


FINAL: Final = frozenset(
    {Status.DECLINED, Status.CAPTURED, Status.VOIDED, Status.CANCELED, Status.EXPIRED, Status.FAILED}
)

# An order may be paid again after these; `captured` keeps the slot, and so does whatever is still open or in doubt.
FREES_ORDER: Final = frozenset({Status.DECLINED, Status.VOIDED, Status.CANCELED, Status.EXPIRED, Status.FAILED})


class OperationKind(StrEnum):
    """What is asked of a PSP. A sale authorizes and captures at once."""

    SALE = "sale"


class OperationState(StrEnum):
    """What is known of an operation. `sending` is not a state: it is an attempt without an outcome."""

    NEW = "new"
    PENDING = "pending"
    UNKNOWN = "unknown"
    APPROVED = "approved"
    DECLINED = "declined"
    EXPIRED = "expired"
    FAILED = "failed"


class Method(StrEnum):
    """How the customer pays."""

    HOSTED_PAGE = "hosted_page"
    TOKEN = "token"  # noqa: S105 - the name of a method, not a secret


class Source(StrEnum):
    """Who told us."""

    ANSWER = "answer"
    CALLBACK = "callback"
    INQUIRY = "inquiry"


@dataclass(frozen=True, slots=True, kw_only=True)
class Fact:
    """One piece of evidence about an operation, whoever brought it.

    `amount` in minor units; `psp_at_ms` in milliseconds since 1970 by the PSP's clock. Neither that time nor
    `event_id` nor `source` is part of what identifies a fact: an answer, a callback and an inquiry that say the
    same of one charge are one fact.
    """

    event_id: str
    payment_id: str
    operation_id: str
    outcome: Outcome
    source: Source
    reference: str | None = None
    amount: int | None = None
    currency: str | None = None
    page_url: str | None = None
    reason: str = ""
    psp_at_ms: int | None = None

    @property
    def identity(self) -> tuple[object, ...]:
        """What makes two pieces of evidence the same fact."""
        if self.outcome in (Outcome.UNKNOWN, Outcome.NOT_SENT):
            # "We do not know" is a fact about one call, and calls are counted: each is its own.
            return (self.operation_id, self.outcome, self.event_id)
        # The page too: else a "pending" that came first without one would hide the page for ever.
        return (self.operation_id, self.outcome, self.reference, self.amount, self.currency, self.page_url)


@dataclass(frozen=True, slots=True, kw_only=True)
class ChargeOrder:
    """What the gateway needs to ask a PSP for a sale; made once, when the payment is accepted.

    `token` for a token payment, `return_url` (where the PSP sends the customer back) for a hosted page.
    """

    operation_id: str
    payment_id: str
    merchant_id: str
    psp: str
    money: Money
    method: Method
    token: str | None = None
    return_url: str | None = None
    description: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Operation:
    """One thing asked of one PSP; its id is the PSP's idempotency key for ever."""

    id: str
    kind: OperationKind
    money: Money
    psp: str
    state: OperationState = OperationState.NEW
    reference: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Amounts:
    """Minor units that follow from the facts. The database checks the same law: captured <= authorized."""

    authorized: int = 0
    captured: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Payment:
    """The terms (what the merchant asked) and what is known by now.

    `version` rises by one with every fact that changes anything. `review_reason` is set once evidence contradicts
    the terms or other evidence, and says which. `is_held_up`: an earlier message about it is a dead letter, behind
    which later ones wait.
    """

    id: str
    merchant_id: str
    money: Money
    method: Method
    operation: Operation
    facts: tuple[Fact, ...] = ()
    status: Status
    version: int = 1
    amounts: Amounts = Amounts()
    psp_reference: str | None = None
    page_url: str | None = None
    review_reason: str | None = None
    is_held_up: bool = False

    @property
    def keeps_order_slot(self) -> bool:
        """Whether the order may not be paid by another payment."""
        return self.status not in FREES_ORDER
