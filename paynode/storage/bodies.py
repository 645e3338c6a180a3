"""What stands in an outbox body, a command's request and an evidence row: JSON of `Fact`, `PspOrder` and `Request`.

A database row is one of the three gates where something is validated: a body that somebody wrote by hand, or an
older paynode wrote, is refused here as poison and never reaches an actor half understood.
"""

from __future__ import annotations

from typing import Final

import orjson

from paynode.domain.money import AMOUNT_MAX, AMOUNT_MIN
from paynode.domain.payment import Fact, Method, OperationKind, PspOrder, Source
from paynode.domain.psp import Outcome
from paynode.domain.requesting import Request, RequestKind
from paynode.storage.members import (
    flag,
    integer_or_none,
    money,
    object_of,
    refuse,
    text,
    text_or_none,
    uuid,
    uuid_or_none,
    word,
)

_REQUEST_FIELDS: Final = frozenset(Request.__dataclass_fields__)
# Who told a fact stands in the row of whoever brought it, not in what was said.
_FACT_FIELDS: Final = frozenset(Fact.__dataclass_fields__) - {"psp"}
_ORDER_FIELDS: Final = (frozenset(PspOrder.__dataclass_fields__) - {"money"}) | {"amount", "currency"}


def encode_fact(fact: Fact) -> str:
    """The body of a `psp.evidence` message."""
    return orjson.dumps(
        {
            "event_id": fact.event_id,
            "payment_id": fact.payment_id,
            "operation_id": fact.operation_id,
            "outcome": fact.outcome,
            "source": fact.source,
            "reference": fact.reference,
            "amount": fact.amount,
            "currency": fact.currency,
            "page_url": fact.page_url,
            "reason": fact.reason,
            "psp_at_ms": fact.psp_at_ms,
            "fraud_check": fact.fraud_check,
        }
    ).decode()


def decode_fact(body: str | bytes) -> Fact:
    """The fact in the body of a `psp.evidence` message.

    Raises: Poison (`body_invalid`).
    """
    fields = object_of(body, _FACT_FIELDS)
    return Fact(
        event_id=uuid(fields, "event_id"),
        payment_id=uuid(fields, "payment_id"),
        operation_id=uuid(fields, "operation_id"),
        outcome=word(fields, "outcome", Outcome),
        source=word(fields, "source", Source),
        reference=text_or_none(fields, "reference"),
        amount=integer_or_none(fields, "amount"),
        # What a PSP claims may be any text: a wrong currency is evidence for people, not a broken message.
        currency=text_or_none(fields, "currency"),
        page_url=text_or_none(fields, "page_url"),
        reason=text(fields, "reason"),
        psp_at_ms=integer_or_none(fields, "psp_at_ms"),
        fraud_check=text_or_none(fields, "fraud_check"),
    )


def encode_request(request: Request) -> str:
    """The body of a `payment.request` message."""
    return orjson.dumps(
        {
            "id": request.id,
            "payment_id": request.payment_id,
            "kind": request.kind,
            "amount": request.amount,
            "is_final": request.is_final,
            "reason": request.reason,
            "expected_version": request.expected_version,
        }
    ).decode()


def decode_request(body: str | bytes) -> Request:
    """The request in the body of a `payment.request` message.

    Raises: Poison (`body_invalid`).
    """
    fields = object_of(body, _REQUEST_FIELDS)
    amount = integer_or_none(fields, "amount")
    if amount is not None and not AMOUNT_MIN <= amount <= AMOUNT_MAX:
        refuse("amount is out of bounds")
    return Request(
        id=uuid(fields, "id"),
        payment_id=uuid(fields, "payment_id"),
        kind=word(fields, "kind", RequestKind),
        amount=amount,
        is_final=flag(fields, "is_final"),
        reason=text(fields, "reason"),
        expected_version=integer_or_none(fields, "expected_version"),
    )


def encode_order(order: PspOrder) -> str:
    """The body of a `psp.submit` or `psp.inquire` message, and an operation's `request`."""
    return orjson.dumps(
        {
            "operation_id": order.operation_id,
            "payment_id": order.payment_id,
            "merchant_id": order.merchant_id,
            "psp": order.psp,
            "kind": order.kind,
            "amount": order.money.amount,
            "currency": order.money.currency,
            "method": order.method,
            "token": order.token,
            "return_url": order.return_url,
            "description": order.description,
            "charge_id": order.charge_id,
            "charge_reference": order.charge_reference,
            "is_final": order.is_final,
            "give_up_at_ms": order.give_up_at_ms,
        }
    ).decode()


def decode_order(body: str | bytes) -> PspOrder:
    """The order in the body of a command.

    Raises: Poison (`body_invalid`).
    """
    fields = object_of(body, _ORDER_FIELDS)
    order = PspOrder(
        operation_id=uuid(fields, "operation_id"),
        payment_id=uuid(fields, "payment_id"),
        merchant_id=uuid(fields, "merchant_id"),
        psp=text(fields, "psp"),
        kind=word(fields, "kind", OperationKind),
        money=money(fields),
        method=word(fields, "method", Method),
        token=text_or_none(fields, "token"),
        return_url=text_or_none(fields, "return_url"),
        description=text(fields, "description"),
        charge_id=uuid_or_none(fields, "charge_id"),
        charge_reference=text_or_none(fields, "charge_reference"),
        is_final=flag(fields, "is_final"),
        give_up_at_ms=integer_or_none(fields, "give_up_at_ms"),
    )
    if order.kind not in (OperationKind.SALE, OperationKind.AUTHORIZE):
        needed = order.charge_id
    else:
        needed = order.token if order.method is Method.TOKEN else order.return_url
    if needed is None:
        refuse(f"a {order.kind} by {order.method} without what it is about")
    return order
