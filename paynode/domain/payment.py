"""A payment, its operations and the facts about them.

What a payment *is* follows from its terms and the set of facts alone (`folding.py`): nothing here remembers in
which order they came.
"""

from __future__ import annotations

from dataclasses import replace
from enum import StrEnum
from typing import Final

from paynode.domain.money import Money
from paynode.domain.psp import Outcome
from paynode.domain.record import record
from paynode.domain.terms import Terms


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
    """What is asked of a PSP. A sale authorizes and captures at once; a cancel closes a page that is still open."""

    SALE = "sale"
    AUTHORIZE = "authorize"
    CAPTURE = "capture"
    VOID = "void"
    REFUND = "refund"
    CANCEL = "cancel"


class OperationState(StrEnum):
    """What is known of an operation. `sending` is not a state: it is an attempt without an outcome."""

    NEW = "new"
    PENDING = "pending"
    UNKNOWN = "unknown"
    APPROVED = "approved"
    DECLINED = "declined"
    EXPIRED = "expired"
    FAILED = "failed"
    REVERSED = "reversed"
    REVIEW = "review"


# Its outcome may still move money: it keeps what it has reserved.
OPEN: Final = frozenset({OperationState.NEW, OperationState.PENDING, OperationState.UNKNOWN, OperationState.REVIEW})

# It came to nothing, as far as anybody knows.
GIVEN_UP: Final = frozenset({OperationState.DECLINED, OperationState.EXPIRED, OperationState.FAILED})


class Origin(StrEnum):
    """Who wanted an operation: a request of the merchant's, or a rule of ours."""

    REQUEST = "request"
    LATE_SUCCESS = "late_success"  # it gives back what succeeded after the payment had been given up
    REVERSAL = "reversal"  # nobody waited for the authorization any longer
    SURPLUS = "surplus"  # it gives back what a PSP did beside, or instead of, the charge that is the payment's


class Method(StrEnum):
    """How the customer pays."""

    HOSTED_PAGE = "hosted_page"
    TOKEN = "token"  # noqa: S105 - the name of a method, not a secret


class Source(StrEnum):
    """Who told us."""

    ANSWER = "answer"
    CALLBACK = "callback"
    INQUIRY = "inquiry"
    OPERATOR = "operator"
    REPORT = "report"  # the PSP's settlement report


@record
class Fact:
    """One piece of evidence about an operation, whoever brought it.

    `amount` in minor units; `psp_at_ms` in milliseconds since 1970 by the PSP's clock. Neither that time nor
    `event_id` nor `source` is part of what identifies a fact: an answer, a callback and an inquiry that say the
    same of one charge are one fact. `psp` told it; None: the one that has the operation, or we ourselves.
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
    fraud_check: str | None = None
    psp: str | None = None

    @property
    def identity(self) -> tuple[object, ...]:
        """What makes two pieces of evidence the same fact."""
        if self.outcome in (Outcome.UNKNOWN, Outcome.NOT_SENT):
            # "We do not know" is a fact about one call, and calls are counted: each is its own.
            return (self.operation_id, self.outcome, self.event_id)
        # The page too: else a "pending" that came first without one would hide the page for ever. And what the fraud
        # check said, which the answer knows and a callback that overtakes it does not.
        said = (self.psp, self.outcome, self.reference, self.amount, self.currency)
        return (self.operation_id, *said, self.page_url, self.fraud_check)


@record
class PspOrder:
    """What the gateway needs to ask a PSP for an operation; made once, with the operation.

    A sale or an authorization has `token`, or `return_url` (where the PSP sends the customer back) for a hosted page.
    All others are about such a charge: `charge_id` is its operation's id, by which the PSP knows it from us, and
    `charge_reference` the PSP's own name of what was charged, or of the open page. `is_final`: a capture after which
    the rest of the authorization is let go. `give_up_at_ms`: nothing is sent for the first time after that
    (milliseconds since 1970); None: no limit.
    """

    operation_id: str
    payment_id: str
    merchant_id: str
    psp: str
    kind: OperationKind = OperationKind.SALE
    money: Money
    method: Method
    token: str | None = None
    return_url: str | None = None
    description: str = ""
    charge_id: str | None = None
    charge_reference: str | None = None
    is_final: bool = False
    give_up_at_ms: int | None = None


@record
class Operation:
    """One thing asked of one PSP; its id is the PSP's idempotency key for ever.

    `hold_available` and `hold_pending`: what a refund keeps of the merchant's money until the PSP has answered, by the
    bucket it came from. `is_final`: a capture after which the rest of the authorization is let go. `target`: the PSP's
    name of the surplus that it gives back.

    Of a capture or a sale that is booked: `rest_pending` has still to become available, at `matures_at_ms` (None: when
    the PSP has settled it) as long as `is_maturing`; `rest_reserve` is held back until `releases_at_ms` (None: nothing
    is). Milliseconds since 1970.
    """

    id: str
    kind: OperationKind
    money: Money
    psp: str
    state: OperationState = OperationState.NEW
    reference: str | None = None
    is_final: bool = False
    origin: Origin = Origin.REQUEST
    hold_available: int = 0
    hold_pending: int = 0
    reason: str = ""
    target: str | None = None
    is_maturing: bool = False
    matures_at_ms: int | None = None
    rest_pending: int = 0
    releases_at_ms: int | None = None
    rest_reserve: int = 0

    @property
    def is_charge(self) -> bool:
        """Whether it is what the payment began with."""
        return self.kind in (OperationKind.SALE, OperationKind.AUTHORIZE)

    @property
    def is_open(self) -> bool:
        """Whether its outcome may still move money."""
        return self.state in OPEN


class RefundStatus(StrEnum):
    """How much was given back, as merchants see it."""

    NONE = "none"
    PENDING = "pending"
    PARTIAL = "partial"
    FULL = "full"


@record
class Amounts:
    """Minor units that follow from operations and facts. The database checks the same laws:
    captured + capturing + voided + voiding <= authorized, refunded + refunding <= captured.
    """

    authorized: int = 0
    capturing: int = 0
    captured: int = 0
    voiding: int = 0
    voided: int = 0
    refunding: int = 0
    refunded: int = 0

    @property
    def capturable(self) -> int:
        """What is left of the authorization."""
        return self.authorized - self.captured - self.capturing - self.voided - self.voiding

    @property
    def refundable(self) -> int:
        """What is left of the captures."""
        return self.captured - self.refunded - self.refunding

    @property
    def refund_status(self) -> RefundStatus:
        """In one word."""
        if self.refunding:
            return RefundStatus.PENDING
        if not self.refunded:
            return RefundStatus.NONE
        return RefundStatus.FULL if self.refunded == self.captured else RefundStatus.PARTIAL


@record
class Payment:
    """The terms (what the merchant asked), the operations, and what is known by now. The first operation is the charge.

    `version` rises by one with every fact or request that changes anything. `review_reason` is set once evidence
    contradicts the terms or other evidence, and says which. `is_held_up`: an earlier message about it is a dead
    letter, behind which later ones wait. `route`: the PSPs that may take it, in their order. `is_given_up`: its
    order's slot was let go of. `is_for_pos`: it is kept or reversed at an instant, once and for ever. `is_automatic`:
    its capture is nobody's to ask for. `terms`: those that were in force when it was accepted.
    """

    id: str
    merchant_id: str
    money: Money
    method: Method
    terms: Terms
    operations: tuple[Operation, ...]
    facts: tuple[Fact, ...] = ()
    status: Status
    version: int = 1
    amounts: Amounts = Amounts()
    psp_reference: str | None = None
    page_url: str | None = None
    review_reason: str | None = None
    fraud_check: str = "none"
    is_held_up: bool = False
    route: tuple[str, ...] = ()
    is_given_up: bool = False
    is_for_pos: bool = False
    is_kept: bool = False
    is_reversed: bool = False
    is_automatic: bool = False

    @property
    def charge(self) -> Operation:
        """The sale or authorization that the payment began with."""
        return self.operations[0]

    def operation(self, operation_id: str) -> Operation | None:
        """One of its operations."""
        return next((one for one in self.operations if one.id == operation_id), None)

    def with_operation_changed(self, changed: Operation) -> Payment:
        """With this one in the place of the one of its name."""
        operations = tuple(changed if one.id == changed.id else one for one in self.operations)
        return replace(self, operations=operations)

    def facts_of(self, operation: Operation) -> tuple[Fact, ...]:
        """What is known about one operation, in the order in which it came to the books."""
        return tuple(fact for fact in self.facts if fact.operation_id == operation.id)

    @property
    def keeps_order_slot(self) -> bool:
        """Whether the order may not be paid by another payment. Once it may, it may for ever."""
        return self.status not in FREES_ORDER and not self.is_given_up
