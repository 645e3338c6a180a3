"""The relay, as the scheduler runs it and a burst does."""

from __future__ import annotations

from paynode.actors.relay import Relay, RelayRules
from paynode.config import Settings
from paynode.observability.observers import Observer
from paynode.runtime.reach import Reach
from paynode.storage.leases import PgSingleton
from paynode.storage.outbox import PgOutbox
from paynode.storage.postgres import Pool
from paynode.streams.client import Redis
from paynode.streams.publisher import RedisPublisher


def relay_of(
    settings: Settings, database: Pool, commands: Redis, reach: Reach, observer: Observer, *, owner: str
) -> Relay:
    """One of however many run: the lease decides which of them acts. `database` logs in as the gateway."""
    rules = RelayRules(
        interval_s=settings.relay.interval_s,
        republish_after_s=settings.relay.republish_after_s,
        republish_max_s=settings.relay.republish_max_s,
        sweep_size=settings.relay.sweep_size,
    )
    return Relay(
        PgOutbox(database),
        RedisPublisher(commands),
        PgSingleton(database, name="relay", owner=owner, lease_s=settings.relay.lease_s),
        observer,
        rules,
        partitions=settings.streams.partitions,
        reach=reach,
    )
