"""Screening: whether a charge may be sent at all, as a fraud check outside of paynode sees it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from paynode.domain.money import Money
from paynode.domain.payment import Method, OperationKind, PspOrder

# What moves money towards a merchant. The rest follows a charge that was screened.
SCREENED_KINDS = frozenset({OperationKind.SALE, OperationKind.AUTHORIZE})

# The reason that stands on a payment which the check rejected, before it was sent and after.
REJECTED_REASON = "fraud_rejected"
LATE_REJECTED_REASON = "fraud_rejected_late"


class Opinion(StrEnum):
    """What the check says."""

    PASS = "pass"  # noqa: S105 - a word, not a secret
    REJECT = "reject"
    REVIEW = "review"
    OUT = "out"  # nothing, in time: it is away, slow, full or not to be understood


class Verdict(StrEnum):
    """What that means for the charge. A verdict other than `held` never changes."""

    NONE = "none"  # nobody was asked
    PASSED = "passed"
    BYPASSED = "bypassed"  # the check was out, and the amount was within the caps
    REJECTED = "rejected"
    HELD = "held"  # nothing is sent before somebody lets it go


@dataclass(frozen=True, slots=True, kw_only=True)
class Judgement:
    """An opinion and a stable word that says why (`velocity`, `timeout`, `breaker_open`, ...)."""

    opinion: Opinion
    reason: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Screened:
    """The verdict on one operation, for ever the same unless it is `held`."""

    verdict: Verdict
    reason: str = ""

    @property
    def lets_pass(self) -> bool:
        """Whether the charge may be sent."""
        return self.verdict not in (Verdict.REJECTED, Verdict.HELD)

    @property
    def fraud_check(self) -> str | None:
        """As merchants see it; None when nobody was asked."""
        match self.verdict:
            case Verdict.NONE:
                return None
            case Verdict.HELD:
                return "review"
            case _:
                return self.verdict.value


NOT_SCREENED = Screened(verdict=Verdict.NONE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """All that leaves the house about a charge: no token, no name, no address, no description.

    `customer` is a salted digest of the customer's e-mail address, None where there is none or no salt is set.
    """

    operation_id: str
    payment_id: str
    merchant_id: str
    kind: OperationKind
    method: Method
    money: Money
    customer: str | None = None

    @classmethod
    def about(cls, order: PspOrder, customer: str | None) -> Question:
        """What is asked about an order."""
        return cls(
            operation_id=order.operation_id,
            payment_id=order.payment_id,
            merchant_id=order.merchant_id,
            kind=order.kind,
            method=order.method,
            money=order.money,
            customer=customer,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """What is known of an operation before the check is asked: its verdict, if it has one."""

    screened: Screened | None
    customer: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Allowance:
    """What may pass in one currency while the check is out, in minor units.

    `payment_max` of one payment; `hour_max` of one merchant in one hour of the clock, all gateways together.
    """

    payment_max: int
    hour_max: int


NO_ALLOWANCE = Allowance(payment_max=0, hour_max=0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Owed:
    """A charge about which the check was asked in vain: it went unscreened (`bypassed`) or waits (`held`)."""

    question: Question
    verdict: Verdict


@dataclass(frozen=True, slots=True, kw_only=True)
class ScreenedView:
    """A screening as people see it. `is_owed`: the check is asked again; `opinion`: what was said later."""

    payment_id: str
    merchant_id: str
    money: Money
    verdict: Verdict
    reason: str
    at: datetime
    is_owed: bool
    opinion: Opinion | None


class Settled(StrEnum):
    """What became of a verdict that came later."""

    CONFIRMED = "confirmed"  # a charge that went unscreened was in order
    MARKED = "marked"  # ... was not: people are told
    RELEASED = "released"  # a held charge is on its way
    REFUSED = "refused"  # a held charge is declined
    KEPT = "kept"  # still held: now a person has to say
    DEFERRED = "deferred"  # rejected too late, and its money is not given back yet: asked again
    CLOSED = "closed"  # a held charge is not wanted any more
    KNOWN = "known"  # somebody was faster, or there is no such screening
