"""What people see of reconciliation, and what they decide about it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Final

from paynode.domain import ids
from paynode.domain.dead_letters import AuditLine, instant
from paynode.domain.reconciling import Evidence


class BreakState(StrEnum):
    """What has become of a difference."""

    OPEN = "open"
    REPAIRING = "repairing"
    REPAIRED = "repaired"
    DISMISSED = "dismissed"
    GONE = "gone"


OPEN_STATES: Final = (BreakState.OPEN, BreakState.REPAIRING)


@dataclass(frozen=True, slots=True, kw_only=True)
class BreakFilter:
    """Which are meant; None: all."""

    states: Sequence[BreakState] | None = None
    kind: str | None = None
    psp: str | None = None
    merchant_id: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class BreakView:
    """One difference as it is shown. Amounts in minor units; `age_s` in seconds since it was first seen."""

    id: str
    area: str
    kind: str
    subject: str
    state: BreakState
    merchant_id: str | None
    payment_id: str | None
    operation_id: str | None
    psp: str | None
    reference: str | None
    currency: str | None
    expected: int
    found: int
    drift: int
    size: int
    about_at: datetime | None
    first_seen_at: datetime
    last_seen_at: datetime
    age_s: int
    evidence: Evidence
    repair: Evidence
    repairs: int
    proposed_by: str | None
    approved_by: str | None
    resolved_at: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class BreakInFull:
    """A difference with what was done about it."""

    view: BreakView
    first_run: str
    last_run: str
    audit: Sequence[AuditLine]


@dataclass(frozen=True, slots=True, kw_only=True)
class RunView:
    """The last run of its kind."""

    id: str
    area: str
    psp: str | None
    is_full: bool
    inputs: Evidence
    found: Mapping[str, int]
    drift: Mapping[str, int]
    digest: str
    checked: int
    repairs: int
    rounds: int
    ended_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class BreakTotal:
    """All open differences of a kind in a currency: how many, and how much money differs in minor units."""

    kind: str
    currency: str
    count: int
    size: int


class Decision(StrEnum):
    """What came of an operator's verb."""

    DONE = "done"
    NOT_FOUND = "not_found"
    NOT_OPEN = "not_open"
    NO_MONEY_DIFFERS = "no_money_differs"
    ACCOUNT_REFUSED = "account_refused"
    AMOUNT_REFUSED = "amount_refused"
    NO_MERCHANT = "no_merchant"
    NOTHING_PROPOSED = "nothing_proposed"
    SAME_PERSON = "same_person"


WHY_NOT: Final = {
    Decision.NOT_FOUND: "there is no such break",
    Decision.NOT_OPEN: "it is being repaired, or is over",
    Decision.NO_MONEY_DIFFERS: "no money differs in it: there is nothing to adjust",
    Decision.ACCOUNT_REFUSED: "between two of psp:<psp>:receivable, suspense:<psp>, suspense:internal, loss, bank, "
    "psp_fee_expense and merchant:available",
    Decision.AMOUNT_REFUSED: "an adjustment repairs the difference, and no more than that",
    Decision.NO_MERCHANT: "it is no merchant's, so that no merchant's account can be adjusted",
    Decision.NOTHING_PROPOSED: "nobody has proposed anything yet",
    Decision.SAME_PERSON: "whoever proposed it cannot approve it",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class ProposedPosting:
    """A compensating posting, in minor units of the break's currency."""

    debit: str
    credit: str
    amount: int


def public_break(view: BreakView) -> dict[str, object]:
    """The JSON of a break."""
    return {
        "id": view.id,
        "object": "reconciliation_break",
        "area": view.area,
        "kind": view.kind,
        "state": view.state,
        "subject": view.subject,
        "merchant_id": view.merchant_id and ids.public(ids.MERCHANT, view.merchant_id),
        "payment_id": view.payment_id and ids.public(ids.PAYMENT, view.payment_id),
        "operation_id": view.operation_id,
        "psp": view.psp,
        "reference": view.reference,
        "currency": view.currency,
        "expected": view.expected,
        "found": view.found,
        "drift": view.drift,
        "size": view.size,
        "about_at": view.about_at and instant(view.about_at),
        "first_seen_at": instant(view.first_seen_at),
        "last_seen_at": instant(view.last_seen_at),
        "age_s": view.age_s,
        "evidence": dict(view.evidence),
        "repair": dict(view.repair) or None,
        "repairs": view.repairs,
        "proposed_by": view.proposed_by,
        "approved_by": view.approved_by,
        "resolved_at": view.resolved_at and instant(view.resolved_at),
    }


def public_run(run: RunView) -> dict[str, object]:
    """The JSON of a run."""
    return {
        "id": run.id,
        "area": run.area,
        "psp": run.psp,
        "is_full": run.is_full,
        "inputs": dict(run.inputs),
        "found": dict(run.found),
        "drift": dict(run.drift),
        "sha256": run.digest,
        "checked": run.checked,
        "repairs": run.repairs,
        "rounds": run.rounds,
        "ended_at": instant(run.ended_at),
    }


def public_break_in_full(found: BreakInFull) -> dict[str, object]:
    """The JSON of a break with everything about it."""
    return {
        **public_break(found.view),
        "first_run": found.first_run,
        "last_run": found.last_run,
        "audit": [
            {
                "at": instant(line.at),
                "actor": line.actor,
                "action": line.action,
                "note": line.note,
                "detail": dict(line.detail),
            }
            for line in found.audit
        ],
    }
