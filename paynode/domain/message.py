"""What arrives for a merchant's actor, and what becomes of that which cannot be read."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from paynode.domain.payment import Fact


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """An outbox row that a pointer led to. `ref` is its id, and claiming its effect is deleting that row."""

    ref: str
    merchant_id: str
    fact: Fact


@dataclass(frozen=True, slots=True, kw_only=True)
class Unreadable:
    """A row or an entry that nothing can be done with.

    `ref` is the outbox row, if there is one; `reason` and `detail` say why; `fields` is what came, as text.
    """

    ref: str | None
    reason: str
    detail: str
    fields: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class DeadLetter:
    """An unreadable message with the place it came from: kept in the database, shown on the dead-letter stream."""

    id: str
    stream: str
    entry_id: str
    what: Unreadable
