"""Whoever does harm: scenarios by the ids of faults.md, each with its proof that it bit.

A scenario is a small object, used by a test of the fast set and by the soak alike: `act` does the harm when it is
entered and heals when it is left, and gives a `Proof`, which counts what the harm has done.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from functools import partial
from random import Random
from typing import Final, TypeAlias

import anyio

from tests.support.stage import Stage

# How often the harm has bitten since it was done.
Proof: TypeAlias = Callable[[], Awaitable[int]]
Act: TypeAlias = Callable[[Stage], AbstractAsyncContextManager[Proof]]

# Seconds to wait for the proof after healing, and between two looks at how things are.
_PROOF_S: Final = 15.0
_LOOK_S: Final = 0.1
# Seconds after which a fault counts as not recovered from.
_RECOVERY_MAX_S: Final = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Scenario:
    """One kind of fault. It lasts `lasts_s`; `recovers_within_s` after it (or after the blow itself, where the heal is
    somebody else's taking over) all is as before. Two that share a word of `takes` do not go together.
    """

    id: str
    name: str
    act: Act
    lasts_s: float = 1.0
    recovers_within_s: float = 10.0
    is_a_blow: bool = False
    takes: frozenset[str] = frozenset()


@dataclass(slots=True)
class Record:
    """What came of the scenarios of one kind."""

    times: int = 0
    bitten: int = 0
    missed: int = 0
    recoveries_s: list[float] = field(default_factory=list)
    too_slow: int = 0


@dataclass(slots=True)
class Nemesis:
    """Plays scenarios on a stage and writes down what came of them."""

    stage: Stage
    records: dict[str, Record] = field(default_factory=dict)
    playing: list[Scenario] = field(default_factory=list)
    begun: int = 0

    async def play(self, scenario: Scenario, *, lasts_s: float | None = None) -> int:
        """Do it, heal it, wait for the proof and for recovery; how often it bit."""
        record = self.records.setdefault(scenario.name, Record())
        record.times += 1
        self.begun += 1
        begun, is_alone = self.begun, not self.playing
        self.playing.append(scenario)
        count = 0
        try:
            async with scenario.act(self.stage) as proof:
                since = time.monotonic()
                await anyio.sleep(scenario.lasts_s if lasts_s is None else lasts_s)
            if not scenario.is_a_blow:
                since = time.monotonic()
            async with anyio.create_task_group() as after:
                if is_alone:
                    after.start_soon(partial(self._measure, record, scenario, since=since, begun=begun))
                count = await self._proven(proof)
        finally:
            self.playing.remove(scenario)
        record.bitten += count
        record.missed += count == 0
        return count

    async def _proven(self, proof: Proof) -> int:
        with anyio.move_on_after(_PROOF_S):
            while True:
                if count := await proof():
                    return count
                await anyio.sleep(_LOOK_S)
        return 0

    async def _measure(self, record: Record, scenario: Scenario, *, since: float, begun: int) -> None:
        """Until all is as before. What another fault fell into says nothing about this one, and is not counted."""
        while time.monotonic() - since < _RECOVERY_MAX_S:
            if self.begun != begun:
                return
            if self.stage.is_healthy():
                took_s = time.monotonic() - since
                record.recoveries_s.append(took_s)
                record.too_slow += took_s > scenario.recovers_within_s
                return
            await anyio.sleep(_LOOK_S)
        record.recoveries_s.append(_RECOVERY_MAX_S)
        record.too_slow += 1

    def choose(self, scenarios: Sequence[Scenario], random: Random) -> Scenario | None:
        """One at random that goes together with what is being played."""
        taken = frozenset[str]().union(*(one.takes for one in self.playing))
        free = [one for one in scenarios if not one.takes & taken and one not in self.playing]
        return random.choice(free) if free else None
