"""How much the partitions of one worker may have read ahead, together: it has one memory, and any number of them."""

from __future__ import annotations

from typing import Final

# Of the entries that are kept whole one merchant may have this part: its neighbours' would else be fetched one by one.
_PART_OF_ONE: Final = 8


class Room:
    """Room for `entries` that are read ahead; only so many of them are kept `whole`, and of the others the id alone."""

    def __init__(self, *, entries: int, whole: int) -> None:
        self._entries_max = entries
        self._whole_max = whole
        self._whole = 0
        self._entries = 0
        self._of: dict[int, int] = {}

    def is_full(self) -> bool:
        """Whether nobody should read on who has something to do."""
        return self._entries >= self._entries_max

    @property
    def whole(self) -> int:
        """Entries that are kept whole."""
        return self._whole

    def tell(self, whose: object, entries: int) -> None:
        """So many are in the hand of this one now; 0 when it ends."""
        self._entries += entries - self._of.pop(id(whose), 0)
        if entries:
            self._of[id(whose)] = entries

    def take_whole(self, already: int) -> bool:
        """Whether one more may be kept whole of a merchant that has so many already; then it is counted."""
        if self._whole >= self._whole_max or already >= max(self._whole_max // _PART_OF_ONE, 1):
            return False
        self._whole += 1
        return True

    def give_whole(self, count: int) -> None:
        """So many are not kept any longer."""
        self._whole -= count
