"""On which terms a merchant is paid: what paynode keeps of a capture, what it holds back, and when the rest is there.

A payment has the terms that were in force when it was accepted, for ever: what is posted for it, and what is taken
back, follows from them alone.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Final

from paynode.domain.money import BASIS_POINTS, FeePlan, shares
from paynode.domain.record import record

DAY_MS: Final = 86_400_000


class Availability(StrEnum):
    """What makes a capture available."""

    DATE = "date"  # so many days after it was booked
    SETTLEMENT = "settlement"  # the PSP's report says that it is paid out


@record
class Split:
    """A captured amount, in minor units: what paynode keeps, what it holds back, what is left."""

    fee: int
    reserve: int
    rest: int


@record
class Terms:
    """`reserve_basis_points` of a capture are held back for `reserve_days`; the rest is available by `availability`,
    after `available_days` if that is a date.
    """

    fees: FeePlan
    reserve_basis_points: int = 0
    reserve_days: int = 0
    availability: Availability = Availability.DATE
    available_days: int = 2

    def split(self, captured: int, *, has_fixed_fee: bool) -> Split:
        """Divide `captured` minor units, none lost; the fixed fee comes out of the rest, as far as it goes."""
        kept, held = self.fees.basis_points, self.reserve_basis_points
        fee, reserve, rest = shares(captured, (kept, held, BASIS_POINTS - kept - held))
        fixed = min(self.fees.fixed, rest) if has_fixed_fee else 0
        return Split(fee=fee + fixed, reserve=reserve, rest=rest - fixed)

    def available_at_ms(self, booked_at_ms: int) -> int | None:
        """When a capture becomes available (milliseconds since 1970); None: when the PSP has settled it."""
        is_by_date = self.availability is Availability.DATE
        return booked_at_ms + self.available_days * DAY_MS if is_by_date else None

    def released_at_ms(self, booked_at_ms: int) -> int:
        """When what is held back of a capture is released (milliseconds since 1970)."""
        return booked_at_ms + self.reserve_days * DAY_MS
