"""One screen for `paynode status`: what is wrong stands on top and is red, what is well takes little room."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import timedelta
from functools import partial
from typing import Final

from rich.box import SIMPLE_HEAD
from rich.columns import Columns
from rich.console import Group, RenderableType
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from paynode.domain.overview import GatewayState, Overview, PartitionState, WorkerState
from paynode.domain.road import commands_stream, events_stream

# Milliseconds of waiting from which somebody should look: the goal while healthy is 5 s.
_LATE_MS: Final = 5000
# Partitions shown one by one: more would push the rest off the screen.
_BEHIND_MAX: Final = 8
_BREAKER_STYLES: Final = {"half_open": "yellow", "open": "bold red"}
# Columns that take more lines when there is little room.
_LONG: Final = frozenset({"partitions", "reason"})
_MILLISECOND: Final = timedelta(milliseconds=1)


def screen(overview: Overview, *, note: Text | None = None, is_full: bool = False) -> RenderableType:
    """All of it: partitions by their owners and those that are behind one by one, or with `is_full` every one."""
    parts: list[RenderableType] = [*([note] if note else []), _headline(overview), _owners(overview)]
    held_up = sorted(
        filter(partial(_is_behind, overview), overview.standing.partitions), key=partial(_urgency, overview)
    )
    if is_full:
        parts.append(_partitions("Partitions", overview, overview.standing.partitions))
    elif held_up:
        title = f"Behind: {min(len(held_up), _BEHIND_MAX)} of {len(held_up)} partitions"
        parts.append(_partitions(title, overview, held_up[:_BEHIND_MAX]))
    parts += [_psps(overview), Columns([_singletons(overview), _letters(overview)], padding=(0, 2))]
    return Group(*parts)


def _headline(overview: Overview) -> Text:
    """The figures that one is woken for."""
    standing, census = overview.standing, overview.standing.census
    unowned = sum(not _is_held(one) for one in standing.partitions)
    living = sum(not one.silent_ms for one in standing.workers)
    figures = [
        (f"{standing.at:%Y-%m-%d %H:%M:%S}Z", False),
        ("Redis away" if overview.road is None else "Redis up", overview.road is None),
        (f"{living} workers", living == 0),
        (
            f"{unowned} of {len(standing.partitions)} partitions without owner" if unowned else "all partitions owned",
            unowned > 0,
        ),
        (f"oldest unprocessed {_age(census.oldest_unprocessed_ms)}", census.oldest_unprocessed_ms > _LATE_MS),
        (f"{census.unknown} in doubt" + _since(census.oldest_unknown_ms), census.unknown > 0),
        (f"{census.dead_letters} dead letters", census.dead_letters > 0),
        (f"{census.parked} parked", census.parked > 0),
        (f"{census.suspects} suspects", census.suspects > 0),
    ]
    line = Text()
    for text, is_wrong in figures:
        line.append("  " if line else "")
        line.append(text, style="bold red" if is_wrong else "green")
    return line


def _owners(overview: Overview) -> Table:
    """A line for each worker, whatever it owns, and one for what nobody owns."""
    standing = overview.standing
    up = {one.id: _up(overview, one) for one in standing.workers}
    owned: dict[str | None, list[PartitionState]] = {name: [] for name in up}
    for one in standing.partitions:
        owned.setdefault(one.owner if _is_held(one) else None, []).append(one)
    table = _table("Workers", ("worker", "up", "partitions"), ("epochs", "lease", "lag", "oldest", "pending", "deaths"))
    for owner, ones in owned.items():
        streams = [events_stream(one.partition) for one in ones]
        waiting = [overview.waiting(stream) for stream in streams]
        epochs = sorted({one.epoch for one in ones})
        table.add_row(
            short(owner) if owner else "[red]nobody[/red]",
            up.get(owner, "[red]not seen[/red]") if owner else "",
            _ranges([one.partition for one in ones]),
            f"{epochs[0]}-{epochs[-1]}" if len(epochs) > 1 else "".join(map(str, epochs)),
            _age(min((one.lease_ms for one in ones), default=0)) if owner else "-",
            _count(sum(one.due for one in waiting)),
            _late(max((one.oldest_ms for one in waiting), default=0)),
            _pending(overview, *streams),
            _alarming(sum(one.unclean_deaths for one in ones)),
        )
    return table


def _up(overview: Overview, one: WorkerState) -> str:
    if one.silent_ms:
        return f"[red]silent {_age(one.silent_ms)}[/red]"
    return _age(round((overview.standing.at - one.started_at) / _MILLISECOND))


def _ranges(numbers: Sequence[int]) -> str:
    """`0-3, 7`."""
    parts: list[list[int]] = []
    for number in numbers:
        if parts and parts[-1][-1] == number - 1:
            parts[-1].append(number)
        else:
            parts.append([number])
    return ", ".join(f"{part[0]}-{part[-1]}" if len(part) > 1 else str(part[0]) for part in parts) or "-"


def _partitions(title: str, overview: Overview, partitions: Sequence[PartitionState]) -> Table:
    table = _table(title, ("p", "owner"), ("epoch", "lease", "lag", "oldest", "pending", "deaths"))
    for one in partitions:
        table.add_row(*_partition(overview, one))
    return table


def _is_behind(overview: Overview, one: PartitionState) -> bool:
    return overview.waiting(events_stream(one.partition)).oldest_ms > _LATE_MS or one.unclean_deaths > 0


def _urgency(overview: Overview, one: PartitionState) -> tuple[int, int]:
    """What has waited longest comes first."""
    return -overview.waiting(events_stream(one.partition)).oldest_ms, one.partition


def _table(title: str, left: Sequence[str], right: Sequence[str]) -> Table:
    table = Table(title=title, title_justify="left", box=SIMPLE_HEAD, show_edge=False, padding=(0, 1, 0, 0))
    for name in left:
        table.add_column(name, overflow="fold", no_wrap=name not in _LONG, min_width=len(name))
    for name in right:
        table.add_column(name, justify="right", no_wrap=True)
    return table


def _partition(overview: Overview, one: PartitionState) -> list[str]:
    stream = events_stream(one.partition)
    waiting = overview.waiting(stream)
    owner = short(one.owner) if one.owner and _is_held(one) else "[red]nobody[/red]"
    return [
        f"{one.partition:02d}",
        owner,
        str(one.epoch),
        _age(one.lease_ms) if _is_held(one) else "-",
        _count(waiting.due),
        _late(waiting.oldest_ms),
        _pending(overview, stream),
        _alarming(one.unclean_deaths),
    ]


def _psps(overview: Overview) -> Table:
    figures = ("lag", "oldest", "scheduled", "pending", "in flight", "in doubt")
    table = _table("PSPs", ("psp",), figures)
    table.add_column("gateway", no_wrap=True)
    table.add_column("breakers", overflow="fold")
    for psp in overview.psps:
        stream = commands_stream(psp)
        waiting = overview.waiting(stream)
        living = [one for one in overview.standing.gateways if one.psp == psp and not one.silent_ms]
        totals = [
            psp,
            _count(waiting.due),
            _late(waiting.oldest_ms),
            _count(waiting.scheduled),
            _pending(overview, stream),
            _count(sum(one.in_flight for one in living)),
            _alarming(overview.standing.in_doubt.get(psp, 0)),
        ]
        gateways = list(_gateways(living))
        table.add_row(*totals, *gateways[0])
        for more in gateways[1:]:
            table.add_row(*[""] * len(totals), *more)
    return table


def _gateways(living: Sequence[GatewayState]) -> Iterator[tuple[str, str]]:
    if not living:
        yield "[red]none[/red]", ""
    for one in living:
        unwell = (
            f"{escape(kind)} [{_BREAKER_STYLES.get(state, 'red')}]{escape(state)}[/]"
            for kind, state in sorted(one.breakers.items())
            if state != "closed"
        )
        yield short(one.id), ", ".join(unwell) or "[green]all closed[/green]"


def _singletons(overview: Overview) -> Table:
    table = _table("One at a time", ("what", "who"), ("lease",))
    for one in overview.standing.singletons:
        who = short(one.owner) if one.owner and one.lease_ms else "[red]nobody[/red]"
        table.add_row(escape(one.name), who, _age(one.lease_ms))
    return table


def _letters(overview: Overview) -> Table:
    table = _table("Dead letters", ("reason",), ("letters",))
    for reason, letters in overview.standing.dead_letters.items():
        table.add_row(escape(reason), f"[red]{letters}[/red]")
    return table


def short(name: str) -> str:
    """The end of a process's name: its beginning is the time at which it started, alike for all that start together."""
    return escape(f"…{name[-8:]}" if len(name) > 20 else name)


def _is_held(one: PartitionState) -> bool:
    return one.owner is not None and one.lease_ms > 0


def _pending(overview: Overview, *streams: str) -> str:
    found = [on_road.pending for stream in streams if (on_road := overview.on_road(stream)) is not None]
    return "away" if overview.road is None else _count(sum(found))


def _count(number: int) -> str:
    return str(number) if number else "-"


def _alarming(number: int) -> str:
    return f"[red]{number}[/red]" if number else "-"


def _late(age_ms: int) -> str:
    return f"[red]{_age(age_ms)}[/red]" if age_ms > _LATE_MS else _age(age_ms)


def _since(age_ms: int) -> str:
    return f" since {_age(age_ms)}" if age_ms else ""


def _age(age_ms: int) -> str:
    """In the unit that says most."""
    if not age_ms:
        return "-"
    seconds = age_ms / 1000
    if seconds < 10:
        return f"{seconds:.1f}s"
    for unit, size in (("s", 60), ("m", 60), ("h", 24)):
        if seconds < 2 * size:
            return f"{seconds:.0f}{unit}"
        seconds /= size
    return f"{seconds:.0f}d"
