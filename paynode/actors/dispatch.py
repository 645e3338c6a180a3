"""Bringing a PSP's commands to its actor: read -> resolve -> perform, so many at once -> conclude together."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Final, Protocol

import anyio
from anyio.streams.memory import MemoryObjectReceiveStream, MemoryObjectSendStream

from paynode.actors.gateway import Attempts, PspActor
from paynode.actors.suspicion import Delivery, Suspicion, asks_alone
from paynode.domain.attempts import Conclusion, GatewayCommand, Postponed
from paynode.domain.detour import row_of
from paynode.domain.errors import Poison, Transient
from paynode.domain.message import Unreadable
from paynode.domain.road import Entry, Pointer
from paynode.runtime.backoff import Backoff
from paynode.runtime.grouping import Grouper, GroupFull, GroupStopped
from paynode.runtime.stopping import Stop

# Seconds that taking a try back may take while everything is being cancelled.
_CLEAR_S: Final = 1.0


class CommandFeed(Protocol):
    """Commands of one PSP, competed for with other processes. Raises: Unavailable."""

    @property
    def stream(self) -> str: ...
    async def read(self, count: int) -> Sequence[Entry]: ...
    async def reclaim(self, *, idle_ms: int, count: int) -> Sequence[Entry]: ...
    async def acknowledge(self, ids: Sequence[str]) -> None: ...
    async def leave(self) -> None: ...


class Commands(Protocol):
    """The commands themselves, which entries only point at. Raises: Unavailable."""

    async def read(self, stream: str, refs: Sequence[str]) -> Mapping[str, GatewayCommand | Unreadable]: ...
    async def postpone(self, ref: str, pause_s: float) -> None: ...


class GatewayObserver(Protocol):
    """Hears of commands."""

    def concluded(self, psp: str, conclusion: Conclusion) -> None: ...
    def dispatch_failed(self, psp: str, error: Exception) -> None: ...


class Road(Protocol):
    """Puts evidence on the merchants' streams. Raises: Unavailable."""

    async def publish(self, pointers: Sequence[Pointer]) -> None: ...


@dataclass(frozen=True, slots=True)
class _Queues:
    usual: MemoryObjectSendStream[Delivery]
    suspect: MemoryObjectSendStream[Delivery]


@dataclass(frozen=True, slots=True)
class _Ended:
    entry_id: str
    conclusion: Conclusion


class Dispatcher:
    """One PSP's commands in this process, of one lane.

    `hands` commands are performed at once, `queue_size` may wait; then nothing more is read. Every lane has a
    dispatcher, because what waits for the guards' leave holds a hand: a refund does not stand behind charges. Whatever
    is found on the lane is performed: an older version may have put it there.
    """

    def __init__(
        self,
        psp: str,
        feed: CommandFeed,
        commands: Commands,
        attempts: Attempts,
        actor: PspActor,
        road: Road,
        suspicion: Suspicion,
        observer: GatewayObserver,
        *,
        hands: int,
        queue_size: int,
        reclaim_idle_ms: int,
        backoff: Backoff,
        hurrying: Callable[[], AbstractContextManager[None]] = nullcontext,
    ) -> None:
        self._psp = psp
        self._feed = feed
        self._commands = commands
        self._attempts = attempts
        self._actor = actor
        self._road = road
        self._suspicion = suspicion
        self._observer = observer
        self._hands = hands
        self._queue_size = queue_size
        self._reclaim_idle_ms = reclaim_idle_ms
        self._backoff = backoff
        self._hurrying = hurrying
        self._in_hand: dict[str, str] = {}  # rows, each with the entry by which it came
        self._not_begun: list[Delivery] = []
        self._survived: set[str] = set()  # suspects whose last try is over and still counted
        # As many as there are hands: each waits for one conclusion.
        self._endings: Grouper[_Ended, Poison | None] = Grouper(
            self._end, group_size_max=hands, waiting_max=all_hands(hands)
        )

    def in_hand(self) -> Sequence[str]:
        """The entries of all commands that are performed or wait to be."""
        return list(self._in_hand.values())

    async def run(self, stop: Stop) -> None:
        """Perform commands until `stop`, then finish those in hand. Complete when it returns."""
        usual, receiver = anyio.create_memory_object_stream[Delivery](self._queue_size)
        suspect, lone_receiver = anyio.create_memory_object_stream[Delivery](self._queue_size)
        async with anyio.create_task_group() as outer:
            outer.start_soon(self._endings.run)
            async with anyio.create_task_group() as hands, usual, suspect:
                for _ in range(self._hands):
                    hands.start_soon(self._work, receiver.clone(), stop, self._perform)
                receiver.close()
                # One hand for all that are under suspicion: if we die, it was over this one.
                hands.start_soon(self._work, lone_receiver, stop, self._try)
                await self._read_on(_Queues(usual, suspect), stop)
            outer.cancel_scope.cancel()
        await self._give_back()

    async def _give_back(self) -> None:
        """Put what was not begun back at the end of the stream: pending, others would take it only much later."""
        try:
            await self._road.publish([_pointer(self._feed.stream, one) for one in self._not_begun])
            entries = [one.entry.id for one in self._not_begun if row_of(one.entry.id) is None]
            if entries:
                await self._feed.acknowledge(entries)
            await self._clear_late()
            await self._feed.leave()  # which lets go of rows that were taken and not begun
        except Transient as error:
            self._observer.dispatch_failed(self._psp, error)

    # -- bringing -------------------------------------------------------------------------------------------------

    async def _read_on(self, queues: _Queues, stop: Stop) -> None:
        next_reclaim = anyio.current_time()
        while not stop.is_set:
            try:
                entries = list(await self._feed.read(self._hands))
                if anyio.current_time() >= next_reclaim:
                    # A fraction of the idle time: a command is found again soon after it may be.
                    next_reclaim = anyio.current_time() + self._reclaim_idle_ms / 4000
                    entries += await self._feed.reclaim(idle_ms=self._reclaim_idle_ms, count=self._hands)
                if entries:
                    await self._bring(entries, queues)
                await self._clear_late()
                self._backoff.reset()
            except Transient as error:
                self._observer.dispatch_failed(self._psp, error)
                await self._backoff.pause()

    async def _bring(self, entries: Sequence[Entry], queues: _Queues) -> None:
        # As it is now: what ends while the rows are read has not been looked for.
        in_hand = dict(self._in_hand)
        refs = [entry.ref for entry in entries if entry.ref is not None and entry.ref not in in_hand]
        found = await self._commands.read(self._feed.stream, refs) if refs else {}
        gone, unreadable, deliveries = [], [], []
        for entry in entries:
            if entry.ref is not None and entry.ref in in_hand:
                if in_hand[entry.ref] != entry.id:
                    gone.append(entry.id)  # a second pointer to the same row: the first one brings it to its end
                continue
            match found.get(entry.ref) if entry.ref is not None else None:
                case GatewayCommand() as command:
                    # In hand before anything waits: from now on it is renewed, and nobody takes it for forgotten.
                    in_hand[command.ref] = self._in_hand[command.ref] = entry.id
                    deliveries.append(Delivery(entry, command))
                case Unreadable() as what:
                    unreadable.append((entry, what))
                    gone.append(entry.id)
                case None:
                    gone.append(entry.id)  # concluded already, trimmed away, another stream's, or no pointer of ours
        for delivery in deliveries:
            await self._queue(delivery, queues)
        await self._suspicion.bury_unreadable(self._feed.stream, unreadable)
        if gone:
            await self._feed.acknowledge(gone)

    async def _queue(self, delivery: Delivery, queues: _Queues) -> None:
        if not self._suspicion.falls_on(delivery.entry):
            await queues.usual.send(delivery)
            return
        try:
            queues.suspect.send_nowait(delivery)
        except anyio.WouldBlock:
            # Suspects are tried slowly, and nobody else waits for them: it comes again when it has been idle.
            del self._in_hand[delivery.command.ref]

    # -- performing -----------------------------------------------------------------------------------------------

    async def _work(
        self,
        receiver: MemoryObjectReceiveStream[Delivery],
        stop: Stop,
        perform: Callable[[Delivery], Awaitable[None]],
    ) -> None:
        async with receiver:
            async for delivery in receiver:
                if stop.is_set:
                    self._not_begun.append(delivery)
                    continue
                try:
                    await perform(delivery)
                except (Transient, Poison, GroupFull, GroupStopped) as error:
                    # The entry stays pending: it is reclaimed after its idle time, and the attempt tells what to do.
                    self._observer.dispatch_failed(self._psp, error)
                finally:
                    del self._in_hand[delivery.command.ref]

    async def _perform(self, delivery: Delivery) -> None:
        with self._hurrying():
            await self._conclude_one(delivery, await self._actor.perform(delivery.command))

    async def _try(self, delivery: Delivery) -> None:
        """Perform a command over which processes may have died, unless too many have."""
        command, stream = delivery.command, self._feed.stream
        if command.ref in self._survived:
            await self._clear(command.ref)
        if await self._suspicion.count(stream, command.ref) is not None:
            try:
                await self._perform(delivery)
            finally:
                await self._clear_now(command.ref)
            return
        attempt = await self._attempts.find(command.order.operation_id)
        if attempt is None or asks_alone(command, attempt):
            await self._suspicion.condemn(stream, delivery)
            await self._feed.acknowledge([delivery.entry.id])
        else:
            await self._conclude_one(delivery, self._suspicion.settle(command, attempt))

    async def _clear_now(self, ref: str) -> None:
        """Take a try back, also while everything is being cancelled: that we live clears it. If not now, then later."""
        self._survived.add(ref)
        with anyio.move_on_after(_CLEAR_S, shield=True):
            try:
                await self._clear(ref)
            except Transient as error:
                self._observer.dispatch_failed(self._psp, error)

    async def _clear_late(self) -> None:
        """Take back the tries that could not be before. Not of what is in hand: its next try may be counted by now."""
        for ref in self._survived - self._in_hand.keys():
            await self._clear(ref)

    async def _clear(self, ref: str) -> None:
        await self._suspicion.clear(self._feed.stream, ref)
        self._survived.discard(ref)

    async def _conclude_one(self, delivery: Delivery, end: Conclusion | Postponed | None) -> None:
        match end:
            case Conclusion():
                refused = await self._endings.submit(_Ended(delivery.entry.id, end))
                if refused is not None:
                    raise refused
                self._observer.concluded(self._psp, end)
            case Postponed():
                # Acknowledged afterwards: cut off in between, it comes again too soon, which does no harm.
                await self._commands.postpone(end.command.ref, end.pause_s)
                await self._feed.acknowledge([delivery.entry.id])
            case None:
                pass  # left where it is: it is reclaimed when it has been idle

    async def _end(self, ended: Sequence[_Ended]) -> Sequence[Poison | None]:
        """Conclude many commands in one transaction; what the database refuses together, each alone.

        An answer that nobody can store is as good as lost: its attempt stays open until its deadline, and is in doubt.
        """
        try:
            await self._conclude(ended)
        except Poison as poison:
            if len(ended) == 1:
                return [poison]
            return [refused for one in ended for refused in await self._end([one])]
        return [None] * len(ended)

    async def _conclude(self, ended: Sequence[_Ended]) -> None:
        """Conclude, then publish the evidence, then acknowledge the commands."""
        pointers = await self._attempts.conclude([one.conclusion for one in ended])
        try:
            await self._road.publish(pointers)
            await self._feed.acknowledge([one.entry_id for one in ended])
        except Transient as error:
            self._observer.dispatch_failed(self._psp, error)  # concluded all the same: the relay brings the evidence


def all_hands(hands: int) -> int:
    """The usual ones, and the one for suspects."""
    return hands + 1


def _pointer(stream: str, delivery: Delivery) -> Pointer:
    return Pointer(stream=stream, ref=delivery.command.ref)
