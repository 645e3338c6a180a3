"""How the guards of the PSPs stand in every process that calls them, for the operator."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from paynode.domain.guarding import BreakerAction, BreakerVitals


@dataclass(frozen=True, slots=True, kw_only=True)
class GuardState:
    """One process's guards of one PSP; `silent_ms` since its last sign of life ran out, 0 while it lives."""

    gateway: str
    psp: str
    started_at: datetime
    silent_ms: int
    in_flight: int
    waiting: int
    pace_per_s: float | None
    retries_per_s: float
    breakers: Mapping[str, BreakerVitals]


@dataclass(frozen=True, slots=True, kw_only=True)
class StandingOrder:
    """The last word of an operator about one breaker."""

    psp: str
    operation: str
    action: BreakerAction
    by: str
    at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class GuardsOverview:
    """Both, of all PSPs or of one."""

    psps: Sequence[str]
    guards: Sequence[GuardState]
    orders: Sequence[StandingOrder]
