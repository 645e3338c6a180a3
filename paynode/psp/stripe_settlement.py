"""Stripe's balance transactions as lines of a settlement report."""

from __future__ import annotations

import math
from collections.abc import AsyncIterator, Iterator
from datetime import datetime
from typing import Annotated, Final

from pydantic import Field

from paynode.domain.money import Money
from paynode.domain.psp import SettlementKind, SettlementLine
from paynode.psp import stripe_requests as asked
from paynode.psp.errors import Unavailable
from paynode.psp.stripe_money import from_stripe
from paynode.psp.stripe_reading import Item, ListTooLong, Reader, understood
from paynode.psp.stripe_words import Said

_TRANSACTIONS: Final = "/v1/balance_transactions"
# Pages of the report that are held at a time: it is listed newest first and told oldest first. What is longer is
# halved, down to a single second.
_PAGES_MAX: Final = 10

_Int = Annotated[int, Field(gt=-(2**63), lt=2**63)]
_Code = Annotated[str, Field(max_length=200)]

# Stripe's reporting categories, and what they are to us. What was not captured of an authorization is in the charge's
# own amount already, and payouts and transfers are no one's payments.
_KINDS: Final = {
    "charge": SettlementKind.CHARGE,
    "refund": SettlementKind.REFUND,
    "charge_failure": SettlementKind.REVERSAL,
    "dispute": SettlementKind.REVERSAL,
    "refund_failure": SettlementKind.REVERSAL,
    "dispute_reversal": SettlementKind.CHARGE,
}


class _Source(Said):
    """The charge, refund or dispute that moved the balance."""

    id: _Code
    object: _Code
    amount: _Int
    currency: Annotated[str, Field(pattern=r"^[a-z]{3}$")]
    amount_captured: _Int | None = None
    payment_intent: _Code | None = None
    metadata: dict[str, str] = Field(default_factory=dict)


class _Transaction(Said):
    id: _Code
    created: _Int
    amount: _Int
    currency: Annotated[str, Field(pattern=r"^[a-z]{3}$")]
    fee: _Int
    reporting_category: _Code
    source: dict[str, object] | _Code | None = None

    def lines(self) -> Iterator[SettlementLine]:
        """What it says of a payment, and of what Stripe keeps of it. Raises: ValueError."""
        kind = _KINDS.get(self.reporting_category)
        source = None if kind is None else _Source.model_validate(self.source)
        if kind is not None and source is not None:
            yield self._line(kind, _reference(source), source, _moved(source))
        if self.fee > 0:
            # In the currency of the balance, which need not be the charge's.
            yield self._line(
                SettlementKind.FEE,
                _reference(source) if source else self.id,
                source,
                from_stripe(self.fee, self.currency),
            )

    def _line(self, kind: SettlementKind, reference: str, source: _Source | None, money: Money) -> SettlementLine:
        return SettlementLine(
            kind=kind,
            reference=reference,
            our_reference=source.metadata.get(asked.OPERATION) if source else None,
            amount=money.amount,
            currency=money.currency,
            at_ms=self.created * 1000,
        )


async def settlement(reader: Reader, since: datetime, until: datetime) -> AsyncIterator[SettlementLine]:
    """The lines with `since` <= at < `until`, oldest first. Raises: Unavailable."""
    parts = [(math.ceil(since.timestamp()), math.ceil(until.timestamp()))]
    while parts:
        begin_s, end_s = parts.pop()
        if begin_s >= end_s:
            continue
        try:
            held = await _held(reader, begin_s, end_s)
        except ListTooLong:
            middle_s = (begin_s + end_s) // 2
            parts += [(middle_s, end_s), (begin_s, middle_s)]
            continue
        for item in reversed(held):
            for line in _lines(item):
                yield line


async def _held(reader: Reader, begin_s: int, end_s: int) -> list[Item]:
    query = {"created[gte]": str(begin_s), "created[lt]": str(end_s), "expand[0]": "data.source"}
    pages_max = _PAGES_MAX if end_s - begin_s > 1 else None
    return [item async for item in reader.listed(_TRANSACTIONS, query, pages_max=pages_max)]


def _lines(item: Item) -> list[SettlementLine]:
    try:
        return list(understood(_Transaction, item).lines())
    except ValueError as error:
        raise Unavailable("answer_invalid") from error


def _reference(source: _Source) -> str:
    """What our evidence calls it: a charge by its PaymentIntent, a refund by itself."""
    return source.payment_intent if source.object != "refund" and source.payment_intent else source.id


def _moved(source: _Source) -> Money:
    """In the currency of the payment; of a charge, what was captured."""
    captured = source.amount if source.amount_captured is None else source.amount_captured
    return from_stripe(abs(captured), source.currency)
