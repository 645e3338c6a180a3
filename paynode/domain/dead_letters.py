"""Dead letters as an operator sees them, and what may become of one: requeued or discarded, never edited."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from typing import Final

from paynode.domain import ids


class LetterStatus(StrEnum):
    """`dead` waits for an operator."""

    DEAD = "dead"
    REQUEUED = "requeued"
    DISCARDED = "discarded"


class Resolving(StrEnum):
    """The operator's two verbs."""

    REQUEUE = "requeue"
    DISCARD = "discard"


class Resolution(StrEnum):
    """What came of a verb. Only `done` changed something."""

    DONE = "done"
    NOT_FOUND = "not_found"
    RESOLVED_ALREADY = "resolved_already"
    NOTHING_TO_REQUEUE = "nothing_to_requeue"
    EVIDENCE_OF_MONEY = "evidence_of_money"
    OPERATION_OPEN = "operation_open"


WHY_NOT: Final[Mapping[Resolution, str]] = {
    Resolution.NOT_FOUND: "there is no such dead letter",
    Resolution.RESOLVED_ALREADY: "it was requeued or discarded before",
    Resolution.NOTHING_TO_REQUEUE: "it never was a message of ours or of a known publisher: it can only be discarded",
    Resolution.OPERATION_OPEN: "what it is about is open and would never end without it: requeue it",
    Resolution.EVIDENCE_OF_MONEY: "it may say that money moved: mend what keeps it from being read and requeue it",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class LetterFilter:
    """Which letters are meant; None means any. Of `since` and `until`, which ask when a letter failed first, the first
    is included and the second is not."""

    status: LetterStatus | None = LetterStatus.DEAD
    reason: str | None = None
    merchant_id: str | None = None
    stream: str | None = None
    since: datetime | None = None
    until: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class LetterView:
    """A letter as it stands in a list."""

    id: str
    status: LetterStatus
    stream: str
    entry_id: str
    row_id: str | None
    event_id: str | None
    type: str | None
    merchant_id: str | None
    payment_id: str | None
    reason: str
    error: str
    attempts: int
    first_failed_at: datetime
    resolved_at: datetime | None
    resolved_by: str | None
    can_requeue: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditLine:
    """What somebody did to a letter, and why."""

    at: datetime
    actor: str
    action: str
    note: str
    detail: Mapping[str, object]


@dataclass(frozen=True, slots=True, kw_only=True)
class LetterInFull:
    """A letter with all that is known: what came, what a requeue makes of it, who waits behind it, what was done."""

    letter: LetterView
    fields: Mapping[str, str]
    message: Mapping[str, object] | None
    parked: int
    audit: Sequence[AuditLine]


@dataclass(frozen=True, slots=True, kw_only=True)
class Grave:
    """One entry of a dead-letter stream; `letter` is the id that it shows, None for one that was not put by us."""

    entry_id: str
    letter: str | None


def public_letter(letter: LetterView) -> dict[str, object]:
    """The JSON of a letter: the same on the command line and over HTTP."""
    merchant_id, payment_id = letter.merchant_id, letter.payment_id
    return {
        "id": letter.id,
        "object": "dead_letter",
        "status": letter.status,
        "stream": letter.stream,
        "entry_id": letter.entry_id,
        "row_id": letter.row_id,
        "event_id": letter.event_id,
        "type": letter.type,
        "merchant_id": None if merchant_id is None else ids.public(ids.MERCHANT, merchant_id),
        "payment_id": None if payment_id is None else ids.public(ids.PAYMENT, payment_id),
        "reason": letter.reason,
        "error": letter.error,
        "attempts": letter.attempts,
        "first_failed_at": instant(letter.first_failed_at),
        "resolved_at": None if letter.resolved_at is None else instant(letter.resolved_at),
        "resolved_by": letter.resolved_by,
        "can_requeue": letter.can_requeue,
    }


def public_letter_in_full(found: LetterInFull) -> dict[str, object]:
    """The JSON of a letter with everything about it."""
    return {
        **public_letter(found.letter),
        "fields": dict(found.fields),
        "message": None if found.message is None else dict(found.message),
        "parked": found.parked,
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


def instant(at: datetime) -> str:
    """RFC 3339 in UTC with milliseconds."""
    return at.astimezone(UTC).isoformat(timespec="milliseconds").removesuffix("+00:00") + "Z"
