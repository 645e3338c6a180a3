"""What is known about one payment, said from the design in the simplest words: lists are looked through each time."""

from __future__ import annotations

from dataclasses import dataclass

from tests.audit.operation import BARE, OPEN, Operation
from tests.audit.steps import Accept, Ask, Terms


@dataclass(slots=True)
class Dossier:
    """A payment; its first operation is the charge, a sale or an authorization."""

    accepted: Accept
    terms: Terms
    operations: list[Operation]
    is_given_up: bool = False  # its order may be paid by another payment

    @property
    def charge(self) -> Operation:
        """What it began with."""
        return self.operations[0]

    def of(self, kind: str, *states: str) -> list[Operation]:
        """Its operations of a kind, in some of the states; what gives a surplus back is none of it."""
        return [one for one in self.operations if one.kind == kind and one.state in states and one.ours != "surplus"]

    def total(self, kind: str, *states: str) -> int:
        """The sum of these."""
        return sum(one.amount for one in self.of(kind, *states))

    # -- amounts ------------------------------------------------------------------------------------------------------

    @property
    def authorized(self) -> int:
        """What the customer's bank has agreed to."""
        return self.accepted.amount if self.charge.is_done else 0

    @property
    def refunded(self) -> int:
        """What was given back."""
        return self.total("refund", "done")

    @property
    def refunding(self) -> int:
        """What may yet be given back."""
        return self.total("refund", *OPEN)

    @property
    def taken(self) -> int:
        """What was captured and not taken back, as the ledger has it."""
        kind = "sale" if self.charge.kind == "sale" else "capture"
        return self.total(kind, "done")

    @property
    def captured(self) -> int:
        """What is shown as captured: never less than is given back, never more than was authorized."""
        return min(max(self.taken, self.refunded + self.refunding), self.authorized)

    @property
    def has_moved_too_much(self) -> bool:
        """Whether more was captured, or given back, than the customer's bank had agreed to."""
        return max(self.taken, self.refunded + self.refunding) > self.authorized

    @property
    def refundable(self) -> int:
        """What can still be given back."""
        return self.captured - self.refunded - self.refunding

    @property
    def left(self) -> int:
        """What of an authorization can still be captured or let go, were it not for operations under way."""
        used = self.of("capture", *OPEN, "done", "reversed")
        voided = self.of("void", *OPEN, "done")
        return max(self.authorized - sum(one.amount for one in [*used, *voided]), 0)

    @property
    def capturable(self) -> int:
        """What a capture may take: nothing after the last one, nor after the authorization has lapsed."""
        has_last = any(one.is_final for one in self.of("capture", *OPEN, "done"))
        is_over = self.charge.kind == "sale" or has_last or "expired" in self.charge.said
        return 0 if is_over else self.left

    # -- review -------------------------------------------------------------------------------------------------------

    @property
    def is_in_review(self) -> bool:
        """Whether people must look, before anything else can be asked for."""
        return any(map(self._is_contradicted, self.operations)) or self._breaks_a_law

    def _is_contradicted(self, one: Operation) -> bool:
        is_explained = one is self.charge and any(other.ours == "late" for other in self.operations)
        return (
            one.is_disputed
            or (one.is_denied and not is_explained)
            or self._is_doubled(one)
            or one.state == "review"
            or (bool(one.ours) and one.state in ("given_up", "reversed"))
        )

    def _is_doubled(self, one: Operation) -> bool:
        """Whether it happened twice, and what was too much has not been given back, or was taken back as well."""
        if one.kind in BARE:
            return False
        references = one.taken_back | set(one.references)
        if one is self.charge and not one.is_taken_back:
            backs = [other for other in self.operations if other.ours == "surplus" and not other.is_open]
            references -= {reference for reference in one.too_many if self.name_of_return(reference) in _names(backs)}
        return len(references) > 1

    def name_of_return(self, reference: str) -> str:
        """What the operation is called that gives a charge back which was one too many."""
        return f"{self.accepted.payment}.back.{reference}"

    @property
    def _breaks_a_law(self) -> bool:
        if not self.authorized:
            return False
        if self.charge.kind == "authorize" and self.charge.state == "reversed" and self.taken:
            return True
        captured = max(self.taken, self.refunded + self.refunding)
        under_way = self.total("capture", *OPEN) + self.total("void", *OPEN, "done")
        return captured > self.taken or captured + under_way > self.authorized

    # -- requests -----------------------------------------------------------------------------------------------------

    def refusal(self, ask: Ask) -> str | None:
        """Why a request cannot be, whatever the merchant's wallet holds."""
        if any(one.state == "unknown" for one in self.operations):
            return "operation_outcome_unknown"
        if self.is_in_review:
            return "payment_under_review"
        if ask.kind == "refund":
            return self._refusal_of_refund(ask)
        if ask.kind == "cancel":
            return self._refusal_of_cancel()
        name = "payment_not_capturable" if ask.kind == "capture" else "payment_not_voidable"
        if self.charge.kind != "authorize":
            return name
        if self.charge.state != "done":
            return "payment_not_authorized"
        if "expired" in self.charge.said:
            return name
        return self._refusal_of_capture(ask) if ask.kind == "capture" else self._refusal_of_void()

    def _refusal_of_refund(self, ask: Ask) -> str | None:
        if self.refundable == 0:
            return "payment_not_refundable"
        return "amount_exceeds_captured" if (ask.amount or self.refundable) > self.refundable else None

    def _refusal_of_cancel(self) -> str | None:
        """Only a page that is open can be closed, once."""
        if self.charge.state == "open":
            return "payment_not_cancelable" if self.is_given_up else "operation_in_flight"
        if self.charge.state != "pending" or self.of("cancel", "done"):
            return "payment_not_cancelable"
        return "operation_in_flight" if self.of("cancel", *OPEN) else None

    def _refusal_of_capture(self, ask: Ask) -> str | None:
        if self._is_being_voided or (ask.is_final and self.of("capture", *OPEN)):
            return "operation_in_flight"
        if self.capturable == 0:
            return "payment_not_capturable"
        return "amount_exceeds_authorized" if (ask.amount or self.capturable) > self.capturable else None

    def _refusal_of_void(self) -> str | None:
        if self._is_being_voided or self.of("capture", *OPEN):
            return "operation_in_flight"
        return None if self.capturable else "payment_not_voidable"

    @property
    def _is_being_voided(self) -> bool:
        """By a void, or with the last capture."""
        lets_go = any(one.is_final for one in self.of("capture", *OPEN))
        is_over = any(one.is_final for one in self.of("capture", "done"))
        rest = self.left + self.total("capture", "reversed")  # what was taken back is let go of as well
        return bool(self.of("void", *OPEN)) or (lets_go and not is_over and rest > 0)

    def operation_of(self, ask: Ask) -> Operation:
        """What a request becomes that can be."""
        match ask.kind:
            case "refund":
                amount = ask.amount or self.refundable
            case "cancel":
                amount = self.accepted.amount
            case _:
                amount = ask.amount or self.capturable
        is_rest = amount == self.left and not self.of("capture", *OPEN)
        is_last = ask.kind == "capture" and (ask.is_final or is_rest)
        return Operation(name=ask.request, kind=ask.kind, amount=amount, is_final=is_last)


def _names(operations: list[Operation]) -> set[str]:
    return {one.name for one in operations}
