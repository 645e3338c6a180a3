"""Everything that is known of one payment, for the person who has to find out what happened to it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class PaymentInFull:
    """The payment's row, its operations and what was asked about it; no token, and nothing about the customer."""

    id: str
    merchant_id: str
    members: Mapping[str, object]
    operations: Sequence[Mapping[str, object]]
    requests: Sequence[Mapping[str, object]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One thing that happened to a payment, wherever it was written down; `id` names the row there.

    `at` by the database's clock, which all processes share.
    """

    at: datetime
    what: str
    id: str
    operation_id: str | None
    detail: Mapping[str, object]
