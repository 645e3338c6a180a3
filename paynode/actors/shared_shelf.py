"""Looking up for all partitions of a process at once.

Each partition asks for the few rows of its own turn. While one statement is under way the others' questions gather, and
the next one asks them all: under load a statement serves many turns, and a lone turn waits for nothing.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Final, Generic, TypeVar

import anyio

from paynode.actors.intake import Shelf
from paynode.domain.booking import MerchantBooks
from paynode.domain.errors import Unavailable
from paynode.domain.message import Message, Unread, Unreadable
from paynode.domain.payment import Payment
from paynode.domain.publishing import Verdict
from paynode.domain.road import Place
from paynode.runtime.grouping import Grouper, GroupFull, GroupStopped

# Turns that one statement serves: of up to two hundred messages each, so that nobody waits for all of a backlog.
_TURNS: Final = 16

Key = TypeVar("Key")
Found = TypeVar("Found")


class _Shared(Generic[Key, Found]):
    """One look-up, shared by whoever asks meanwhile."""

    def __init__(self, look_up: Callable[[Sequence[Key]], Awaitable[Mapping[Key, Found]]], turns_max: int) -> None:
        self._look_up = look_up
        self._grouper: Grouper[Sequence[Key], Mapping[Key, Found]] = Grouper(
            self._look_up_all, group_size_max=_TURNS, waiting_max=turns_max
        )
        self.run = self._grouper.run

    async def find(self, keys: Sequence[Key]) -> Mapping[Key, Found]:
        """What there is of these, and perhaps of others' too."""
        try:
            return await self._grouper.submit(keys)
        except (GroupFull, GroupStopped) as error:
            raise Unavailable("nobody looks anything up now") from error

    async def _look_up_all(self, asked: Sequence[Sequence[Key]]) -> Sequence[Mapping[Key, Found]]:
        found = await self._look_up([key for keys in asked for key in keys])
        return [found] * len(asked)


class SharedShelf:
    """A shelf for up to `turns_max` turns at once. Raises: Unavailable, also when it is not run any more."""

    def __init__(self, shelf: Shelf, *, turns_max: int) -> None:
        self._messages: _Shared[Place, Message | Unread | Unreadable] = _Shared(shelf.messages, turns_max)
        self._verdicts: _Shared[str, Verdict] = _Shared(shelf.verdicts, turns_max)
        self._payments: _Shared[str, Payment] = _Shared(shelf.payments, turns_max)
        self._books: _Shared[str, MerchantBooks] = _Shared(shelf.books, turns_max)

    async def run(self) -> None:
        """Look up until cancelled."""
        async with anyio.create_task_group() as group:
            for shared in (self._messages, self._verdicts, self._payments, self._books):
                group.start_soon(shared.run)

    async def messages(self, places: Sequence[Place]) -> Mapping[Place, Message | Unread | Unreadable]:
        """As `Shelf.messages`."""
        return await self._messages.find(places)

    async def verdicts(self, event_ids: Sequence[str]) -> Mapping[str, Verdict]:
        """As `Shelf.verdicts`."""
        return await self._verdicts.find(event_ids)

    async def payments(self, payment_ids: Sequence[str]) -> Mapping[str, Payment]:
        """As `Shelf.payments`."""
        return await self._payments.find(payment_ids)

    async def books(self, merchant_ids: Sequence[str]) -> Mapping[str, MerchantBooks]:
        """As `Shelf.books`."""
        return await self._books.find(merchant_ids)
