"""Screening, put together: the fraud check behind its guards, before charges and behind them."""

from __future__ import annotations

from contextlib import AsyncExitStack

from paynode.actors.gateway import Screening
from paynode.actors.screening import UNSCREENED, Rescreening, RescreeningRules, Screener
from paynode.app.parts import new_id
from paynode.config import Settings
from paynode.domain.screening import Allowance
from paynode.fraud.client import HttpCheck
from paynode.fraud.guard import GuardedCheck
from paynode.observability.observers import Observer
from paynode.psp.breaker import Breaker, BreakerRules
from paynode.storage.leases import PgSingleton
from paynode.storage.postgres import Pool
from paynode.storage.screening import PgScreenings


async def screening_of(settings: Settings, database: Pool, observer: Observer, stack: AsyncExitStack) -> Screening:
    """What gives charges their verdicts, one for all gateways of a process; `database` as the gateway's role."""
    if not settings.fraud.url:
        return UNSCREENED
    check = await _check_of(settings, observer, stack)
    allowances = {
        one.currency: Allowance(payment_max=one.payment_max, hour_max=one.hour_max) for one in settings.fraud.allowances
    }
    return Screener(check, _screenings_of(settings, database), observer, allowances=allowances)


async def rescreening_of(
    settings: Settings, database: Pool, observer: Observer, stack: AsyncExitStack, *, owner: str
) -> Rescreening | None:
    """What asks again about charges that the check owes an answer about; None where there is no check."""
    chosen = settings.fraud
    if not chosen.url:
        return None
    return Rescreening(
        await _check_of(settings, observer, stack),
        _screenings_of(settings, database),
        PgSingleton(database, name="rescreening", owner=owner, lease_s=chosen.lease_s),
        observer,
        RescreeningRules(
            interval_s=chosen.recheck_s, sweep_size=chosen.sweep_size, gives_back=chosen.late_reject == "refund"
        ),
        new_id=new_id,
    )


async def _check_of(settings: Settings, observer: Observer, stack: AsyncExitStack) -> GuardedCheck:
    chosen = settings.fraud
    rules = BreakerRules(
        window_s=chosen.breaker_window_s,
        calls_min=chosen.breaker_calls_min,
        failed_max=chosen.breaker_failed_max,
        open_s=chosen.breaker_open_s,
    )
    client = HttpCheck(url=chosen.url, api_key=chosen.api_key, concurrency=chosen.concurrency)
    return GuardedCheck(
        await stack.enter_async_context(client),
        Breaker(rules),
        observer,
        deadline_s=chosen.deadline_s,
        concurrency=chosen.concurrency,
    )


def _screenings_of(settings: Settings, database: Pool) -> PgScreenings:
    return PgScreenings(
        database,
        salt=settings.fraud.salt,
        partitions=settings.streams.partitions,
        payment_deadline_s=settings.http.payment_deadline_s,
    )
