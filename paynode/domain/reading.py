"""What is shown: rows as readers see them, and the pages they come in."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from paynode.domain.money import Money
from paynode.domain.payment import FINAL, OPEN, Method, OperationState, Status


@dataclass(frozen=True, slots=True, kw_only=True)
class PaymentView:
    """A payment as its merchant and its customer see it.

    `return_url` is the merchant's own page, `page_url` the PSP's.
    """

    id: str
    merchant_id: str
    order_id: str
    status: Status
    money: Money
    amount_authorized: int = 0
    amount_captured: int = 0
    amount_refunded: int = 0
    refund_status: str = "none"
    capture: str = "automatic"
    method: Method
    return_url: str | None
    page_url: str | None = None
    psp: str
    psp_reference: str | None = None
    fraud_check: str = "none"
    metadata: Mapping[str, str]
    version: int = 1
    created_at: datetime
    updated_at: datetime

    @property
    def is_final(self) -> bool:
        """Whether only new evidence, and no waiting, can change the status."""
        return self.status in FINAL


@dataclass(frozen=True, slots=True, kw_only=True)
class OperationView:
    """What was asked about a payment, or done by a rule of ours, and what has become of it.

    `amount` is the operation's; before there is one, what was asked for: None is all that is left. `state` is None
    while there is no operation: the payment's actor has not decided yet, or has refused (`refusal` says why). `reason`
    is the merchant's, `failure_reason` the PSP's.
    """

    id: str
    kind: str
    payment: PaymentView
    amount: int | None
    is_final_capture: bool = False
    reason: str = ""
    is_decided: bool = False
    state: OperationState | None = None
    refusal: str | None = None
    psp_reference: str | None = None
    failure_reason: str | None = None
    created_at: datetime
    updated_at: datetime

    @property
    def is_final(self) -> bool:
        """Whether only new evidence, and no waiting, can change what became of it."""
        return self.is_decided and self.state not in OPEN

    @property
    def version(self) -> int:
        """Rises with all that is shown: a refusal is no new version of the payment, and still news."""
        return self.payment.version + self.is_decided


@dataclass(frozen=True, slots=True, kw_only=True)
class RefundPage:
    """Which of a payment's refunds, newest first; those older than `before`, an id."""

    merchant_id: str
    payment_id: str
    before: str | None = None
    limit: int


@dataclass(frozen=True, slots=True, kw_only=True)
class TimelineEvent:
    """One step of a payment; `data` is JSON text as the committer wrote it."""

    id: str
    payment_id: str
    version: int
    type: str
    data: str
    at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class WalletView:
    """A merchant's wallet in one currency, in minor units."""

    currency: str
    pending: int
    available: int
    reserve: int
    held: int
    balance: int


@dataclass(frozen=True, slots=True, kw_only=True)
class LedgerLine:
    """One posting. With `prev_hash` and `hash` a merchant can check its chain."""

    id: str
    line: int
    seq: int
    payment_id: str | None
    type: str
    debit_account: str
    credit_account: str
    money: Money
    psp_reference: str | None
    at: datetime
    prev_hash: bytes
    hash: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class PaymentPage:
    """Which of a merchant's payments, newest first; those older than `before`, an id."""

    merchant_id: str
    order_id: str | None = None
    status: Status | None = None
    before: str | None = None
    limit: int


@dataclass(frozen=True, slots=True, kw_only=True)
class LedgerPage:
    """Which of a merchant's postings, newest first; those below the number `before_seq`, `since` <= at < `until`."""

    merchant_id: str
    payment_id: str | None = None
    since: datetime | None = None
    until: datetime | None = None
    before_seq: int | None = None
    limit: int
