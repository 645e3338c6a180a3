"""An actor: a mailbox, and a task only while there is mail.

A waiting actor is a few words of memory and no task: a worker knows a hundred thousand merchants, and a task with a
queue for each of them would cost thirty times as much and slow every garbage collection.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Generic, TypeVar

import anyio
from anyio.abc import TaskGroup

Mail = TypeVar("Mail")


class Actor(Generic[Mail]):
    """Hands mail to `handle` in the order it came, all that has arrived at a time, never twice at once.

    An exception of `handle` ends the task group that the actor lives in: whoever owns the group decides what then.
    """

    __slots__ = ("_capacity", "_group", "_handle", "_is_running", "_mail", "_room")

    def __init__(self, handle: Callable[[Sequence[Mail]], Awaitable[None]], group: TaskGroup, *, capacity: int) -> None:
        self._handle = handle
        self._group = group
        self._capacity = capacity
        self._mail: list[Mail] = []  # all of it is taken at once; an empty deque would be 760 bytes, this is 56
        self._room: anyio.Event | None = None
        self._is_running = False

    async def put(self, mail: Mail) -> None:
        """Put mail into the box; waits while the box is full, which is how a slow actor slows its reader."""
        while len(self._mail) >= self._capacity:
            if self._room is None:
                self._room = anyio.Event()
            await self._room.wait()
        self._mail.append(mail)
        if not self._is_running:
            self._is_running = True
            self._group.start_soon(self._work)

    async def _work(self) -> None:
        while self._mail:
            mail, self._mail = self._mail, []
            if self._room is not None:
                self._room.set()
                self._room = None
            await self._handle(mail)
        self._is_running = False
