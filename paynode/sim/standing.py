"""What has become of one approved charge, and what may still be done with it. Pure: no clock, no files."""

from __future__ import annotations

from dataclasses import dataclass

from paynode.sim.records import Entry, Kind, Session


@dataclass(slots=True)
class Standing:
    """The sums of everything that was approved for one charge."""

    charge: Entry
    captured: int = 0
    refunded: int = 0
    voided: int = 0
    reversed: int = 0
    is_final: bool = False
    is_lapsed: bool = False

    def __post_init__(self) -> None:
        if self.charge.kind is Kind.SALE:
            self.captured = self.charge.amount
            self.is_final = True

    @property
    def remaining(self) -> int:
        """What may still be captured or let go; what was taken back later is not there again."""
        return 0 if self.is_final or self.is_lapsed else self.charge.amount - self.captured - self.voided

    @property
    def refundable(self) -> int:
        return max(self.captured - self.reversed - self.refunded, 0)

    def apply(self, entry: Entry) -> None:
        """Add an approved capture, void or refund."""
        match entry.kind:
            case Kind.CAPTURE:
                self.captured += entry.amount
                self.is_final = self.is_final or entry.is_final
            case Kind.VOID:
                self.voided += entry.amount
            case Kind.REFUND:
                self.refunded += entry.amount

    def take_back(self, entry: Entry) -> None:
        """Undo something approved: a charge that the cardholder disputes, a refund that did not arrive."""
        if entry.kind is Kind.REFUND:
            self.refunded -= entry.amount
        else:
            self.reversed += entry.amount

    def refusal(self, kind: Kind, amount: int, currency: str) -> str | None:
        """Why an operation can never be, in words that stay; None when it can."""
        if currency != self.charge.currency:
            return "currency_mismatch"
        match kind:
            case Kind.CAPTURE:
                return self._refusal_of_capture(amount)
            case Kind.VOID:
                return self._refusal_of_void()
            case _:
                return self._refusal_of_refund(amount)

    def _refusal_of_capture(self, amount: int) -> str | None:
        if self.charge.kind is Kind.SALE:
            return "not_capturable"
        if self.voided:
            return "authorization_voided"
        if self.is_lapsed:
            return "authorization_expired"
        if self.remaining == 0:
            return "already_captured"
        return "amount_exceeds_authorized" if amount > self.remaining else None

    def _refusal_of_void(self) -> str | None:
        if self.voided:
            return "already_voided"
        if self.is_lapsed:
            return "authorization_expired"
        return "already_captured" if self.remaining == 0 else None

    def _refusal_of_refund(self, amount: int) -> str | None:
        if self.captured == 0:
            return "nothing_captured"
        if self.refundable == 0:
            return "already_refunded" if self.refunded else "charge_reversed"
        return "amount_exceeds_captured" if amount > self.refundable else None


def refusal_of_cancel(session: Session) -> str | None:
    """A page that is not open any more says how it ended."""
    if session.status == "open":
        return None
    return "already_paid" if session.status == "approved" else f"already_{session.status}"
