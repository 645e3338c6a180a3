"""How things stand in a whole installation: the figures that alerts are made of."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Census:
    """Ages in milliseconds by the database's clock; 0 when there is nothing."""

    oldest_unprocessed_ms: int
    unknown: int
    oldest_unknown_ms: int
    dead_letters: int
