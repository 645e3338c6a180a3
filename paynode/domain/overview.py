"""How a whole installation stands, for the person who is woken at three in the morning."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime

from paynode.domain.census import Census, OnRoad, Waiting
from paynode.domain.dead_letters import instant
from paynode.domain.road import commands_stream, events_stream, lanes


@dataclass(frozen=True, slots=True, kw_only=True)
class PartitionState:
    """Who owns a partition. `lease_ms` is what is left of the lease: 0 when nobody has one. `unclean_deaths` counts
    owners in a row that died over what they had in hand."""

    partition: int
    owner: str | None
    epoch: int
    lease_ms: int
    unclean_deaths: int


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerState:
    """A process that competes for partitions; `silent_ms` since its last sign of life ran out, 0 while it lives."""

    id: str
    started_at: datetime
    silent_ms: int


@dataclass(frozen=True, slots=True, kw_only=True)
class GatewayState:
    """A process that calls a PSP, with what it alone knows: its breakers by kind of operation, its calls under way."""

    id: str
    psp: str
    started_at: datetime
    silent_ms: int
    breakers: Mapping[str, str]
    in_flight: int


@dataclass(frozen=True, slots=True, kw_only=True)
class SingletonState:
    """Who does what only one process does at a time; `lease_ms` as for partitions."""

    name: str
    owner: str | None
    lease_ms: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """What the database says, all in one snapshot. `in_doubt` are operations with unknown outcome by PSP,
    `dead_letters` those that wait for an operator by reason."""

    at: datetime
    census: Census
    partitions: Sequence[PartitionState]
    workers: Sequence[WorkerState]
    gateways: Sequence[GatewayState]
    singletons: Sequence[SingletonState]
    in_doubt: Mapping[str, int]
    dead_letters: Mapping[str, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Overview:
    """That, and what the streams hold; `road` is None while Redis is away."""

    standing: Standing
    road: Mapping[str, OnRoad] | None
    psps: Sequence[str]

    def on_road(self, stream: str) -> OnRoad | None:
        """What a stream holds in both its lanes; None while Redis is away."""
        if self.road is None:
            return None
        found = [self.road.get(lane, OnRoad()) for lane in lanes(stream)]
        return OnRoad(entries=sum(one.entries for one in found), pending=sum(one.pending for one in found))

    def waiting(self, stream: str) -> Waiting:
        """What waits for a stream's consumers in both its lanes."""
        found = [self.standing.census.waiting.get(lane, Waiting()) for lane in lanes(stream)]
        return Waiting(
            due=sum(one.due for one in found),
            oldest_ms=max(one.oldest_ms for one in found),
            scheduled=sum(one.scheduled for one in found),
        )


def public_overview(overview: Overview) -> dict[str, object]:
    """The JSON of `paynode status`. Ages and what is left of leases are milliseconds by the database's clock."""
    standing, census = overview.standing, overview.standing.census
    return {
        "at": instant(standing.at),
        "redis": "away" if overview.road is None else "up",
        "oldest_unprocessed_ms": census.oldest_unprocessed_ms,
        "unprocessed": sum(waiting.due for waiting in census.waiting.values()),
        "unknown": census.unknown,
        "oldest_unknown_ms": census.oldest_unknown_ms,
        "dead_letters": {"total": census.dead_letters, "by_reason": dict(standing.dead_letters)},
        "parked": census.parked,
        "suspects": census.suspects,
        "partitions": [
            asdict(one) | {"stream": stream, **_stream(overview, stream)}
            for one in standing.partitions
            for stream in (events_stream(one.partition),)
        ],
        "workers": [asdict(one) | {"started_at": instant(one.started_at)} for one in standing.workers],
        "psps": [
            {
                "psp": psp,
                "stream": stream,
                **_stream(overview, stream),
                "in_flight": sum(one.in_flight for one in standing.gateways if one.psp == psp and not one.silent_ms),
                "in_doubt": standing.in_doubt.get(psp, 0),
            }
            for psp in overview.psps
            for stream in (commands_stream(psp),)
        ],
        "gateways": [asdict(one) | {"started_at": instant(one.started_at)} for one in standing.gateways],
        "singletons": [asdict(one) for one in standing.singletons],
    }


def _stream(overview: Overview, stream: str) -> dict[str, object]:
    waiting, on_road = overview.waiting(stream), overview.on_road(stream)
    return {
        "lag": waiting.due,
        "oldest_ms": waiting.oldest_ms,
        "scheduled": waiting.scheduled,
        "entries": None if on_road is None else on_road.entries,
        "pending": None if on_road is None else on_road.pending,
    }
