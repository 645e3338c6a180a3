"""The ingress: HTTP in front, the database behind, the streams beside it and not needed for accepting."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager

import anyio

from paynode.app.parts import backoff_of, settle_memory, sim_psp, tell_ready
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
from paynode.psp.errors import CallbackRefused
from paynode.psp.sim import SimPsp
from paynode.runtime.backoff import Backoff
from paynode.runtime.stopping import Stop, stop_on_signal
from paynode.storage.accepting import PgAccepting
from paynode.storage.callbacks import PgCallbacks
from paynode.storage.keys import PgKeys
from paynode.storage.postgres import Pool, Role, pool
from paynode.storage.reading import PgReading
from paynode.streams.changes import changes
from paynode.streams.client import Redis, commands_client, reader_client
from paynode.streams.publisher import RedisPublisher


async def run_ingress(settings: Settings) -> None:
    """Serve until a signal, then answer what came and stop."""
    stop = Stop()
    async with (
        anyio.create_task_group() as tasks,
        pool(settings, Role.INGRESS, application_name="ingress") as writing,
        pool(settings, Role.READER, application_name="ingress-reader") as reading,
        commands_client(settings) as commands,
        reader_client(settings) as listening,
        _made(settings, writing, reading, commands) as (ingress, readiness),
        serving(settings, ingress, readiness),
    ):
        await tasks.start(stop_on_signal, stop)
        tasks.start_soon(_listen, listening, ingress.waiters.changed, backoff_of(settings))
        settle_memory()
        tell_ready()
        await stop.wait()
        tasks.cancel_scope.cancel()


@asynccontextmanager
async def _made(
    settings: Settings, writing: Pool, reading: Pool, commands: Redis
) -> AsyncIterator[tuple[Ingress, Readiness]]:
    neighbours = Neighbours(
        keys=PgKeys(writing),
        accepting=PgAccepting(writing),
        reading=PgReading(reading),
        callbacks=PgCallbacks(writing),
        publisher=RedisPublisher(commands),
        verifiers={SimPsp.name: _verifier(sim_psp(settings))},
        available=(SimPsp.name,),
        observer=RequestLog(),
    )

    yield make_ingress(settings, neighbours), readiness_of(writing, commands)


def _verifier(adapter: SimPsp) -> Verifier:
    def verify(headers: Mapping[str, str], raw: bytes) -> Callback:
        return adapter.parse_callback(headers, raw, now_s=time.time())

    return Verifier(verify=verify, refused=CallbackRefused)


async def _listen(listening: Redis, tell: Callable[[Change], None], backoff: Backoff) -> None:
    """Hear of changes for ever; while Redis is away those who wait poll."""
    while True:
        try:
            async for change in changes(listening):
                backoff.reset()
                tell(change)
        except Transient:
            await backoff.pause()
