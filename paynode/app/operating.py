"""What operators look at and decide, put together: the undertaker, the census, the API, a gateway's pulse."""

from __future__ import annotations

from aiohttp import web

from paynode.actors.census import CensusTaker
from paynode.actors.matching import Matcher, MatchingRules
from paynode.actors.months import MonthMaker
from paynode.actors.pulse import Pulse
from paynode.actors.undertaker import Undertaker, UndertakerRules
from paynode.app.psps import adapters_of
from paynode.config import Settings
from paynode.domain.census import groups_of
from paynode.http.operating import Operating, make_operating_app
from paynode.observability.observers import Observer
from paynode.observability.requests import RequestLog
from paynode.psp.guard import GuardedPsp
from paynode.storage.callbacks import PgCallbacks
from paynode.storage.census import PgCensus
from paynode.storage.dead_letters import PgGraves, PgLetters, PgResolving
from paynode.storage.gateways import PgGateways
from paynode.storage.leases import PgSingleton
from paynode.storage.months import PgMonths
from paynode.storage.postgres import Pool
from paynode.streams.client import Redis
from paynode.streams.graves import RedisGraves
from paynode.streams.standing import RedisStanding

# Beats that may be missed before a gateway counts as silent.
_BEATS_MISSED = 3
# Seconds between two looks for months without a table. They are made a year ahead: no setting would gain anything.
_MONTHS_S = 3600.0


def undertaker_of(settings: Settings, database: Pool, commands: Redis, observer: Observer, *, owner: str) -> Undertaker:
    """Whoever holds the lease keeps dead-letter streams and table in agreement; `database` as the gateway's role."""
    chosen = settings.undertaker
    return Undertaker(
        PgGraves(database),
        RedisGraves(commands),
        PgSingleton(database, name="undertaker", owner=owner, lease_s=chosen.lease_s),
        observer,
        UndertakerRules(interval_s=chosen.interval_s, suspect_kept_s=chosen.suspect_kept_s, page_size=chosen.page_size),
        streams=_groups(settings),
    )


def matcher_of(settings: Settings, database: Pool, observer: Observer) -> Matcher:
    """Looks again at callbacks that named nothing we knew; `database` as the gateway's role."""
    chosen = settings.matching
    return Matcher(
        PgCallbacks(database),
        observer,
        MatchingRules(
            interval_s=chosen.interval_s,
            page_size=chosen.page_size,
            look_for_s=chosen.look_for_s,
            look_max_s=chosen.look_max_s,
        ),
        partitions=settings.streams.partitions,
        unsigned=[name for name, one in adapters_of(settings).items() if not one.capabilities.is_callback_binding],
    )


def month_maker_of(database: Pool, observer: Observer) -> MonthMaker:
    """Makes the coming months of the ledger; `database` as the gateway's role."""
    return MonthMaker(PgMonths(database), observer, interval_s=_MONTHS_S)


def census_of(settings: Settings, reading: Pool, commands: Redis, observer: Observer) -> CensusTaker:
    """Counts for the metrics; `reading` as the reader's role."""
    return CensusTaker(
        PgCensus(reading),
        RedisStanding(commands),
        observer,
        groups=_groups(settings),
        interval_s=settings.census.interval_s,
    )


def operating_app(settings: Settings, reading: Pool, database: Pool) -> web.Application:
    """The operator's API: shows as the reader's role, resolves as the gateway's."""
    operating = Operating(
        token=settings.admin.operator_token,
        limits=settings.http,
        letters=PgLetters(reading),
        desk=PgResolving(database),
    )
    return make_operating_app(operating, RequestLog())


def pulse_of(settings: Settings, database: Pool, psp: GuardedPsp, observer: Observer, *, gateway: str) -> Pulse:
    """Tells that a gateway lives and how its breakers are; `database` as the gateway's role."""
    every_s = settings.gateway.pulse_s
    board = PgGateways(database, gateway=gateway, psp=psp.name, alive_s=every_s * _BEATS_MISSED)
    return Pulse(board, psp, observer, interval_s=every_s)


def _groups(settings: Settings) -> dict[str, str]:
    return groups_of(settings.streams.partitions, settings.psp)
