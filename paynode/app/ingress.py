"""The ingress: HTTP in front, the database behind, the streams beside it and not needed for accepting."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from functools import partial

import anyio

from paynode.app.parts import backoff_of, settle_memory, tell_ready
from paynode.app.psps import adapters_of
from paynode.app.watching import readiness_of
from paynode.config import Settings
from paynode.domain.errors import Transient
from paynode.domain.psp import Callback
from paynode.domain.road import Change
from paynode.http.admin import Readiness
from paynode.http.application import Ingress, Neighbours, make_ingress
from paynode.http.callbacks import Verifier
from paynode.http.serving import serving
from paynode.observability.requests import RequestLog
from paynode.psp.adapter import Adapter
from paynode.psp.errors import CallbackRefused
from paynode.runtime.backoff import Backoff
from paynode.runtime.stopping import Stop, stop_on_signal
from paynode.storage.accepting import PgAccepting
from paynode.storage.callbacks import PgCallbacks
from paynode.storage.keys import PgKeys
from paynode.storage.point_of_sale import PgPointOfSale
from paynode.storage.postgres import BY_INDEX, BY_KEY, Pool, Role, pool
from paynode.storage.reading import PgReading
from paynode.storage.requesting import PgRequesting
from paynode.storage.waiting import waited_s
from paynode.streams.changes import changes
from paynode.streams.client import Redis, commands_client, reader_client
from paynode.streams.publisher import RedisPublisher


async def run_ingress(settings: Settings) -> None:
    """Serve until a signal, then answer what came and stop."""
    stop = Stop()
    async with (
        anyio.create_task_group() as tasks,
        pool(settings, Role.INGRESS, application_name="ingress") as writing,
        pool(settings, Role.READER, application_name="ingress-reader", planner=BY_INDEX) as reading,
        # Their own: whatever else the ingress has to do, what a PSP tells is stored.
        pool(
            settings,
            Role.INGRESS,
            application_name="ingress-callbacks",
            size=settings.overload.callback_connections_max,
            planner=BY_KEY,
        ) as calling_back,
        commands_client(settings) as commands,
        reader_client(settings) as listening,
        _made(settings, writing, reading, calling_back, commands) as (ingress, readiness),
        serving(settings, ingress, readiness),
    ):
        await tasks.start(stop_on_signal, stop)
        tasks.start_soon(_listen, listening, ingress.changed, backoff_of(settings))
        settle_memory()
        tell_ready()
        await stop.wait()
        tasks.cancel_scope.cancel()


@asynccontextmanager
async def _made(
    settings: Settings, writing: Pool, reading: Pool, calling_back: Pool, commands: Redis
) -> AsyncIterator[tuple[Ingress, Readiness]]:
    adapters = adapters_of(settings)
    neighbours = Neighbours(
        keys=PgKeys(writing),
        accepting=PgAccepting(writing),
        deciding=PgPointOfSale(writing),
        requesting=PgRequesting(writing),
        reading=PgReading(reading),
        callbacks=PgCallbacks(calling_back),
        publisher=RedisPublisher(commands),
        verifiers={name: _verifier(adapter) for name, adapter in adapters.items()},
        accounts={name: adapter.capabilities for name, adapter in adapters.items()},
        observer=RequestLog(),
        # Not where callbacks wait: nobody else does.
        waiting=[partial(waited_s, one) for one in (writing, reading)],
    )

    yield make_ingress(settings, neighbours), readiness_of(writing, commands)


def _verifier(adapter: Adapter) -> Verifier:
    def verify(headers: Mapping[str, str], raw: bytes) -> Callback | None:
        return adapter.parse_callback(headers, raw, now_s=time.time())

    return Verifier(verify=verify, refused=CallbackRefused, is_binding=adapter.capabilities.is_callback_binding)


async def _listen(listening: Redis, tell: Callable[[Change], None], backoff: Backoff) -> None:
    """Hear of changes for ever; while Redis is away those who wait poll."""
    while True:
        try:
            async for change in changes(listening):
                backoff.reset()
                tell(change)
        except Transient:
            await backoff.pause()
