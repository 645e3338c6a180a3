"""The calendar, as the scheduler runs it."""

from __future__ import annotations

from paynode.actors.calendar import Calendar, CalendarRules
from paynode.config import Settings
from paynode.observability.observers import Observer
from paynode.storage.calendar import PgDiary
from paynode.storage.leases import PgSingleton
from paynode.storage.postgres import Pool


def calendar_of(settings: Settings, database: Pool, observer: Observer, *, owner: str) -> Calendar:
    """One of however many run; `database` logs in as the gateway."""
    chosen = settings.calendar
    return Calendar(
        PgDiary(database, partitions=settings.streams.partitions),
        PgSingleton(database, name="calendar", owner=owner, lease_s=chosen.lease_s),
        observer,
        CalendarRules(interval_s=chosen.interval_s, sweep_size=chosen.sweep_size),
    )
