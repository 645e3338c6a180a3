"""Hearing what became of events: one reader for each partition that somebody waits on, for as long as somebody does."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

from paynode.client.errors import OutcomeUnknown
from paynode.client.events import Event, Signer
from paynode.domain.errors import Poison, Unavailable
from paynode.domain.publishing import Result
from paynode.domain.road import outcomes_stream
from paynode.streams.client import Redis, translated
from paynode.streams.entries import EntryId, entries, entry_id
from paynode.streams.members import NotStrict
from paynode.streams.outcome_events import Told, decode
from paynode.streams.signing import authenticate, claim

# Milliseconds a read waits; bounds how long an ended reader keeps its connection.
BLOCK_MS: Final = 1000
# Entries of one read. Everybody's outcomes of the partition are among them.
_COUNT: Final = 500
# Seconds between two tries while Redis is away.
_PAUSE_S: Final = 0.2

_BEGINNING: Final[EntryId] = (0, 0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Applied:
    """The event had its effect, once, now or at an earlier time."""

    event_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Refused:
    """The event had no effect and never will; `code` says why (`insufficient_funds`)."""

    event_id: str
    code: str


Outcome: TypeAlias = Applied | Refused


class Listener:
    """Reads the outcomes of one partition while somebody waits for one."""

    def __init__(self, client: Redis, signer: Signer, partition: int) -> None:
        self._client = client
        self._signer = signer
        self._stream = outcomes_stream(partition)
        self._waiting: dict[str, list[asyncio.Future[Told]]] = {}
        self._reading: asyncio.Task[None] | None = None
        self._is_ready = asyncio.Event()
        self._after: EntryId = _BEGINNING

    @asynccontextmanager
    async def hearing(self, event: Event) -> AsyncIterator[asyncio.Future[Told]]:
        """What will be said of an event from now on; entered when the place to read from is known.

        So what is published afterwards cannot have been answered before that place.
        """
        with self._expecting(event) as heard:
            if self._reading is None:
                self._is_ready.clear()
                self._reading = asyncio.create_task(self._read(), name=f"outcomes of {self._stream}")
                self._reading.add_done_callback(self._ended)
            await self._is_ready.wait()
            if heard.done():
                heard.result()  # what ended the reader, before anything was published
            yield heard

    @contextmanager
    def _expecting(self, event: Event) -> Iterator[asyncio.Future[Told]]:
        heard: asyncio.Future[Told] = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(event.id, []).append(heard)
        try:
            yield heard
        finally:
            if heard.done():
                heard.exception()  # seen, or of no interest any more
            self._waiting[event.id].remove(heard)
            if not self._waiting[event.id]:
                del self._waiting[event.id]

    async def aclose(self) -> None:
        """Stop reading; whoever still waits is told that nobody knows."""
        reading = self._reading
        if reading is not None:
            reading.cancel()
            await asyncio.gather(reading, return_exceptions=True)

    def _ended(self, reading: asyncio.Task[None]) -> None:
        """Nobody waits any more; or we are closed, or have a flaw, which those who wait must hear of."""
        if self._reading is reading:
            self._reading = None
        if not reading.cancelled() and reading.exception() is None:
            return
        for event_id, waiting in self._waiting.items():
            error = None if reading.cancelled() else reading.exception()
            for heard in waiting:
                if not heard.done():
                    heard.set_exception(error or OutcomeUnknown(event_id, "the Publisher was closed meanwhile"))
        self._is_ready.set()

    async def _read(self) -> None:
        # Between the look at `_waiting` and the end there is no waiting: nobody can come to rely on a reader that ends.
        while self._waiting:
            try:
                if not self._is_ready.is_set():
                    self._after = await self._last()
                    self._is_ready.set()
                await self._read_once()
            except Unavailable:
                await asyncio.sleep(_PAUSE_S)
        self._reading = None

    async def _read_once(self) -> None:
        after = f"{self._after[0]}-{self._after[1]}"
        with translated():
            answer: Any = await self._client.xread({self._stream: after}, count=_COUNT, block=BLOCK_MS)
        if not answer:
            # Redis may have lost the stream, and have begun another with lower ids: read that from its beginning.
            if await self._last() < self._after:
                self._after = _BEGINNING
            return
        for entry in entries(answer[0][1]):
            self._after = entry_id(entry.id)
            self._hear(entry.fields)

    async def _last(self) -> EntryId:
        with translated():
            found: Any = await self._client.xrevrange(self._stream, count=1)
        return entry_id(found[0][0].decode()) if found else _BEGINNING

    def _hear(self, fields: Mapping[str, str]) -> None:
        """Tell whoever waits for this; what is for another publisher, or forged, is passed over."""
        try:
            claimed = claim(fields)
            if claimed.publisher != self._signer.name:
                return
            authenticate(claimed, self._signer.key)
            told = decode(claimed.raw)
        except (Poison, NotStrict):
            return
        for heard in self._waiting.get(told.event_id, ()):
            if not heard.done():
                heard.set_result(told)


def outcome_of(told: Told) -> Outcome:
    """What it means to the caller."""
    if told.result is Result.APPLIED:
        return Applied(event_id=told.event_id)
    return Refused(event_id=told.event_id, code=told.code or "refused")
