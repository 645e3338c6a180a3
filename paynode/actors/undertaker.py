"""The undertaker: keeps the dead-letter streams and the table of dead letters in agreement. One process at a time.

The table is what lasts and the streams are what is watched. A letter is shown right after its commit by whoever
committed it; what that missed (Redis away, a process killed in between, everything forgotten) is found here, and what
an operator has resolved leaves the stream here.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from paynode.domain.dead_letters import Grave
from paynode.domain.errors import Transient
from paynode.domain.message import DeadLetter
from paynode.domain.road import dead_stream
from paynode.runtime.rounds import Rounds, Singleton
from paynode.runtime.stopping import Stop


class Table(Protocol):
    """The dead letters that last, and the housekeeping around them. Raises: Unavailable."""

    async def open_letters(self) -> Mapping[str, str]: ...
    async def letters(self, ids: Sequence[str]) -> Sequence[DeadLetter]: ...
    async def release_stranded(self) -> int: ...
    async def forget_suspects(self, kept_s: float) -> int: ...


class Graveyard(Protocol):
    """The dead-letter streams. Raises: Unavailable."""

    async def marks(self, streams: Sequence[str]) -> Mapping[str, str]: ...
    async def graves(self, stream: str) -> Sequence[Grave]: ...
    async def bury(self, letters: Sequence[DeadLetter]) -> None: ...
    async def remove(self, stream: str, entry_ids: Sequence[str]) -> None: ...


class UndertakerObserver(Protocol):
    """Hears of what had to be mended."""

    def reburied(self, shown: int, removed: int) -> None: ...
    def stranded_released(self, rows: int) -> None: ...
    def burial_failed(self, error: Exception) -> None: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class UndertakerRules:
    """Seconds between rounds; seconds that an untried suspect is kept; letters that are read and shown at a time."""

    interval_s: float
    suspect_kept_s: float
    page_size: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """Between a dead-letter stream and the table: letters that the stream does not show, entries that show no letter
    or one that is shown already, and entries by the letters which they alone know."""

    missing: frozenset[str]
    superfluous: tuple[str, ...]
    unknown: Mapping[str, str]


def difference(graves: Sequence[Grave], letters: Collection[str]) -> Difference:
    """Compare. The first of several entries that show the same letter stays."""
    superfluous: list[str] = []
    unknown: dict[str, str] = {}
    shown: set[str] = set()
    for grave in graves:
        if grave.letter is None or grave.letter in shown:
            superfluous.append(grave.entry_id)
            continue
        shown.add(grave.letter)
        if grave.letter not in letters:
            unknown[grave.letter] = grave.entry_id
    return Difference(missing=frozenset(letters) - shown, superfluous=tuple(superfluous), unknown=unknown)


class Undertaker:
    """Makes rounds over the dead-letter streams of these streams, and of those that letters come from."""

    def __init__(
        self,
        table: Table,
        graveyard: Graveyard,
        singleton: Singleton,
        observer: UndertakerObserver,
        rules: UndertakerRules,
        *,
        streams: Collection[str],
    ) -> None:
        self._table = table
        self._graveyard = graveyard
        self._rounds = Rounds(singleton, observer.burial_failed, interval_s=rules.interval_s, transient=Transient)
        self._observer = observer
        self._rules = rules
        self._streams = frozenset(map(dead_stream, streams))
        # What each stream and its letters were like when they agreed: while both are the same there is nothing to do.
        self._agreed: dict[str, tuple[str, frozenset[str]]] = {}
        # Letters that the last round missed: whoever committed one just now is about to show it himself.
        self._missed: frozenset[str] = frozenset()

    async def run(self, stop: Stop) -> None:
        """Make rounds until `stop`."""
        await self._rounds.run(self.run_once, stop)

    async def run_once(self) -> None:
        """One round: first what needs the database alone, for Redis may be away."""
        released = await self._table.release_stranded()
        if released:
            self._observer.stranded_released(released)
        await self._table.forget_suspects(self._rules.suspect_kept_s)
        await self._compare()

    async def _compare(self) -> None:
        letters = await self._letters_by_stream()
        streams = sorted(self._streams | letters.keys())
        marks = await self._graveyard.marks(streams)
        missed: set[str] = set()
        for stream in streams:
            state = (marks.get(stream, ""), letters.get(stream, frozenset()))
            if state == ("", frozenset()) or state == self._agreed.get(stream):
                continue
            self._agreed.pop(stream, None)
            found = await self._make_agree(stream, state[1])
            missed |= found.missing
            if found == _NO_DIFFERENCE:
                self._agreed[stream] = state
        self._missed = frozenset(missed)

    async def _letters_by_stream(self) -> dict[str, frozenset[str]]:
        by_stream: dict[str, set[str]] = {}
        for letter, stream in (await self._table.open_letters()).items():
            by_stream.setdefault(dead_stream(stream), set()).add(letter)
        return {stream: frozenset(letters) for stream, letters in by_stream.items()}

    async def _make_agree(self, stream: str, letters: frozenset[str]) -> Difference:
        found = difference(await self._graveyard.graves(stream), letters)
        # Shown and not in the table that was read before: resolved, or committed since.
        resolved = dict(found.unknown)
        for page in self._pages(resolved):
            for letter in await self._table.letters(page):
                del resolved[letter.id]
        removed = [*found.superfluous, *resolved.values()]
        await self._graveyard.remove(stream, removed)
        shown = 0
        for page in self._pages(found.missing & self._missed):
            still_open = await self._table.letters(page)
            await self._graveyard.bury(still_open)
            shown += len(still_open)
        if shown or removed:
            self._observer.reburied(shown, len(removed))
        return found

    def _pages(self, ids: Collection[str]) -> list[list[str]]:
        """In their order, which is that of their deaths."""
        ordered = sorted(ids)
        return [
            ordered[start : start + self._rules.page_size] for start in range(0, len(ordered), self._rules.page_size)
        ]


_NO_DIFFERENCE = Difference(missing=frozenset(), superfluous=(), unknown={})
