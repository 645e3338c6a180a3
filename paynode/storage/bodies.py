"""What stands in an outbox body, a command's request and an evidence row: JSON of `Fact`, `PspOrder` and `Request`.

A database row is one of the three gates where something is validated: a body that somebody wrote by hand, or an
older paynode wrote, is refused here as poison and never reaches an actor half understood.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from enum import StrEnum
from typing import Final, NoReturn, TypeVar

import orjson

from paynode.domain.errors import Poison
from paynode.domain.money import AMOUNT_MAX, AMOUNT_MIN, Money
from paynode.domain.payment import Fact, Method, OperationKind, PspOrder, Source
from paynode.domain.psp import Outcome
from paynode.domain.requesting import Request, RequestKind

_UUID: Final = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.ASCII)
_CURRENCY: Final = re.compile(r"[A-Z]{3}", re.ASCII)
_BIGINT_MAX: Final = 2**63 - 1
# Characters. The longest text that any gate lets in is a URL of 2,000; above this something else was written here.
_TEXT_MAX: Final = 8192

_REQUEST_FIELDS: Final = frozenset(Request.__dataclass_fields__)
# Who told a fact stands in the row of whoever brought it, not in what was said.
_FACT_FIELDS: Final = frozenset(Fact.__dataclass_fields__) - {"psp"}
_ORDER_FIELDS: Final = (frozenset(PspOrder.__dataclass_fields__) - {"money"}) | {"amount", "currency"}

Word = TypeVar("Word", bound=StrEnum)


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
    fields = _object(body, _FACT_FIELDS)
    return Fact(
        event_id=_uuid(fields, "event_id"),
        payment_id=_uuid(fields, "payment_id"),
        operation_id=_uuid(fields, "operation_id"),
        outcome=_word(fields, "outcome", Outcome),
        source=_word(fields, "source", Source),
        reference=_text_or_none(fields, "reference"),
        amount=_integer_or_none(fields, "amount"),
        # What a PSP claims may be any text: a wrong currency is evidence for people, not a broken message.
        currency=_text_or_none(fields, "currency"),
        page_url=_text_or_none(fields, "page_url"),
        reason=_text(fields, "reason"),
        psp_at_ms=_integer_or_none(fields, "psp_at_ms"),
        fraud_check=_text_or_none(fields, "fraud_check"),
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
    fields = _object(body, _REQUEST_FIELDS)
    amount = _integer_or_none(fields, "amount")
    if amount is not None and not AMOUNT_MIN <= amount <= AMOUNT_MAX:
        _refuse("amount is out of bounds")
    return Request(
        id=_uuid(fields, "id"),
        payment_id=_uuid(fields, "payment_id"),
        kind=_word(fields, "kind", RequestKind),
        amount=amount,
        is_final=_flag(fields, "is_final"),
        reason=_text(fields, "reason"),
        expected_version=_integer_or_none(fields, "expected_version"),
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
    fields = _object(body, _ORDER_FIELDS)
    order = PspOrder(
        operation_id=_uuid(fields, "operation_id"),
        payment_id=_uuid(fields, "payment_id"),
        merchant_id=_uuid(fields, "merchant_id"),
        psp=_text(fields, "psp"),
        kind=_word(fields, "kind", OperationKind),
        money=_money(fields),
        method=_word(fields, "method", Method),
        token=_text_or_none(fields, "token"),
        return_url=_text_or_none(fields, "return_url"),
        description=_text(fields, "description"),
        charge_id=None if fields["charge_id"] is None else _uuid(fields, "charge_id"),
        charge_reference=_text_or_none(fields, "charge_reference"),
        is_final=_flag(fields, "is_final"),
        give_up_at_ms=_integer_or_none(fields, "give_up_at_ms"),
    )
    if order.kind not in (OperationKind.SALE, OperationKind.AUTHORIZE):
        needed = order.charge_id
    else:
        needed = order.token if order.method is Method.TOKEN else order.return_url
    if needed is None:
        _refuse(f"a {order.kind} by {order.method} without what it is about")
    return order


def _refuse(detail: str) -> NoReturn:
    raise Poison("body_invalid", detail)


def _object(body: str | bytes, names: frozenset[str]) -> Mapping[str, object]:
    try:
        fields = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise Poison("body_invalid", f"not JSON: {error}") from error
    if type(fields) is not dict:
        _refuse("not an object")
    if fields.keys() != names:
        _refuse(f"missing {sorted(names - fields.keys())}, unknown {sorted(fields.keys() - names)[:10]}")
    return fields


def _text(fields: Mapping[str, object], name: str) -> str:
    value = fields[name]
    if type(value) is not str or len(value) > _TEXT_MAX or "\0" in value:
        _refuse(f"{name} is not a text of at most {_TEXT_MAX} characters")
    return value


def _text_or_none(fields: Mapping[str, object], name: str) -> str | None:
    return None if fields[name] is None else _text(fields, name)


def _uuid(fields: Mapping[str, object], name: str) -> str:
    value = _text(fields, name)
    if _UUID.fullmatch(value) is None:
        _refuse(f"{name} is not a UUID in its canonical form")
    return value


def _flag(fields: Mapping[str, object], name: str) -> bool:
    value = fields[name]
    if type(value) is not bool:
        _refuse(f"{name} is not true or false")
    return value


def _integer_or_none(fields: Mapping[str, object], name: str) -> int | None:
    value = fields[name]
    if value is None:
        return None
    # `type(...) is int`: True is an int to isinstance, and would be stored as 1.
    if type(value) is not int or abs(value) > _BIGINT_MAX:
        _refuse(f"{name} is not an integer of 64 bits")
    return value


def _money(fields: Mapping[str, object]) -> Money:
    amount, currency = _integer_or_none(fields, "amount"), _text(fields, "currency")
    if amount is None or not AMOUNT_MIN <= amount <= AMOUNT_MAX:
        _refuse("amount is out of bounds")
    if _CURRENCY.fullmatch(currency) is None:
        _refuse("currency is not three capital letters")
    return Money(amount=amount, currency=currency)


def _word(fields: Mapping[str, object], name: str, kind: type[Word]) -> Word:
    value = _text(fields, name)
    try:
        return kind(value)
    except ValueError as error:
        raise Poison("body_invalid", f"{name} is no {kind.__name__}: {value[:40]!r}") from error
