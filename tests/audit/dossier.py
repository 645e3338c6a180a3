"""What is known about one payment, said from the design in the simplest words: lists are looked through each time."""

from __future__ import annotations

from dataclasses import dataclass, field

from tests.audit.steps import Accept, Ask, Say, Terms

# Inquiries after which people must look.
DOUBTS_MAX = 3
# Still under way.
OPEN = ("open", "unknown", "review")


@dataclass(slots=True)
class Operation:
    """One thing asked of a PSP, what it said about it, and what was booked for it. Amounts in minor units."""

    name: str
    kind: str
    amount: int
    is_final: bool = False
    is_ours: bool = False  # nobody asked for it: it gives back
    state: str = "open"  # or done, reversed, given_up, unknown, review
    said: set[str] = field(default_factory=set)
    doubts: set[str] = field(default_factory=set)
    is_disputed: bool = False  # the PSP speaks of another amount than was asked
    has_claim: bool = False  # and claims to have done it
    booked: list[str] = field(default_factory=list)
    from_available: int = 0
    from_pending: int = 0
    # Of a capture: what was taken of it, what of it waits for its day, and when that is.
    fee: int = 0
    reserve: int = 0
    rest_pending: int = 0
    rest_reserve: int = 0
    is_waiting: bool = False
    available_on: int | None = None
    released_on: int | None = None

    def hear(self, said: Say) -> None:
        """Remember what the PSP said."""
        if said.outcome in ("approved", "reversed") and said.surplus and self.kind != "void":
            self.is_disputed = True
            self.has_claim |= said.outcome == "approved"
        elif said.outcome == "unknown":
            self.doubts.add(said.event)
        else:
            self.said.add(said.outcome)

        self.state = self._judged()

    @property
    def is_done(self) -> bool:
        """Whether it moved money: what was taken back had been given."""
        return self.state in ("done", "reversed")

    def _judged(self) -> str:
        if self.said & {"approved", "reversed"}:
            return "reversed" if "reversed" in self.said else "done"
        if self.has_claim:
            return "unknown"
        if self.said & {"declined", "absent"}:
            return "given_up"
        if self.doubts:
            return "review" if len(self.doubts) > DOUBTS_MAX else "unknown"
        return "open"

    @property
    def is_open(self) -> bool:
        """Whether it may still move money."""
        return self.state in OPEN


@dataclass(slots=True)
class Dossier:
    """A payment."""

    accepted: Accept
    terms: Terms
    operations: list[Operation]
    is_given_up: bool = False  # its order may be paid by another payment

    @property
    def charge(self) -> Operation:
        """What it began with."""
        return self.operations[0]

    def of(self, kind: str, *states: str) -> list[Operation]:
        """Its operations of a kind, in some of the states."""
        return [one for one in self.operations if one.kind == kind and (not states or one.state in states)]

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
    def left(self) -> int:
        """What of an authorization can still be captured or let go, were it not for operations under way."""
        used = self.of("capture", *OPEN, "done", "reversed")
        voided = self.of("void", *OPEN, "done")
        return max(self.authorized - sum(one.amount for one in [*used, *voided]), 0)

    # -- review -------------------------------------------------------------------------------------------------------

    @property
    def is_in_review(self) -> bool:
        """Whether people must look, before anything else can be asked for."""
        return self._is_contradicted or self._breaks_a_law

    @property
    def _is_contradicted(self) -> bool:
        is_explained = any(one.is_ours for one in self.operations)
        for one in self.operations:
            is_denied = "approved" in one.said and "declined" in one.said
            if one.is_disputed or (is_denied and not (one is self.charge and is_explained)):
                return True
            if one.state == "review" or (one.is_ours and one.state in ("given_up", "reversed")):
                return True
        return False

    @property
    def _breaks_a_law(self) -> bool:
        if not self.authorized:
            return False
        if self.charge.kind == "authorize" and self.charge.state == "reversed" and self.taken:
            return True
        captured = max(self.taken, self.refunded + self.refunding)
        capturing = self.total("capture", *OPEN)
        voids = self.total("void", *OPEN, "done")
        return captured > self.taken or captured + capturing + voids > self.authorized

    # -- requests -----------------------------------------------------------------------------------------------------

    def refusal(self, ask: Ask) -> str | None:
        """Why a request cannot be, whatever the merchant's wallet holds."""
        if any(one.state == "unknown" for one in self.operations):
            return "operation_outcome_unknown"
        if self.is_in_review:
            return "payment_under_review"
        if ask.kind == "refund":
            return self._refusal_of_refund(ask)
        name = "capturable" if ask.kind == "capture" else "voidable"
        if self.charge.kind != "authorize":
            return f"payment_not_{name}"
        if self.charge.state != "done":
            return "payment_not_authorized"
        return self._refusal_of_capture(ask) if ask.kind == "capture" else self._refusal_of_void()

    def _refusal_of_refund(self, ask: Ask) -> str | None:
        if self.refundable == 0:
            return "payment_not_refundable"
        return "amount_exceeds_captured" if (ask.amount or self.refundable) > self.refundable else None

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

    @property
    def refundable(self) -> int:
        """What of it can still be given back."""
        return self.captured - self.refunded - self.refunding

    @property
    def capturable(self) -> int:
        """What a capture may take: nothing after the last one."""
        ends = self.of("capture", *OPEN, "done")
        is_over = self.charge.kind == "sale" or any(one.is_final for one in ends)
        return 0 if is_over else self.left

    def amount_of(self, ask: Ask) -> int:
        """What a request that can be is for."""
        if ask.kind == "refund":
            return ask.amount or self.refundable
        return self.capturable if ask.kind == "void" else ask.amount or self.capturable
