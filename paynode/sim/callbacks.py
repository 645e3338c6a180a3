"""Signed callbacks, tried until the receiver takes them.

Which callbacks exist follows from the book and the session file; only which of them are settled is written
down here. So a killed simulator owes at its next start exactly what was not settled, and at worst says one twice.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import logging
import time
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Self

import aiohttp
import orjson

from paynode.sim.journal import Journal
from paynode.sim.records import iso, now_ms

log = logging.getLogger(__name__)

_CONCURRENCY = 32
_TRY_TIMEOUT = aiohttp.ClientTimeout(total=5)
_RETRY_FIRST_S = 0.2
_RETRY_MAX_S = 30.0
_GIVE_UP_AFTER_S = 3600.0


@dataclass(frozen=True, slots=True)
class Event:
    """A fact that the receiver is told, and the bytes that tell it."""

    id: str
    body: bytes

    @classmethod
    def of(cls, told: dict[str, object], at_ms: int, *, instead: dict[str, object] | None = None) -> Self:
        """That something is as it is since `at_ms`; `instead` is what is said of it by a PSP that errs."""
        type_ = f"{told['object']}.{told['status']}"
        # From the type and the object's id, so that a restart repeats the event instead of making another.
        event_id = "evt_" + hashlib.sha256(f"{type_} {told['id']}".encode()).hexdigest()[:24]
        body = {"id": event_id, "type": type_, "created_ms": at_ms, "data": instead or told}
        return cls(event_id, orjson.dumps(body))


@dataclass(slots=True)
class _Parcel:
    """One delivery that is owed; `next_retry_s` doubles."""

    event: Event
    owed_since: float
    is_last: bool = True
    is_lost: bool = False
    next_retry_s: float = _RETRY_FIRST_S


class Courier:
    """Delivers announced events, the oldest due one first, until each was answered 2xx or an hour has passed."""

    def __init__(self, *, url: str, secret: str, settled: Journal) -> None:
        self._url = url
        self._secret = secret.encode()
        self._settled_file = settled
        self._settled = {str(line["event_id"]) for line in settled.lines()}
        self._due: asyncio.Queue[_Parcel] = asyncio.Queue()

    def announce(self, event: Event, *, times: int = 1, delay_ms: int = 0) -> None:
        """Owe the receiver this event, `times` deliveries of it; 0 loses it on purpose."""
        delay_s = delay_ms / 1000
        owed_since = asyncio.get_running_loop().time() + delay_s
        if times == 0:
            self._due.put_nowait(_Parcel(event, owed_since, is_lost=True))
        for number in range(1, times + 1):
            self._put_later(_Parcel(event, owed_since, is_last=number == times), delay_s)

    def announce_again(self, events: Iterable[Event]) -> int:
        """After a restart: owe those of all events that are not settled. Returns how many."""
        owed = [event for event in events if event.id not in self._settled]
        for event in owed:
            self.announce(event)
        return len(owed)

    async def run(self) -> None:
        """Deliver for ever."""
        connector = aiohttp.TCPConnector(limit=_CONCURRENCY, keepalive_timeout=10)
        async with (
            aiohttp.ClientSession(
                connector=connector, timeout=_TRY_TIMEOUT, trust_env=False, cookie_jar=aiohttp.DummyCookieJar()
            ) as session,
            asyncio.TaskGroup() as workers,
        ):
            for _ in range(_CONCURRENCY):
                workers.create_task(self._deliver_all(session))

    async def _deliver_all(self, session: aiohttp.ClientSession) -> None:
        loop = asyncio.get_running_loop()
        while True:
            parcel = await self._due.get()
            if parcel.is_lost:
                await self._settle(parcel.event, "lost")
            elif loop.time() - parcel.owed_since >= _GIVE_UP_AFTER_S:
                log.error("callback %s given up", parcel.event.id)
                await self._settle(parcel.event, "given_up")
            elif await self._is_delivered(session, parcel.event):
                if parcel.is_last:
                    await self._settle(parcel.event, "delivered")
            else:
                self._put_later(parcel, parcel.next_retry_s)
                parcel.next_retry_s = min(parcel.next_retry_s * 2, _RETRY_MAX_S)

    async def _is_delivered(self, session: aiohttp.ClientSession, event: Event) -> bool:
        headers = {"Content-Type": "application/json", "Sim-Signature": self._signature(event.body)}
        try:
            async with session.post(self._url, data=event.body, headers=headers, allow_redirects=False) as response:
                return 200 <= response.status < 300
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            log.debug("callback %s: %s", event.id, error)
            return False

    def _signature(self, body: bytes) -> str:
        at = str(int(time.time()))
        digest = hmac.new(self._secret, at.encode() + b"." + body, hashlib.sha256).hexdigest()
        return f"t={at},v1={digest}"

    async def _settle(self, event: Event, result: str) -> None:
        await self._settled_file.append({"at": iso(now_ms()), "event_id": event.id, "result": result})

    def _put_later(self, parcel: _Parcel, seconds: float) -> None:
        if seconds <= 0:
            self._due.put_nowait(parcel)
        else:
            asyncio.get_running_loop().call_later(seconds, self._due.put_nowait, parcel)
