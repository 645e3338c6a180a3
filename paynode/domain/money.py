"""Money: an integer of minor units and an ISO 4217 code. Never a float, never a Decimal made from user text."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from paynode.domain.record import record

# Minor units. 10^12 is ten thousand million euros: a bound that catches a unit mistake and leaves bigint sums room.
AMOUNT_MIN: Final = 1
AMOUNT_MAX: Final = 10**12

BASIS_POINTS: Final = 10_000


@record
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
    """What paynode keeps: `fixed` minor units of a payment, `basis_points` (1/100 of a percent) of each capture."""

    fixed: int
    basis_points: int


def shares(amount: int, weights: Sequence[int]) -> tuple[int, ...]:
    """Divide `amount` minor units by `weights`, by largest remainder: the shares sum up to it exactly.

    Each share is rounded down; the units that are left go, one each, to where most was cut off, of equals to the first.
    """
    whole = sum(weights)
    parts = [divmod(amount * weight, whole) for weight in weights]
    left = amount - sum(share for share, _ in parts)
    by_cut_off = sorted(range(len(weights)), key=lambda place: -parts[place][1])
    favoured = frozenset(by_cut_off[:left])
    return tuple(share + (place in favoured) for place, (share, _) in enumerate(parts))
