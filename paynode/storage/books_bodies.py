"""What stands in an outbox body that paynode writes to its own actors: the calendar, a report's line, what is mended.

Like all bodies it is a gate: what somebody wrote by hand is refused here as poison.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

import orjson

from paynode.domain.maturing import Maturity, MaturityKind
from paynode.domain.mending import BooksAdjustment
from paynode.domain.money import Money
from paynode.domain.postings import AVAILABLE, BANK, LOSS, PSP_FEES, SUSPENSE_INTERNAL, Posting
from paynode.domain.psp import SettlementKind
from paynode.domain.report import ReportLine
from paynode.storage.members import integer, money, object_of, refuse, text, uuid, uuid_or_none, word

_MATURITY: Final = frozenset(Maturity.__dataclass_fields__)
_LINE: Final = (frozenset(ReportLine.__dataclass_fields__) - {"money", "is_posted"}) | {"amount", "currency"}
_ADJUSTMENT: Final = frozenset({"id", "debit", "credit", "amount", "currency", "payment_id", "reference"})

# Between these may be adjusted: what nobody has explained, what a PSP owes, and what the merchant may spend.
_ADJUSTABLE: Final = frozenset({SUSPENSE_INTERNAL, LOSS, BANK, PSP_FEES, AVAILABLE})
_OF_PSPS: Final = re.compile(r"suspense:[a-z0-9_-]{1,64}|psp:[a-z0-9_-]{1,64}:receivable", re.ASCII)


def encode_maturity(maturity: Maturity) -> str:
    """The body of a `capture.mature` or `reserve.release` message."""
    return orjson.dumps(
        {
            "id": maturity.id,
            "payment_id": maturity.payment_id,
            "operation_id": maturity.operation_id,
            "kind": maturity.kind,
        }
    ).decode()


def decode_maturity(body: str | bytes) -> Maturity:
    """What has come. Raises: Poison (`body_invalid`)."""
    fields = object_of(body, _MATURITY)
    return Maturity(
        id=uuid(fields, "id"),
        payment_id=uuid(fields, "payment_id"),
        operation_id=uuid(fields, "operation_id"),
        kind=word(fields, "kind", MaturityKind),
    )


def encode_line(line: ReportLine) -> str:
    """The body of a `settlement.line` message."""
    return orjson.dumps(
        {
            "id": line.id,
            "psp": line.psp,
            "kind": line.kind,
            "reference": line.reference,
            "operation_id": line.operation_id,
            "payment_id": line.payment_id,
            "amount": line.money.amount,
            "currency": line.money.currency,
            "at_ms": line.at_ms,
        }
    ).decode()


def decode_line(body: str | bytes) -> ReportLine:
    """A line of a report. Raises: Poison (`body_invalid`)."""
    fields = object_of(body, _LINE)
    return ReportLine(
        id=uuid(fields, "id"),
        psp=text(fields, "psp"),
        kind=word(fields, "kind", SettlementKind),
        reference=text(fields, "reference"),
        operation_id=uuid_or_none(fields, "operation_id"),
        payment_id=uuid_or_none(fields, "payment_id"),
        money=money(fields),
        at_ms=integer(fields, "at_ms"),
    )


def encode_adjustment(adjustment: BooksAdjustment) -> str:
    """The body of a `books.adjustment` message."""
    posting = adjustment.posting
    return orjson.dumps(
        {
            "id": adjustment.id,
            "debit": posting.debit,
            "credit": posting.credit,
            "amount": posting.money.amount,
            "currency": posting.money.currency,
            "payment_id": adjustment.payment_id,
            "reference": adjustment.reference,
        }
    ).decode()


def decode_adjustment(body: str | bytes) -> BooksAdjustment:
    """What operators have decided. Raises: Poison (`body_invalid`)."""
    fields = object_of(body, _ADJUSTMENT)
    debit, credit = _account(fields, "debit"), _account(fields, "credit")
    if debit == credit:
        refuse("a posting moves between two accounts")
    return BooksAdjustment(
        id=uuid(fields, "id"),
        posting=adjustment_posting(debit, credit, money(fields)),
        payment_id=uuid_or_none(fields, "payment_id"),
        reference=text(fields, "reference"),
    )


def adjustment_posting(debit: str, credit: str, money: Money) -> Posting:
    """The posting that operators may decide upon."""
    return Posting(type="adjustment", debit=debit, credit=credit, money=money)


def is_adjustable(account: str) -> bool:
    """Whether operators may adjust it."""
    return account in _ADJUSTABLE or _OF_PSPS.fullmatch(account) is not None


def _account(fields: Mapping[str, object], name: str) -> str:
    account = text(fields, name)
    if not is_adjustable(account):
        refuse(f"{name} is no account that is adjusted")
    return account
