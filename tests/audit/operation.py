"""One thing asked of a PSP: what it said about it, in whatever order, and what was booked for it."""

from __future__ import annotations

from dataclasses import dataclass, field

from tests.audit.steps import Say

# Inquiries after which people must look, and calls that never left after which nobody tries again.
DOUBTS_MAX = 3
TRIES_MAX = 3
# Still under way.
OPEN = ("open", "pending", "unknown", "review")
# Of these the PSP need not repeat the amount: they move no money.
BARE = ("void", "cancel")


@dataclass(slots=True)
class Operation:
    """Amounts in minor units. `ours`: why it gives back although nobody asked, `late` or `surplus`."""

    name: str
    kind: str
    amount: int
    is_final: bool = False
    ours: str = ""
    state: str = "open"  # or pending, unknown, review, given_up, done, reversed
    said: set[str] = field(default_factory=set)
    calls: set[tuple[str, str]] = field(default_factory=set)  # those in doubt, and those that never left
    references: list[str] = field(default_factory=list)  # of what was done as asked
    taken_back: set[str] = field(default_factory=set)
    is_taken_back: bool = False  # or something else was, under its name: which of two charges, people must say
    is_disputed: bool = False  # the PSP speaks of another amount than was asked
    has_claim: bool = False  # and claims to have done it
    is_closed: bool = False  # its page was, for us
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

    def hear(self, step: Say) -> None:
        """Remember what the PSP said."""
        is_success = step.outcome in ("approved", "reversed")
        self.is_taken_back |= step.outcome == "reversed"
        if is_success and step.surplus and self.kind not in BARE:
            self.is_disputed = True
            self.has_claim |= step.outcome == "approved"
        elif step.outcome in ("unknown", "not_sent"):
            self.calls.add((step.outcome, step.event))
        else:
            self.said.add(step.outcome)
            self._remember_reference(step)
        self.judge()

    def _remember_reference(self, step: Say) -> None:
        if step.outcome == "approved" and step.reference not in self.references:
            self.references.append(step.reference)
        if step.outcome == "reversed":
            self.taken_back.add(step.reference)

    def judge(self) -> None:
        """What is known decides, not what came last: a success, then a denial, then a doubt."""
        doubts, unsent = (sum(call[0] == what for call in self.calls) for what in ("unknown", "not_sent"))
        if self.said & {"approved", "reversed"}:
            self.state = "reversed" if "reversed" in self.said else "done"
        elif self.has_claim:
            self.state = "unknown"
        elif self.said & {"declined", "expired"}:
            self.state = "given_up"
        elif "pending" in self.said:
            self.state = "given_up" if self.is_closed else "pending"
        elif "absent" in self.said:
            self.state = "given_up"
        elif doubts:
            self.state = "review" if doubts > DOUBTS_MAX else "unknown"
        else:
            self.state = "given_up" if unsent >= TRIES_MAX or self.is_closed else "open"

    @property
    def is_done(self) -> bool:
        """Whether it moved money: what was taken back had been given."""
        return self.state in ("done", "reversed")

    @property
    def is_open(self) -> bool:
        """Whether it may still move money."""
        return self.state in OPEN

    @property
    def is_denied(self) -> bool:
        """Whether the PSP said both that it did it and that it did not. An authorization may lapse later."""
        denials = {"declined"} if self.kind == "authorize" else {"declined", "expired"}
        return "approved" in self.said and bool(denials & self.said)

    @property
    def too_many(self) -> list[str]:
        """What was done more than once: the references beside the first one."""
        return [] if self.kind in BARE else self.references[1:]

    @property
    def net(self) -> int:
        """Of a capture: what is the merchant's without fee and reserve."""
        return self.amount - self.fee - self.reserve
