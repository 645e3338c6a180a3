"""How things stand in a whole installation: the figures that alerts are made of."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from paynode.domain.road import GATEWAY_GROUP, MERCHANTS_GROUP, commands_stream, events_stream, lanes


@dataclass(frozen=True, slots=True, kw_only=True)
class Waiting:
    """What waits for one stream's consumers, by the outbox: `due` rows, the age of the oldest of them in milliseconds
    (0 when there is none), and `scheduled` rows whose time has not come."""

    due: int = 0
    oldest_ms: int = 0
    scheduled: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class OnRoad:
    """What Redis holds of one stream: `entries` in it, and those of them that were delivered and not acknowledged.

    Events of outside publishers are counted here alone: they have no row before they are processed.
    """

    entries: int = 0
    pending: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Census:
    """Ages in milliseconds by the database's clock; 0 when there is nothing. `waiting` is by stream."""

    unknown: int
    oldest_unknown_ms: int
    dead_letters: int
    parked: int
    suspects: int
    waiting: Mapping[str, Waiting]

    @property
    def oldest_unprocessed_ms(self) -> int:
        """The age of the oldest message that waits to be processed, of whichever stream."""
        return max((one.oldest_ms for one in self.waiting.values()), default=0)


def groups_of(partitions: int, psps: Iterable[str]) -> dict[str, str]:
    """All streams that somebody must keep up with, each with the group that does."""
    streams = {lane: MERCHANTS_GROUP for partition in range(partitions) for lane in lanes(events_stream(partition))}
    return streams | {lane: GATEWAY_GROUP for psp in psps for lane in lanes(commands_stream(psp))}
