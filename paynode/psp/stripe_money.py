"""Amounts as Stripe counts them: ours (ISO 4217 minor units), but that it still divides two currencies by a hundred."""

from __future__ import annotations

from typing import Final

from paynode.domain.money import Money

# Stripe's units in one of ours: ISO 4217 says that these have no minor unit, Stripe's API says two decimals, always 00.
_UNITS: Final = {"ISK": 100, "UGX": 100}

# What Stripe charges cards in; which of them an account may use is decided by its country, and told by a refusal. Left
# out is MGA: ISO 4217 divides it by a hundred and Stripe does not, so that some of our amounts could not be said.
CURRENCIES: Final = frozenset(
    {
        *("AED", "AFN", "ALL", "AMD", "AOA", "ARS", "AUD", "AWG", "AZN", "BAM", "BBD", "BDT"),
        *("BHD", "BIF", "BMD", "BND", "BOB", "BRL", "BSD", "BWP", "BYN", "BZD", "CAD", "CDF", "CHF", "CLP"),
        *("CNY", "COP", "CRC", "CVE", "CZK", "DJF", "DKK", "DOP", "DZD", "EGP", "ETB", "EUR", "FJD", "FKP"),
        *("GBP", "GEL", "GIP", "GMD", "GNF", "GTQ", "GYD", "HKD", "HNL", "HTG", "HUF", "IDR", "ILS", "INR"),
        *("ISK", "JMD", "JOD", "JPY", "KES", "KGS", "KHR", "KMF", "KRW", "KWD", "KYD", "KZT", "LAK", "LBP"),
        *("LKR", "LRD", "LSL", "MAD", "MDL", "MKD", "MMK", "MNT", "MOP", "MUR", "MVR", "MWK", "MXN", "MYR"),
        *("MZN", "NAD", "NGN", "NIO", "NOK", "NPR", "NZD", "OMR", "PAB", "PEN", "PGK", "PHP", "PKR", "PLN"),
        *("PYG", "QAR", "RON", "RSD", "RUB", "RWF", "SAR", "SBD", "SCR", "SEK", "SGD", "SHP", "SOS", "SRD"),
        *("SZL", "THB", "TJS", "TND", "TOP", "TRY", "TTD", "TWD", "TZS", "UAH", "UGX", "USD", "UYU", "UZS"),
        *("VND", "VUV", "WST", "XAF", "XCD", "XOF", "XPF", "YER", "ZAR", "ZMW"),
    }
)


def to_stripe(money: Money) -> int:
    """The amount in Stripe's units. Dinars are sent as they are: an odd last digit is for Stripe to refuse."""
    return money.amount * _UNITS.get(money.currency, 1)


def from_stripe(amount: int, currency: str) -> Money:
    """What Stripe's amount and lower-case currency are to us. Raises: ValueError (no whole number of ours)."""
    code = currency.upper()
    whole, rest = divmod(amount, _UNITS.get(code, 1))
    if rest:
        raise ValueError(f"{amount} is no whole amount of {code}")
    return Money(amount=whole, currency=code)
