"""The simulator's JSON, read strictly, and the outcome that each of its words means."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Final, Literal

from pydantic import BaseModel, ConfigDict, Field

from paynode.domain.payment import Method, OperationKind, PspOrder
from paynode.domain.psp import Answer, Outcome, SettlementKind, SettlementLine

_Id = Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]{1,100}$")]
_Word = Annotated[str, Field(pattern=r"^[a-z0-9_]{1,64}$")]
_Reference = Annotated[str, Field(pattern=r"^[\x21-\x7e]{1,100}$")]
_Currency = Annotated[str, Field(pattern=r"^[A-Z]{3}$")]
_Int64 = Annotated[int, Field(ge=0, lt=2**63)]

_OUTCOMES: Final = {
    "approved": Outcome.APPROVED,
    "declined": Outcome.DECLINED,
    "expired": Outcome.EXPIRED,  # an authorization that lapsed
    "reversed": Outcome.REVERSED,
    "failed": Outcome.REVERSED,  # a refund that was approved and did not arrive
}

# The simulator's own name of each kind.
_OBJECTS: Final = {kind: kind.value for kind in OperationKind} | {OperationKind.SALE: "charge"}

# What a page is opened for.
_ON_PAGES: Final = frozenset({OperationKind.SALE, OperationKind.AUTHORIZE})

# An inquiry's objects, the one that says most first: money that is still there, then money that was.
_RANKS: Final = ("approved", "reversed", "failed", "expired", "declined")


class _Said(BaseModel):
    """Something the PSP said. Strict: a float, a bool or a numeral is no amount. New fields are passed over."""

    model_config = ConfigDict(strict=True, frozen=True, extra="ignore")


class _Object(_Said):
    id: _Id
    reference: _Reference
    amount: _Int64
    currency: _Currency
    created_ms: _Int64


class Entry(_Object):
    """An operation that the PSP decided, and what has become of it since; `changed_ms` says when."""

    object: Literal["charge", "authorize", "capture", "void", "refund", "cancel"]
    status: Literal["approved", "declined", "expired", "reversed", "failed"]
    decline_code: _Word | None = None
    changed_ms: _Int64 | None = None

    def is_about(self, order: PspOrder) -> bool:
        return self.reference == order.operation_id and order.kind in self.kinds

    @property
    def kinds(self) -> frozenset[OperationKind]:
        """What it can be of."""
        return frozenset(kind for kind, name in _OBJECTS.items() if name == self.object)

    def answer(self) -> Answer:
        return Answer(
            outcome=_OUTCOMES[self.status],
            reference=self.id,
            amount=self.amount,
            currency=self.currency,
            reason="" if self.status == "approved" else self.decline_code or self.status,
            psp_at_ms=self.created_ms if self.changed_ms is None else self.changed_ms,
        )


class Session(_Object):
    """A payment page. Of one that was paid or declined its charge is the outcome, and must be shown too."""

    object: Literal["session"]
    status: Literal["open", "approved", "declined", "expired", "canceled"]
    expires_ms: _Int64
    changed_ms: _Int64 | None = None
    url: Annotated[str, Field(pattern=r"^https?://[\x21-\x7e]{1,2000}$")] | None = None

    def is_about(self, order: PspOrder) -> bool:
        is_paid_on_page = order.method is Method.HOSTED_PAGE and order.charge_id is None
        return self.reference == order.operation_id and is_paid_on_page

    @property
    def kinds(self) -> frozenset[OperationKind]:
        """What it can be of."""
        return _ON_PAGES

    def answer(self) -> Answer:
        if self.status == "open" and self.url is not None:
            outcome, at_ms = Outcome.PENDING, self.created_ms
        elif self.status == "expired":
            outcome, at_ms = Outcome.EXPIRED, self.expires_ms
        elif self.status == "canceled":
            outcome, at_ms = Outcome.EXPIRED, self.changed_ms or self.created_ms
        else:
            return unknown("answer_invalid")
        return Answer(
            outcome=outcome,
            reference=self.id,
            amount=self.amount,
            currency=self.currency,
            page_url=self.url if outcome is Outcome.PENDING else None,
            reason="" if outcome is Outcome.PENDING else f"session_{self.status}",
            psp_at_ms=at_ms,
        )


AnyObject = Annotated[Entry | Session, Field(discriminator="object")]


class Found(_Said):
    data: Annotated[list[AnyObject], Field(max_length=100)]


class Event(_Said):
    id: _Id
    type: Annotated[str, Field(pattern=r"^[a-z_]{1,64}\.[a-z_]{1,64}$")]
    data: AnyObject


class Heading(_Said):
    """As much of an event as can be read of one that is not for us."""

    type: str


class _Error(_Said):
    code: _Word


class Refusal(_Said):
    error: _Error


class ReportLine(_Said):
    psp_reference: _Id
    our_reference: _Reference | None
    kind: Literal["sale", "capture", "refund", "reversal", "refund_failure", "fee"]
    amount: _Int64
    currency: _Currency
    at_ms: _Int64

    def line(self) -> SettlementLine:
        return SettlementLine(
            kind=_LINES[self.kind],
            reference=self.psp_reference,
            our_reference=self.our_reference,
            amount=self.amount,
            currency=self.currency,
            at_ms=self.at_ms,
        )


class ReportPage(_Said):
    data: Annotated[list[ReportLine], Field(max_length=1000)]
    next_cursor: Annotated[str, Field(pattern=r"^[0-9.]{1,40}$")] | None


_LINES: Final = {
    "sale": SettlementKind.CHARGE,
    "capture": SettlementKind.CHARGE,
    "refund": SettlementKind.REFUND,
    "reversal": SettlementKind.REVERSAL,
    "refund_failure": SettlementKind.REVERSAL,
    "fee": SettlementKind.FEE,
}


def is_event_for_us(type_: str) -> bool:
    """Whether an event tells of an operation; a PSP may invent others at any time."""
    name, _, status = type_.partition(".")
    if name == "session":
        return status == "expired"
    return name in _OBJECTS.values() and status in _OUTCOMES


def final_word(found: Sequence[Entry | Session]) -> Answer | None:
    """What an inquiry says: what the operation has become is the last word, then the state of its page."""

    def rank(item: Entry | Session) -> int:
        return len(_RANKS) if isinstance(item, Session) else _RANKS.index(item.status)

    return min(found, key=rank).answer() if found else None


def unknown(reason: str) -> Answer:
    return Answer(outcome=Outcome.UNKNOWN, reason=reason, is_psp_failure=True)
