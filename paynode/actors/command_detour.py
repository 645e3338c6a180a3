"""A PSP's commands by the way that is open: from its stream, and from the outbox while Redis is away."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, Protocol

import anyio

from paynode.actors.detour import Reach, may_go_back, while_here
from paynode.actors.dispatch import CommandFeed
from paynode.actors.upkeep import Membership
from paynode.domain.detour import TakenRow, row_of
from paynode.domain.road import Entry

# Acknowledgements kept until Redis is back; of more than these the entries are reclaimed when they are idle.
_OWED_MAX: Final = 10_000


class CommandRows(Protocol):
    """Commands that are due in the outbox. Raises: Unavailable."""

    async def take(self, stream: str, count: int) -> Sequence[TakenRow]: ...
    async def renew(self, refs: Sequence[str]) -> None: ...
    async def release(self, refs: Sequence[str]) -> None: ...


class DetourCommandFeed:
    """The stream's feed and the outbox's as one. An entry goes back to where it came from, by its id."""

    def __init__(
        self, feed: CommandFeed, member: Membership, rows: CommandRows, reach: Reach, *, poll_s: float
    ) -> None:
        self._feed = feed
        self._member = member
        self._rows = rows
        self._reach = reach
        self._poll_s = poll_s
        self._is_on_detour = False
        self._taken: set[str] = set()  # rows, in hand or given up
        self._owed: list[str] = []

    @property
    def stream(self) -> str:
        """The stream whose commands these are."""
        return self._feed.stream

    async def read(self, count: int) -> Sequence[Entry]:
        """New commands; none when nothing came for a while. Raises: Unavailable."""
        self._is_on_detour |= self._reach.is_away
        if self._is_on_detour:
            return await self._read_rows(count)
        await while_here(self._reach, self._pay_back())
        return await while_here(self._reach, self._feed.read(count))

    async def _read_rows(self, count: int) -> Sequence[Entry]:
        rows = await self._rows.take(self.stream, count)
        self._taken |= {row.id for row in rows}
        if may_go_back(self._reach, is_idle=not rows):
            self._is_on_detour = False
        elif not rows:
            await anyio.sleep(self._poll_s)
        return [row.entry for row in rows]

    async def _pay_back(self) -> None:
        """Acknowledge what Redis could not hear. Left pending until it is idle, it would make everything behind it
        look to the relay as if it were still on its way."""
        owed, self._owed = self._owed, []
        try:
            if owed:
                await self._feed.acknowledge(owed)
        except BaseException:
            self._owed = owed + self._owed
            raise

    async def reclaim(self, *, idle_ms: int, count: int) -> Sequence[Entry]:
        """Commands that somebody took and never finished. The outbox gives its own by itself. Raises: Unavailable."""
        if self._is_on_detour:
            return []
        return await while_here(self._reach, self._feed.reclaim(idle_ms=idle_ms, count=count))

    async def acknowledge(self, ids: Sequence[str]) -> None:
        """Say that these are concluded, now or when Redis can hear it; a row of the outbox is gone already.

        Raises: Unavailable; it is said again.
        """
        entries = [entry_id for entry_id in ids if row_of(entry_id) is None]
        self._taken -= {ref for entry_id in ids if (ref := row_of(entry_id)) is not None}
        self._owed += entries[: max(0, _OWED_MAX - len(self._owed))]
        if self._owed and not self._reach.is_away:
            await while_here(self._reach, self._pay_back())

    async def renew(self, ids: Sequence[str], *, idle_ms: int) -> None:
        """These are still in hand. Raises: Unavailable."""
        refs = [ref for entry_id in ids if (ref := row_of(entry_id)) is not None]
        if refs:
            await self._rows.renew(refs)
        entries = [entry_id for entry_id in ids if row_of(entry_id) is None]
        if entries and not self._reach.is_away:
            await while_here(self._reach, self._member.renew(entries, idle_ms=idle_ms))

    async def clear_out(self, *, idle_ms: int) -> Sequence[str]:
        """Remove consumers that were left behind. Raises: Unavailable."""
        if not self._reach.is_away:
            return await while_here(self._reach, self._member.clear_out(idle_ms=idle_ms))
        return []

    async def leave(self) -> None:
        """Let go of the rows that are not finished, and remove this consumer; with Redis away others clear it out.

        Raises: Unavailable.
        """
        if self._taken:
            await self._rows.release(list(self._taken))
            self._taken.clear()
        if not self._reach.is_away:
            await while_here(self._reach, self._feed.leave())
