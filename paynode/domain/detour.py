"""What takes the place of stream entries while the streams cannot be had: rows of the outbox, read where they are."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Final

from paynode.domain.road import Entry, entry_on_pos_lane

# No id of a stream begins so: these are digits.
_MARK: Final = "outbox:"


@dataclass(frozen=True, slots=True, kw_only=True)
class DueRow:
    """A partition's row; `at`, when it became due, and `id` are its place in the order of its lane."""

    id: str
    merchant: str
    at: datetime
    is_pos: bool = False

    @property
    def entry(self) -> Entry:
        """The row as an entry."""
        name = _MARK + self.id
        return Entry(
            id=entry_on_pos_lane(name) if self.is_pos else name, fields={"ref": self.id, "merchant": self.merchant}
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class TakenRow:
    """A command in our hands; `times` is how often it was taken, by anybody."""

    id: str
    times: int

    @property
    def entry(self) -> Entry:
        """The row as an entry."""
        return Entry(id=_MARK + self.id, fields={"ref": self.id}, times=self.times)


def row_of(entry_id: str) -> str | None:
    """The row that an entry stands for; None for one of a stream."""
    return entry_id.removeprefix(_MARK) if entry_id.startswith(_MARK) else None
