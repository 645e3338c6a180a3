"""What actors need in hand before they decide, fetched for many messages at once."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Final, TypeAlias

import asyncpg
import orjson

from paynode.domain.booking import MerchantBooks
from paynode.domain.errors import Poison
from paynode.domain.ledger import NO_ENTRIES, Head
from paynode.domain.maturing import MaturityKind
from paynode.domain.message import (
    ADJUSTMENT,
    EVIDENCE,
    REPORT_LINE,
    REQUEST,
    Content,
    Message,
    Unread,
    Unreadable,
)
from paynode.domain.money import FeePlan, Money
from paynode.domain.payment import (
    Amounts,
    Fact,
    Method,
    Operation,
    OperationKind,
    OperationState,
    Origin,
    Payment,
    Source,
    Status,
)
from paynode.domain.payouts import Payout, PayoutState
from paynode.domain.psp import Outcome
from paynode.domain.publishing import Result, Verdict
from paynode.domain.report import ReportLine
from paynode.domain.road import Place
from paynode.domain.terms import Availability, Terms
from paynode.domain.wallet import Wallet
from paynode.storage.bodies import decode_fact, decode_request
from paynode.storage.books_bodies import decode_adjustment, decode_line, decode_maturity
from paynode.storage.postgres import Pool, borrowed, confirm
from paynode.storage.queries import load

_SQL: Final = load("shelf")

_Row: TypeAlias = dict[str, Any]  # of a list that came as JSON: what the statement selects

_DECODERS: Final[Mapping[str, Callable[[str], Content]]] = {
    EVIDENCE: decode_fact,
    REQUEST: decode_request,
    REPORT_LINE: decode_line,
    ADJUSTMENT: decode_adjustment,
    MaturityKind.AVAILABLE: decode_maturity,
    MaturityKind.RESERVE: decode_maturity,
}


class PgShelf:
    """Reads for the merchants' actors."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def messages(self, places: Sequence[Place]) -> Mapping[Place, Message | Unread | Unreadable]:
        """What pointers lead to; one that is missing has been processed, or is another stream's.

        Raises: Unavailable.
        """
        streams, refs = [stream for stream, _ in places], [ref for _, ref in places]
        async with borrowed(self._pool) as connection:
            rows = await connection.fetch(_SQL["find_messages"], streams, refs)
            if len(rows) < len(places):
                await confirm(connection)  # what is missing is acknowledged
        return {(row["asked"], row["id"]): _message(row) for row in rows}

    async def verdicts(self, event_ids: Sequence[str]) -> Mapping[str, Verdict]:
        """What became of outside events, by id; one that is missing has never been seen.

        Raises: Unavailable.
        """
        async with borrowed(self._pool) as connection:
            rows = await connection.fetch(_SQL["find_verdicts"], event_ids)
            if rows:
                await confirm(connection)  # what was had before is acknowledged, and told again
        return {row["event_id"]: _verdict(row) for row in rows}

    async def payments(self, payment_ids: Sequence[str]) -> Mapping[str, Payment]:
        """The payments with all evidence about them, by id.

        Raises: Unavailable.
        """
        async with borrowed(self._pool) as connection:
            rows = await connection.fetch(_SQL["find_payments"], payment_ids)
            if len(rows) < len(set(payment_ids)):
                # Evidence about a payment that is not there is buried: it must not be one read alone that says so.
                await confirm(connection)
                rows = await connection.fetch(_SQL["find_payments"], payment_ids)
        return {row["id"]: _payment(row) for row in rows if row["operations"]}

    async def books(self, merchant_ids: Sequence[str]) -> Mapping[str, MerchantBooks]:
        """Fee plan, ledger head and wallets of the merchants, by id.

        Raises: Unavailable.
        """
        async with borrowed(self._pool) as connection:
            rows = await connection.fetch(_SQL["find_books"], merchant_ids)
        return {row["id"]: _books(row) for row in rows}


def _rows(content: str | None) -> list[_Row]:
    rows: list[_Row] = orjson.loads(content or "[]")
    return rows


def _message(row: asyncpg.Record) -> Message | Unread | Unreadable:
    if row["type"] == "outside.event":
        return _outside(row)
    decode = _DECODERS.get(row["type"])
    if decode is None:
        return _unreadable(row, "type_unknown", row["type"])
    try:
        content = decode(row["body"])
    except Poison as poison:
        return _unreadable(row, poison.reason, poison.detail)
    match content:
        case Fact() if row["psp"] is not None:
            content = replace(content, psp=row["psp"])
        case ReportLine() if row["is_posted"]:
            content = replace(content, is_posted=True)
    message = Message(ref=row["id"], merchant_id=row["merchant_id"], content=content)
    if message.event_id != row["id"]:
        return _unreadable(row, "event_id_invalid", "the body names another event")
    return message


def _outside(row: asyncpg.Record) -> Unread | Unreadable:
    fields: object = orjson.loads(row["body"])
    if not isinstance(fields, dict) or not all(isinstance(value, str) for value in fields.values()):
        return _unreadable(row, "shape_invalid", "the body is not an entry's fields")
    return Unread(ref=row["id"], fields=fields)


def _verdict(row: asyncpg.Record) -> Verdict:
    return Verdict(
        event_id=row["event_id"],
        content_sha256=row["content_sha256"],
        merchant_id=row["merchant_id"],
        publisher=row["publisher"],
        type=row["type"],
        result=Result(row["result"]),
        code=row["code"],
    )


def _unreadable(row: asyncpg.Record, reason: str, detail: str) -> Unreadable:
    fields = {"ref": row["id"], "type": row["type"], "body": row["body"]}
    return Unreadable(
        ref=row["id"],
        reason=reason,
        detail=detail,
        fields=fields,
        type=row["type"],
        merchant_id=row["merchant_id"],
        payment_id=row["payment_id"],
    )


def _payment(row: asyncpg.Record) -> Payment:
    return Payment(
        id=row["id"],
        merchant_id=row["merchant_id"],
        money=Money(amount=row["amount"], currency=row["currency"]),
        method=Method(row["method"]),
        terms=_terms(orjson.loads(row["terms"])),
        operations=tuple(_operation(one) for one in _rows(row["operations"])),
        facts=tuple(_fact(one) for one in _rows(row["evidence"])),
        status=Status(row["status"]),
        version=row["version"],
        amounts=Amounts(
            authorized=row["amount_authorized"],
            capturing=row["amount_capturing"],
            captured=row["amount_captured"],
            voiding=row["amount_voiding"],
            voided=row["amount_voided"],
            refunding=row["amount_refunding"],
            refunded=row["amount_refunded"],
        ),
        psp_reference=row["psp_reference"],
        page_url=row["page_url"],
        review_reason=row["review_reason"],
        fraud_check=row["fraud_check"],
        is_held_up=row["is_held_up"],
        route=tuple(row["route"]),
        is_given_up=row["is_given_up"],
        is_for_pos=row["is_for_pos"],
        is_kept=row["is_kept"],
        is_reversed=row["is_reversed"],
        is_automatic=row["is_automatic"],
    )


def _operation(row: _Row) -> Operation:
    return Operation(
        id=row["id"],
        kind=OperationKind(row["kind"]),
        money=Money(amount=row["amount"], currency=row["currency"]),
        psp=row["psp"],
        state=OperationState(row["state"]),
        reference=row["psp_reference"],
        is_final=row["is_final"],
        origin=Origin(row["origin"]),
        hold_available=row["hold_available"],
        hold_pending=row["hold_pending"],
        reason=row["reason"],
        target=row["target"],
        is_maturing=row["is_maturing"],
        matures_at_ms=row["matures_at_ms"],
        rest_pending=row["rest_pending"],
        releases_at_ms=row["releases_at_ms"],
        rest_reserve=row["rest_reserve"],
    )


def _terms(row: _Row) -> Terms:
    return Terms(
        fees=FeePlan(fixed=row["fee_fixed"], basis_points=row["fee_basis_points"]),
        reserve_basis_points=row["reserve_basis_points"],
        reserve_days=row["reserve_days"],
        availability=Availability(row["availability"]),
        available_days=row["available_days"],
    )


def _fact(row: _Row) -> Fact:
    return Fact(
        event_id=row["id"],
        payment_id=row["payment_id"],
        operation_id=row["operation_id"],
        outcome=Outcome(row["outcome"]),
        source=Source(row["source"]),
        reference=row["psp_reference"],
        amount=row["amount"],
        currency=row["currency"],
        page_url=row["page_url"],
        reason=row["reason"],
        psp_at_ms=row["psp_at_ms"],
        fraud_check=row["fraud_check"],
        psp=row["psp"],
    )


def _books(row: asyncpg.Record) -> MerchantBooks:
    return MerchantBooks(
        merchant_id=row["id"],
        head=NO_ENTRIES if row["seq"] is None else Head(seq=row["seq"], hash=row["hash"]),
        wallets={one["currency"]: _wallet(one) for one in _rows(row["wallets"])},
        payouts={one["id"]: _payout(one) for one in _rows(row["payouts"])},
    )


def _payout(row: _Row) -> Payout:
    return Payout(
        id=row["id"],
        merchant_id=row["merchant_id"],
        money=Money(amount=row["amount"], currency=row["currency"]),
        reference=row["reference"],
        state=PayoutState(row["state"]),
    )


def _wallet(row: _Row) -> Wallet:
    return Wallet(
        currency=row["currency"],
        pending=row["pending"],
        available=row["available"],
        reserve=row["reserve"],
        held=row["held"],
        version=row["version"],
        maturing=row["maturing"],
    )
