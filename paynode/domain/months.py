"""The months of the ledger: each is a table of its own."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class MonthsMade:
    """How many of the coming months had no table and have one now, and for how many none can be made any more."""

    made: int
    held_up: int
