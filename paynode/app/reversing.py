"""The sweep for payments at points of sale that nobody waits for any more, as the scheduler runs it."""

from __future__ import annotations

from datetime import UTC, datetime

from paynode.actors.detour import PassableRoad
from paynode.actors.reversing import Reversing, ReversingRules
from paynode.app.parts import new_id
from paynode.config import Settings
from paynode.domain.ids import MERCHANT, public
from paynode.domain.partition import partition_of
from paynode.domain.point_of_sale import Marking, Overdue
from paynode.domain.road import events_stream, pos_lane
from paynode.observability.observers import Observer
from paynode.storage.leases import PgSingleton
from paynode.storage.point_of_sale import PgPointOfSale
from paynode.storage.postgres import Pool


def reversing_of(
    settings: Settings, database: Pool, road: PassableRoad, observer: Observer, *, owner: str
) -> Reversing:
    """One of however many run; `database` logs in as the gateway."""
    chosen = settings.point_of_sale

    def mark(overdue: Overdue) -> Marking:
        partition = partition_of(public(MERCHANT, overdue.merchant_id), settings.streams.partitions)
        return Marking(
            payment_id=overdue.payment_id,
            merchant_id=overdue.merchant_id,
            event_id=new_id(),
            request_id=new_id(),
            stream=pos_lane(events_stream(partition)),
            at=datetime.now(UTC),
        )

    return Reversing(
        PgPointOfSale(database),
        road,
        PgSingleton(database, name="point_of_sale", owner=owner, lease_s=chosen.lease_s),
        observer,
        ReversingRules(interval_s=chosen.interval_s, grace_s=chosen.grace_s, sweep_size=chosen.sweep_size),
        mark=mark,
    )
