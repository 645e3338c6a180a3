"""The `data` of outside publishers' events: one shape for each type."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

from iso4217 import Currency

from paynode.domain.ids import PAYMENT, parse, public
from paynode.domain.money import AMOUNT_MAX, AMOUNT_MIN, Money
from paynode.domain.publishing import (
    CaptureRequest,
    OutsideData,
    OutsideType,
    PayoutEnd,
    PayoutOrder,
    RefundRequest,
    WalletMovement,
)
from paynode.streams.members import NotStrict, integer, matching, only, text

# Metals, funds and the codes for tests have no minor unit; nobody is paid in them.
_CURRENCIES: Final = frozenset(currency.code for currency in Currency if currency.exponent is not None)
_REFERENCE: Final = re.compile(r"[\x21-\x7e]{1,200}", re.ASCII)

_MOVEMENT: Final = frozenset({"merchant_id", "amount", "currency", "reason", "reference"})
_REQUEST: Final = frozenset({"merchant_id", "payment_id"})
_PAYOUT: Final = frozenset({"merchant_id", "amount", "currency", "reference"})
_PAYOUT_END: Final = frozenset({"merchant_id", "payout_id"})
_UUID: Final = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.ASCII)


def encode_data(data: OutsideData) -> dict[str, object]:
    """The members of `data`, but for the merchant's id."""
    match data:
        case WalletMovement():
            return _money(data.money) | {"reason": data.reason, "reference": data.reference}
        case PayoutOrder():
            return _money(data.money) | {"reference": data.reference}
        case PayoutEnd():
            return {"payout_id": data.payout_id, "reason": data.reason}
        case RefundRequest():
            fields: dict[str, object] = {"payment_id": public(PAYMENT, data.payment_id), "reason": data.reason}
        case CaptureRequest():
            fields = {"payment_id": public(PAYMENT, data.payment_id), "final": data.is_final}
    return fields if data.amount is None else fields | {"amount": data.amount}


def _money(money: Money) -> dict[str, object]:
    return {"amount": money.amount, "currency": money.currency}


def decode_data(fields: Mapping[str, object], event_type: OutsideType) -> OutsideData:
    """What the members of `data` say.

    Raises: NotStrict.
    """
    match event_type:
        case OutsideType.WALLET_CREDIT | OutsideType.WALLET_DEBIT | OutsideType.WALLET_WRITE_OFF:
            return _movement(fields)
        case OutsideType.PAYOUT_CREATE:
            return _payout(fields)
        case OutsideType.PAYOUT_PAID | OutsideType.PAYOUT_FAILED:
            return _payout_end(fields)
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


def _payout(fields: Mapping[str, object]) -> PayoutOrder:
    only(fields, required=_PAYOUT)
    return PayoutOrder(
        money=Money(amount=_amount(fields), currency=_currency(fields)),
        reference=matching(fields, "reference", _REFERENCE),
    )


def _payout_end(fields: Mapping[str, object]) -> PayoutEnd:
    only(fields, required=_PAYOUT_END, optional=frozenset({"reason"}))
    reason = text(fields, "reason") if "reason" in fields else ""
    return PayoutEnd(payout_id=matching(fields, "payout_id", _UUID), reason=reason)


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
