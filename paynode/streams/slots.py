"""Which node of a cluster a command goes to."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Awaitable, Callable, Sequence
from random import sample
from typing import Any, Final

import anyio
from redis.crc import REDIS_CLUSTER_HASH_SLOTS, key_slot
from redis.exceptions import ConnectionError as NotConnected
from redis.exceptions import TimeoutError as TimedOut

from paynode.streams.connecting import Whereabouts
from paynode.streams.places import Address

# First words of commands that any node answers, as far as we use them. All others name their key first.
_KEYLESS: Final = frozenset({"CLIENT", "CLUSTER", "CONFIG", "INFO", "PING", "PUBLISH", "PUBSUB", "TIME"})

Slots = Sequence[Any]


def key_of(command: Sequence[Any]) -> str | bytes | None:
    """The key that decides which node a command goes to."""
    name = str(command[0]).upper()
    if len(command) < 2 or name.split(" ")[0] in _KEYLESS:
        return None
    key = command[1]
    if name == "EVAL":
        key = command[3]  # behind the script and the number of keys
    if name in ("XREAD", "XREADGROUP"):
        # Behind the group and the consumer, whose names are anybody's.
        begin = 4 if name == "XREADGROUP" else 1
        key = command[command.index(b"STREAMS", begin) + 1]
    assert isinstance(key, str | bytes)
    return key


class SlotMap(Whereabouts):
    """Which node owns which slot, as some node last told; read again before the next use when that is in doubt.

    As whereabouts it stands for whichever node answered last: good for all that any node can do.
    """

    def __init__(self, seeds: Sequence[Address], read: Callable[[Address], Awaitable[Slots]]) -> None:
        super().__init__()
        self._seeds = tuple(seeds)
        self._read = read
        self._answered: Address | None = None
        self._begins: list[int] = []
        self._owners: list[tuple[int, Address]] = []  # the last slot of each range, and whose it is
        self._moved: dict[int, Address] = {}
        self._lock = anyio.Lock()
        self._doubts = 1
        self._sure_of = 0  # the doubts that the last reading has settled
        self._readings = 0

    def doubt(self, since: int) -> None:
        """The node that answered last has failed: another one is to be asked."""
        super().doubt(since)
        self.forget()

    def forget(self) -> None:
        """Read the map again before the next use."""
        self._doubts += 1

    async def find(self) -> Address:
        """A node that answers."""
        await self._be_sure()
        assert self._answered is not None
        return self._answered

    async def owner(self, key: str | bytes) -> Address:
        """The node that owns a key. Raises: RedisError, OSError."""
        await self._be_sure()
        slot = key_slot(key.encode() if isinstance(key, str) else key)
        if slot in self._moved:
            return self._moved[slot]
        number = bisect_right(self._begins, slot) - 1
        if number < 0 or self._owners[number][0] < slot:
            self.forget()
            raise NotConnected(f"nobody owns slot {slot} of {REDIS_CLUSTER_HASH_SLOTS}")
        return self._owners[number][1]

    async def owners(self) -> list[Address]:
        """All nodes that own slots."""
        await self._be_sure()
        return sorted({address for _, address in self._owners} | {*self._moved.values()})

    def move(self, slot: int, address: Address) -> None:
        """A node says that a slot is another's."""
        self._moved[slot] = address
        self._doubts += 1

    async def _be_sure(self) -> None:
        """Read the map if it is in doubt; whoever has waited for a reading that failed has failed with it."""
        if self._doubts == self._sure_of:
            return
        readings = self._readings
        async with self._lock:
            doubts = self._doubts
            if doubts == self._sure_of:
                return
            if self._readings != readings and self._answered is None:
                raise NotConnected("no node of the cluster answers")
            self._readings += 1
            moved = dict(self._moved)
            await self._read_anywhere()
            # What was said before we asked is in the answer, or not true any more.
            self._moved = {slot: owner for slot, owner in self._moved.items() if moved.get(slot) != owner}
            self._sure_of = doubts

    async def _read_anywhere(self) -> None:
        """Ask one after the other, in any order: so nobody asks a lagging or hanging node for ever."""
        known = {*self._seeds, *(address for _, address in self._owners)}
        self._answered, failure = None, None
        for address in sample(sorted(known), len(known)):
            try:
                self._take(await self._read(address), address)
            except (NotConnected, TimedOut, OSError) as error:
                failure = error
            else:
                return
        raise NotConnected("no node of the cluster answers") from failure

    def _take(self, slots: Slots, source: Address) -> None:
        ranges = sorted((int(first), int(last), _address(primary, source)) for first, last, primary, *_ in slots)
        self._begins = [first for first, _, _ in ranges]
        self._owners = [(last, owner) for _, last, owner in ranges]
        self._answered = source


def _address(node: Sequence[Any], source: Address) -> Address:
    """Of a node in the answer; one that does not know its own name is where it was asked."""
    host = node[0].decode() if isinstance(node[0], bytes) else node[0]
    return Address(host if host not in (None, "", "?") else source.host, int(node[1]))
