"""Money: an integer of minor units and an ISO 4217 code. Never a float, never a Decimal made from user text."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

# Minor units. 10^12 is ten thousand million euros: a bound that catches a unit mistake and leaves bigint sums room.
AMOUNT_MIN: Final = 1
AMOUNT_MAX: Final = 10**12

BASIS_POINTS: Final = 10_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Money:
    """`amount` in minor units of `currency`; may be negative (a difference)."""

    amount: int
    currency: str

    def __post_init__(self) -> None:
        if type(self.amount) is not int:
            raise TypeError(f"an amount is an int of minor units, not {type(self.amount).__name__}")
        if len(self.currency) != 3:
            raise ValueError(f"a currency is an ISO 4217 code, not {self.currency!r}")

    def __add__(self, other: Money) -> Money:
        self._same_currency(other)
        return Money(amount=self.amount + other.amount, currency=self.currency)

    def __sub__(self, other: Money) -> Money:
        self._same_currency(other)
        return Money(amount=self.amount - other.amount, currency=self.currency)

    def __neg__(self) -> Money:
        return Money(amount=-self.amount, currency=self.currency)

    def _same_currency(self, other: Money) -> None:
        if self.currency != other.currency:
            raise ValueError(f"cannot mix {self.currency} and {other.currency}")


@dataclass(frozen=True, slots=True, kw_only=True)
class FeePlan:
    """What paynode keeps of a capture: `fixed` minor units and `basis_points` (1/100 of a percent) of it."""

    fixed: int
    basis_points: int

    def fee(self, captured: Money) -> Money:
        """The fee of one capture: half a minor unit rounds up, and a fee never exceeds what it is taken from."""
        share = (captured.amount * self.basis_points + BASIS_POINTS // 2) // BASIS_POINTS
        return Money(amount=min(self.fixed + share, captured.amount), currency=captured.currency)
