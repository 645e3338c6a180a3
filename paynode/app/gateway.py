"""The PSPs' gateways, put together: each adapter behind its guards, its actor, and what brings its commands."""

from __future__ import annotations

import time
from contextlib import AsyncExitStack, nullcontext
from dataclasses import dataclass
from typing import Final

import anyio
from anyio.abc import TaskGroup

from paynode.actors.command_detour import DetourCommandFeed
from paynode.actors.dispatch import Dispatcher, all_hands
from paynode.actors.gateway import PspActor, Screening
from paynode.actors.suspicion import Suspicion, SuspicionRules
from paynode.actors.upkeep import Upkeep
from paynode.app.operating import pulse_of
from paynode.app.parts import backoff_of, new_id, now_ms
from paynode.app.psps import adapters_of
from paynode.app.roads import Roads
from paynode.app.screening import screening_of
from paynode.config import Settings
from paynode.domain.attempts import Claim
from paynode.domain.road import commands_stream, lanes, pos_lane
from paynode.observability.observers import Observer
from paynode.psp.adapter import Adapter
from paynode.psp.breaker import BreakerRules
from paynode.psp.budget import BudgetRules
from paynode.psp.guard import GuardedPsp, GuardRules
from paynode.runtime.grouping import Grouper
from paynode.runtime.precedence import Precedence
from paynode.runtime.stopping import Stop
from paynode.sections import Gateway
from paynode.storage.attempts import PgAttempts
from paynode.storage.commands import PgCommands
from paynode.storage.guards import PgProbes
from paynode.storage.postgres import BY_KEY, Pool, Role, pool
from paynode.streams.client import reader_client

# Seconds that a probe's lease lasts beyond the longest call: for the lease itself to be granted.
_PROBE_MORE_S: Final = 5.0


async def start_gateways(
    settings: Settings,
    worker_id: str,
    ways: Roads,
    observer: Observer,
    stop: Stop,
    stack: AsyncExitStack,
    work: TaskGroup,
    *,
    precedence: Precedence,
) -> None:
    """Perform every PSP's commands until `stop`, each apart from the others; what they need is closed by `stack`."""
    database = await stack.enter_async_context(pool(settings, Role.GATEWAY, application_name=worker_id, planner=BY_KEY))
    screening = await screening_of(settings, database, observer, stack)
    house = _House(settings, worker_id, ways, observer, database, screening, precedence)
    for name, adapter in adapters_of(settings).items():
        await stack.enter_async_context(adapter)
        psp = _guarded(settings, name, adapter, observer, PgProbes(database, psp=name))
        pulse = pulse_of(settings, database, psp, observer, gateway=worker_id)
        # Before the first call: what operators hold open is held open here too, and the pace is shared.
        await pulse.run_once()
        work.start_soon(pulse.run, stop)
        stream = commands_stream(name)
        for lane in lanes(stream):
            # A connection of its own for each: a blocking read keeps it.
            reader = await stack.enter_async_context(reader_client(settings))
            feed = await ways.command_feed(stack, reader, lane, worker_id)
            house.start(psp, feed, stop, work, is_urgent=lane == pos_lane(stream))


@dataclass(frozen=True, slots=True)
class _House:
    """What the gateways of one process share."""

    settings: Settings
    worker_id: str
    ways: Roads
    observer: Observer
    database: Pool
    screening: Screening
    precedence: Precedence

    def start(self, psp: GuardedPsp, feed: DetourCommandFeed, stop: Stop, work: TaskGroup, *, is_urgent: bool) -> None:
        """Perform the commands of one lane, with hands of its own; the guards are the PSP's."""
        gateway, rows, attempts = self.settings.gateway, PgCommands(self.database), self._attempts()
        # As many as charges have places: the rest waits on the stream, which keeps its order and costs nothing.
        hands = gateway.concurrency - gateway.concurrency_reserved
        claims: Grouper[Claim, bool] = Grouper(
            attempts.claim, group_size_max=gateway.concurrency, waiting_max=all_hands(hands)
        )
        dispatcher = Dispatcher(
            psp.name,
            feed,
            rows,
            attempts,
            PspActor(
                psp,
                attempts,
                claims,
                new_id=new_id,
                send_within_s=gateway.send_within_s,
                call_deadline_s=gateway.call_deadline_s,
                now_ms=now_ms,
                is_urgent=is_urgent,
                screening=self.screening,
                resting=self.precedence.resting if is_urgent else nullcontext,
                pending_inquiry_s=gateway.pending_inquiry_s,
            ),
            self.ways.road,
            self._suspicion(rows),
            self.observer,
            hands=hands,
            queue_size=gateway.queue_size,
            reclaim_idle_ms=gateway.reclaim_idle_ms,
            backoff=backoff_of(self.settings),
            hurrying=self.precedence.hurrying if is_urgent else nullcontext,
        )
        upkeep = Upkeep(
            feed,
            dispatcher.in_hand,
            self.observer,
            reclaim_idle_ms=gateway.reclaim_idle_ms,
            consumer_idle_s=gateway.consumer_idle_s,
        )
        work.start_soon(_dispatch_until_stopped, dispatcher, claims, upkeep, stop)

    def _attempts(self) -> PgAttempts:
        gateway = self.settings.gateway
        return PgAttempts(
            self.database,
            gateway=self.worker_id,
            send_within_s=gateway.send_within_s,
            call_deadline_s=gateway.call_deadline_s,
            partitions=self.settings.streams.partitions,
        )

    def _suspicion(self, rows: PgCommands) -> Suspicion:
        gateway = self.settings.gateway
        rules = SuspicionRules(deliveries=gateway.suspect_deliveries, attempts_max=gateway.suspect_tries_max)
        return Suspicion(rows, self.ways.road, self.observer, rules, new_id=new_id, now_ms=now_ms)


def _guarded(settings: Settings, name: str, adapter: Adapter, observer: Observer, probes: PgProbes) -> GuardedPsp:
    return GuardedPsp(name, adapter, observer, _rules_of(settings.gateway, name), clock=time.monotonic, probes=probes)


def _rules_of(gateway: Gateway, name: str) -> GuardRules:
    return GuardRules(
        breaker=BreakerRules(
            window_s=gateway.breaker_window_s,
            calls_min=gateway.breaker_calls_min,
            failed_max=gateway.breaker_failed_max,
            in_a_row=gateway.breaker_failures,
            open_s=gateway.breaker_open_s,
        ),
        budget=BudgetRules(
            share_max=gateway.retry_share_max, every_s=gateway.retry_every_s, pause_max_s=gateway.retry_pause_max_s
        ),
        places=gateway.concurrency,
        reserved=gateway.concurrency_reserved,
        waiting_max=gateway.waiting_max,
        wait_max_s=gateway.wait_max_s,
        per_s_max=next((pace.calls_max for pace in gateway.paces_per_s if pace.psp == name), 0.0),
        probe_s=gateway.send_within_s + gateway.call_deadline_s + _PROBE_MORE_S,
    )


async def _dispatch_until_stopped(
    dispatcher: Dispatcher, claims: Grouper[Claim, bool], upkeep: Upkeep, stop: Stop
) -> None:
    async with anyio.create_task_group() as beside:
        beside.start_soon(claims.run)
        beside.start_soon(upkeep.run)
        await dispatcher.run(stop)
        beside.cancel_scope.cancel()
