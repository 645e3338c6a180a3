"""Callbacks are looked up and stored together: a PSP that tells of every payment would else cost a commit for each.

A lone callback waits for nobody. Whatever the database refuses of a group is tried alone, so that none suffers for
another's sake.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, TypeAlias

import anyio

from paynode.domain.accepting import Heard, Operated, Received, Spoken
from paynode.domain.errors import Conflict, PaynodeError, Poison, Unavailable
from paynode.domain.road import Pointer
from paynode.runtime.grouping import Grouper, GroupFull, GroupStopped

# What became of one callback of a group; an error is its alone.
_Kept: TypeAlias = Pointer | PaynodeError | None


class Keeping(Protocol):
    """Where callbacks are kept. All of it raises Unavailable."""

    async def operations(self, spoken: Sequence[Spoken]) -> Sequence[Operated | None]:
        """For each the operation that a PSP speaks about, if it may."""

    async def store(self, received: Received) -> None:
        """Keep a callback about nothing we know."""

    async def store_evidence(self, heard: Sequence[Heard]) -> Sequence[Pointer | None]:
        """Keep callbacks and the evidence they are, all or none; None for one that was kept before.

        Raises: Poison, Conflict also."""

    async def store_question(self, received: Received, operated: Operated) -> Pointer | None:
        """Keep a callback and ask the PSP whether it is true; None when it was kept before."""


class SharedInbox:
    """An inbox for many callbacks at once. All of it raises Unavailable, also when it is not run any more."""

    def __init__(self, inbox: Keeping, *, group_size_max: int, waiting_max: int) -> None:
        self._inbox = inbox
        self._operations: Grouper[Spoken, Operated | None] = Grouper(
            inbox.operations, group_size_max=group_size_max, waiting_max=waiting_max
        )
        self._evidence: Grouper[Heard, _Kept] = Grouper(
            self._store_all, group_size_max=group_size_max, waiting_max=waiting_max
        )

    async def run(self) -> None:
        """Serve until cancelled."""
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self._operations.run)
            tasks.start_soon(self._evidence.run)

    async def operation(self, spoken: Spoken) -> Operated | None:
        """The operation that a PSP speaks about, if it may."""
        try:
            return await self._operations.submit(spoken)
        except (GroupFull, GroupStopped) as error:
            raise Unavailable("no callback is looked up now") from error

    async def store(self, received: Received) -> None:
        """Keep a callback about nothing we know."""
        await self._inbox.store(received)

    async def store_evidence(self, heard: Heard) -> Pointer | None:
        """Keep a callback and the evidence it is; None when it was kept before.

        Raises: Poison, Conflict also.
        """
        try:
            kept = await self._evidence.submit(heard)
        except (GroupFull, GroupStopped) as error:
            raise Unavailable("no callback is stored now") from error
        if isinstance(kept, PaynodeError):
            raise kept
        return kept

    async def store_question(self, received: Received, operated: Operated) -> Pointer | None:
        """Keep a callback and ask the PSP whether it is true; None when it was kept before."""
        return await self._inbox.store_question(received, operated)

    async def _store_all(self, heard: Sequence[Heard]) -> Sequence[_Kept]:
        try:
            return await self._inbox.store_evidence(heard)
        except (Conflict, Poison) as error:
            if len(heard) == 1:
                return [error]
            return [kept for one in heard for kept in await self._store_all([one])]
