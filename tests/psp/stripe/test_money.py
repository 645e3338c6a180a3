"""Amounts as Stripe counts them, against ISO 4217."""

from __future__ import annotations

import pytest
from iso4217 import Currency

from paynode.domain.money import Money
from paynode.psp.stripe_money import CURRENCIES, from_stripe, to_stripe

# https://docs.stripe.com/currencies: without a minor unit, and with a thousandth. ISK and UGX are said to have a
# hundredth, which is always 00.
_ZERO = frozenset(
    {
        *("BIF", "CLP", "DJF", "GNF", "JPY", "KMF", "KRW", "MGA"),
        *("PYG", "RWF", "VND", "VUV", "XAF", "XOF", "XPF"),
    }
)
_THREE = frozenset({"BHD", "JOD", "KWD", "OMR", "TND"})


def _decimals_at_stripe(code: str) -> int:
    return 0 if code in _ZERO else 3 if code in _THREE else 2


def test_one_major_unit_is_the_same_money_to_both() -> None:
    for code in sorted(CURRENCIES):
        exponent = Currency(code).exponent
        assert exponent is not None, code
        ours = Money(amount=10**exponent, currency=code)
        assert to_stripe(ours) == 10 ** _decimals_at_stripe(code), code
        assert from_stripe(to_stripe(ours), code.lower()) == ours


def test_what_cannot_be_said_to_stripe_is_not_offered() -> None:
    # A hundredth of an ariary exists for ISO 4217 and not for Stripe.
    assert Currency("MGA").exponent == 2
    assert "MGA" not in CURRENCIES
    assert all(_decimals_at_stripe(code) >= (Currency(code).exponent or 0) for code in CURRENCIES)


def test_a_part_of_a_krona_is_no_money() -> None:
    assert from_stripe(500, "isk") == Money(amount=5, currency="ISK")
    with pytest.raises(ValueError, match="no whole amount"):
        from_stripe(501, "isk")


@pytest.mark.parametrize("amount", [1, 10**12])
def test_amounts_stay_exact_integers(amount: int) -> None:
    for code in ("EUR", "JPY", "KWD", "UGX"):
        assert from_stripe(to_stripe(Money(amount=amount, currency=code)), code.lower()).amount == amount
