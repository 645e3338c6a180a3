"""A process as the simulation sees it: it can be killed, stopped for a while, and cut off from a server.

What it does in its own memory nobody sees; what counts is what leaves it. So all of its calls to servers pass here:
the calls of a killed process never leave, those of a stopped one wait, and any may be lost on the way there or back.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from enum import IntEnum
from random import Random

import anyio

from tests.simulation.loop import SeededLoop, a_moment


class Killed(Exception):
    """The process is dead: nothing of what it goes on to do happens."""


class Lost(Exception):
    """A request or its reply did not arrive; the twin of each server says so in its own words."""


class Server(IntEnum):
    """Whom a process calls."""

    STORE = 0
    ROAD = 1
    PSP = 2


@dataclass(slots=True, kw_only=True)
class Weather:
    """How likely a call is to meet with something. `is_calm`: no call meets with anything, wherever it goes."""

    is_calm: bool = True
    slow: float = 0.0
    lost_there: float = 0.0
    lost_back: float = 0.0
    ambiguous: float = 0.0


class Surroundings:
    """What all parts of one world share: the clock, chance, the weather, and the count of what happened."""

    __slots__ = ("_number", "chance", "counts", "loop", "roll", "weather")

    def __init__(self, loop: SeededLoop, chance: Random) -> None:
        self.loop = loop
        self.chance = chance
        self.roll = chance.random
        self.weather = Weather()
        self.counts: Counter[str] = Counter()
        self._number = 0

    @property
    def now(self) -> float:
        """Seconds of virtual time."""
        return self.loop.time()

    def now_ms(self) -> int:
        """The same as milliseconds since 1970."""
        return 1_700_000_000_000 + int(self.loop.time() * 1000)

    def new_id(self) -> str:
        """A fresh id of the form of a UUIDv7, in the order of its making."""
        self._number += 1
        return f"01890a5d-0000-7000-8000-{self._number:012x}"


class Process:
    """One process, from its start to its end."""

    __slots__ = ("_around", "_cut_until", "_is_hindered", "_stopped_until", "is_dead", "name", "scope")

    def __init__(self, name: str, around: Surroundings) -> None:
        self.name = name
        self.is_dead = False
        self.scope = anyio.CancelScope()
        self._around = around
        self._is_hindered = False
        self._stopped_until = 0.0
        self._cut_until = [0.0, 0.0, 0.0]

    def kill(self) -> None:
        """SIGKILL: what has not left it by now never will."""
        self.is_dead = self._is_hindered = True
        self.scope.cancel()

    def stop(self, seconds: float) -> None:
        """SIGSTOP, and SIGCONT later."""
        self._is_hindered = True
        self._stopped_until = max(self._stopped_until, self._around.now + seconds)

    def cut(self, server: Server, seconds: float) -> None:
        """Nothing passes between it and a server for a while."""
        self._is_hindered = True
        self._cut_until[server] = self._around.now + seconds

    def clear_up(self) -> None:
        """Nothing hinders it any more."""
        self._is_hindered = self.is_dead
        self._stopped_until = 0.0
        self._cut_until = [0.0, 0.0, 0.0]

    def is_cut_off(self, server: Server) -> bool:
        """Whether nothing passes between them now."""
        return self._cut_until[server] > self._around.loop.time()

    async def awake(self) -> None:
        """Wait while it is stopped. Raises: Killed."""
        while self._stopped_until > self._around.now and not self.is_dead:  # noqa: ASYNC110 - it may be stopped again
            await anyio.sleep(self._stopped_until - self._around.now)
        if self.is_dead:
            raise Killed

    async def reach(self, server: Server) -> None:
        """A request on its way. Raises: Lost (the server never saw it), Killed."""
        await a_moment()
        around = self._around
        if around.weather.is_calm and not self._is_hindered:
            return
        if around.roll() < around.weather.slow:
            await anyio.sleep(around.roll() * 0.3)
        await self.awake()
        if around.roll() < around.weather.lost_there or self.is_cut_off(server):
            await self._lose("lost requests")

    async def hear(self, server: Server) -> None:
        """A reply on its way. Raises: Lost (the server did what it was asked to), Killed."""
        around = self._around
        if around.roll() < 0.5:
            await a_moment()
        if around.weather.is_calm and not self._is_hindered:
            return
        if around.roll() < around.weather.lost_back or self.is_cut_off(server):
            await self._lose("lost replies")
        await self.awake()

    async def _lose(self, what: str) -> None:
        await anyio.sleep(0.2)
        await self.awake()
        self._around.counts[what] += 1
        raise Lost
