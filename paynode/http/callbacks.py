"""`POST /v1/psp/{psp}/webhook`: stored before it is answered; a PSP that hears 200 never tells again."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Final, Protocol

import orjson
import uuid_utils
from aiohttp import web

from paynode.domain.accepting import Heard, Operated, Received, Spoken
from paynode.domain.callbacks import fact_of, stream_of
from paynode.domain.psp import Callback
from paynode.domain.road import Pointer
from paynode.http.announcing import Announcer
from paynode.http.body import read_body
from paynode.http.context import CONTEXT
from paynode.http.problem import Problem, not_found
from paynode.sections import Http

_UUID: Final = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.ASCII)
_MALFORMED: Final = "malformed"


@dataclass(frozen=True, slots=True, kw_only=True)
class Verifier:
    """How the callbacks of one PSP are believed and read: `verify` raises `refused`, which has a `code`.

    Not `is_binding`: the signature covers no amount, so that a callback is a reason to ask and no evidence.
    """

    verify: Callable[[Mapping[str, str], bytes], Callback | None]
    refused: type[Exception]
    is_binding: bool = True


class Inbox(Protocol):
    """Where callbacks are kept. All of it raises Unavailable."""

    async def operation(self, spoken: Spoken) -> Operated | None:
        """The operation that a PSP speaks about, if it may."""

    async def store(self, received: Received) -> None:
        """Keep a callback about nothing we know."""

    async def store_evidence(self, heard: Heard) -> Pointer | None:
        """Keep a callback and the evidence it is; None when it was kept before. Raises: Poison, Conflict also."""

    async def store_question(self, received: Received, operated: Operated) -> Pointer | None:
        """Keep a callback and ask the PSP whether it is true; None when it was kept before."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Callbacks:
    """Takes what PSPs tell us."""

    limits: Http
    partitions: int
    verifiers: Mapping[str, Verifier]
    inbox: Inbox
    announcer: Announcer

    async def receive(self, request: web.Request) -> web.Response:
        """Believe, store, publish, answer."""
        psp = request.match_info["psp"]
        verifier = self.verifiers.get(psp)
        if verifier is None:
            raise not_found("PSP")
        raw = await read_body(request, self.limits)
        callback = _believed(verifier, request.headers, raw)
        request[CONTEXT].facts["psp"] = psp
        if callback is not None:
            await self._store(psp, callback, raw, is_binding=verifier.is_binding)
        return web.Response(body=b'{"received":true}', headers={"Content-Type": "application/json"})

    async def _store(self, psp: str, callback: Callback, raw: bytes, *, is_binding: bool) -> None:
        received = Received(
            inbox_id=str(uuid_utils.uuid7()),
            psp=psp,
            event_id=callback.event_id,
            our_reference=callback.our_reference,
            raw=raw,
            claim=_claim(callback),
            at=datetime.now(UTC),
        )
        # What is no id of ours is kept all the same: it was signed, so somebody may ask about it.
        is_id = _UUID.fullmatch(callback.our_reference) is not None
        spoken = Spoken(operation_id=callback.our_reference, psp=psp, kinds=callback.kinds)
        operated = await self.inbox.operation(spoken) if is_id else None
        if operated is None:
            await self.inbox.store(received)
            return
        if is_binding:
            fact = fact_of(callback.answer, operated, event_id=str(uuid_utils.uuid7()))
            stream = stream_of(operated, self.partitions)
            pointer = await self.inbox.store_evidence(
                Heard(received=received, operated=operated, fact=fact, stream=stream)
            )
        else:
            pointer = await self.inbox.store_question(received, operated)
        if pointer is not None:
            self.announcer.announce([pointer])


def _believed(verifier: Verifier, headers: Mapping[str, str], raw: bytes) -> Callback | None:
    try:
        callback = verifier.verify(headers, raw)
    except verifier.refused as error:
        code = str(getattr(error, "code", _MALFORMED))
        raise _refusal(code) from error
    if callback is not None and not callback.is_storable:
        raise _refusal(_MALFORMED)
    return callback


def _claim(callback: Callback) -> str:
    """What is kept of it beside its bytes. Whoever looks again for its operation must know the kinds, too."""
    return orjson.dumps(asdict(callback.answer) | {"kinds": sorted(callback.kinds)}).decode()


def _refusal(code: str) -> Problem:
    status = 400 if code == _MALFORMED else 401
    return Problem(status=status, code=f"callback_{code}", detail="the callback cannot be believed or read")
