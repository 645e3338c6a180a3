"""The `data` of outside publishers' events: one shape for each type."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

from iso4217 import Currency

from paynode.domain.ids import PAYMENT, parse, public
from paynode.domain.money import AMOUNT_MAX, AMOUNT_MIN, Money
from paynode.domain.publishing import CaptureRequest, OutsideData, OutsideType, RefundRequest, WalletMovement
from paynode.streams.members import NotStrict, integer, matching, only, text

# Metals, funds and the codes for tests have no minor unit; nobody is paid in them.
_CURRENCIES: Final = frozenset(currency.code for currency in Currency if currency.exponent is not None)
_REFERENCE: Final = re.compile(r"[\x21-\x7e]{1,200}", re.ASCII)

_MOVEMENT: Final = frozenset({"merchant_id", "amount", "currency", "reason", "reference"})
_REQUEST: Final = frozenset({"merchant_id", "payment_id"})


def encode_data(data: OutsideData) -> dict[str, object]:
    """The members of `data`, but for the merchant's id."""
    match data:
        case WalletMovement():
            money: dict[str, object] = {"amount": data.money.amount, "currency": data.money.currency}
            return money | {"reason": data.reason, "reference": data.reference}
        case RefundRequest():
            fields: dict[str, object] = {"payment_id": public(PAYMENT, data.payment_id), "reason": data.reason}
        case CaptureRequest():
            fields = {"payment_id": public(PAYMENT, data.payment_id), "final": data.is_final}
    return fields if data.amount is None else fields | {"amount": data.amount}


def decode_data(fields: Mapping[str, object], event_type: OutsideType) -> OutsideData:
    """What the members of `data` say.

    Raises: NotStrict.
    """
    match event_type:
        case OutsideType.WALLET_CREDIT | OutsideType.WALLET_DEBIT:
            return _movement(fields)
        case OutsideType.REFUND_REQUEST:
            return _refund(fields)
        case OutsideType.CAPTURE_REQUEST:
            return _capture(fields)


def _movement(fields: Mapping[str, object]) -> WalletMovement:
    only(fields, required=_MOVEMENT)
    return WalletMovement(
        money=Money(amount=_amount(fields), currency=_currency(fields)),
        reason=text(fields, "reason"),
        reference=matching(fields, "reference", _REFERENCE),
    )


def _refund(fields: Mapping[str, object]) -> RefundRequest:
    only(fields, required=_REQUEST, optional=frozenset({"amount", "reason"}))
    reason = text(fields, "reason") if "reason" in fields else ""
    return RefundRequest(payment_id=_payment_id(fields), amount=_amount_or_all(fields), reason=reason)


def _capture(fields: Mapping[str, object]) -> CaptureRequest:
    only(fields, required=_REQUEST, optional=frozenset({"amount", "final"}))
    is_final = fields.get("final", False)
    if not isinstance(is_final, bool):
        raise NotStrict("final is neither true nor false")
    return CaptureRequest(payment_id=_payment_id(fields), amount=_amount_or_all(fields), is_final=is_final)


def _currency(fields: Mapping[str, object]) -> str:
    currency = text(fields, "currency")
    if currency not in _CURRENCIES:
        raise NotStrict("currency is not an ISO 4217 code in capitals")
    return currency


def _payment_id(fields: Mapping[str, object]) -> str:
    payment_id = parse(PAYMENT, text(fields, "payment_id"))
    if payment_id is None:
        raise NotStrict("payment_id is not pay_…")
    return payment_id


def _amount_or_all(fields: Mapping[str, object]) -> int | None:
    return _amount(fields) if "amount" in fields else None


def _amount(fields: Mapping[str, object]) -> int:
    return integer(fields, "amount", least=AMOUNT_MIN, most=AMOUNT_MAX)
