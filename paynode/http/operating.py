"""The operator's API on the scheduler's admin port: dead letters, as `paynode dlq` has them.

One token lets in whoever has it, and the name in the header `Paynode-Operator` goes into the audit row as it was told:
enough for one team and one console behind a wall. Operators with log-ins of their own and a second factor come with
the console; nothing of a merchant's can be reached by this token. Without a token in the settings the API is off.
"""

from __future__ import annotations

import hmac
import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Final, Protocol

from aiohttp import hdrs, web
from pydantic import BaseModel, ConfigDict, StringConstraints, ValidationError

from paynode.domain import ids
from paynode.domain.dead_letters import (
    WHY_NOT,
    LetterFilter,
    LetterInFull,
    LetterStatus,
    LetterView,
    Resolution,
    Resolving,
    public_letter,
    public_letter_in_full,
)
from paynode.http import json_gate, query, representation
from paynode.http.body import read_json
from paynode.http.middleware import Observer, surrounding
from paynode.http.problem import Flaw, Problem, not_found
from paynode.sections import Http

_BEARER: Final = re.compile(r"bearer +([A-Za-z0-9._~+/-]{1,200}=*)", re.ASCII | re.IGNORECASE)
_OPERATOR_HEADER: Final = "Paynode-Operator"
_OPERATOR: Final = re.compile(r"[A-Za-z0-9_.@:+-]{1,100}", re.ASCII)
_UUID: Final = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.ASCII)
_WORD: Final = re.compile(r"[\x21-\x7e]{1,200}", re.ASCII)
_NO_NOTE: Final = "none given"


class Letters(Protocol):
    """Where dead letters are shown. All of it raises Unavailable."""

    async def index(self, asked: LetterFilter, *, before_id: str | None, limit: int) -> Sequence[LetterView]: ...
    async def find(self, letter_id: str) -> LetterInFull | None: ...


class Desk(Protocol):
    """Where they are resolved. Raises: Unavailable, Conflict."""

    async def resolve(self, verb: Resolving, letter_id: str, *, actor: str, note: str) -> Resolution: ...


class _NoteBody(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)

    note: Annotated[str, StringConstraints(min_length=1, max_length=500, pattern=r"\S")] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Operating:
    """Dead letters for operators."""

    token: str
    limits: Http
    letters: Letters
    desk: Desk

    async def index(self, request: web.Request) -> web.Response:
        """One page, newest first; `status` is dead unless it says otherwise (`all` for every one)."""
        self._admit(request)
        asked = query.read_query(request, _FILTERS)
        limit = query.limit_of(asked)
        status = query.get(asked, "status", str) or LetterStatus.DEAD
        wanted = LetterFilter(
            status=None if status == "all" else LetterStatus(status),
            reason=query.get(asked, "reason", str),
            merchant_id=query.get(asked, "merchant_id", str),
            stream=query.get(asked, "stream", str),
            since=query.get(asked, "from", datetime),
            until=query.get(asked, "to", datetime),
        )
        found = await self.letters.index(wanted, before_id=query.get(asked, "cursor", str), limit=limit + 1)
        cursor = query.cursor_of("letters", found[limit - 1].id) if len(found) > limit else None
        return representation.shown(representation.page([public_letter(one) for one in found[:limit]], cursor))

    async def show(self, request: web.Request) -> web.Response:
        """One letter with everything about it."""
        self._admit(request)
        query.read_query(request, {})
        return await self._shown(_letter_id(request))

    async def requeue(self, request: web.Request) -> web.Response:
        """Put it back on the road."""
        return await self._resolve(request, Resolving.REQUEUE)

    async def discard(self, request: web.Request) -> web.Response:
        """Give it up; the note that says why is required."""
        return await self._resolve(request, Resolving.DISCARD)

    async def _resolve(self, request: web.Request, verb: Resolving) -> web.Response:
        self._admit(request)
        letter_id, actor = _letter_id(request), _operator(request)
        note = _read_note(await read_json(request, self.limits), verb, depth_max=self.limits.json_depth_max)
        resolution = await self.desk.resolve(verb, letter_id, actor=actor, note=note)
        if resolution is Resolution.NOT_FOUND:
            raise not_found("dead letter")
        if resolution is not Resolution.DONE:
            raise Problem(status=409, code=resolution, detail=WHY_NOT[resolution])
        return await self._shown(letter_id)

    async def _shown(self, letter_id: str) -> web.Response:
        found = await self.letters.find(letter_id)
        if found is None:
            raise not_found("dead letter")
        return representation.shown(public_letter_in_full(found))

    def _admit(self, request: web.Request) -> None:
        if not self.token:
            detail = "the operator's API is off: set admin.operator_token"
            raise Problem(status=403, code="operator_api_off", detail=detail)
        headers = request.headers.getall(hdrs.AUTHORIZATION, [])
        shown = _BEARER.fullmatch(headers[0]) if len(headers) == 1 else None
        # Compared in constant time: how long a refusal takes must not tell how much of a guess was right.
        if shown is None or not hmac.compare_digest(shown[1].encode(), self.token.encode()):
            raise Problem(
                status=401,
                code="operator_token_invalid",
                detail="exactly one header is needed: Authorization: Bearer <operator token>",
                headers={"WWW-Authenticate": 'Bearer realm="paynode operators"'},
            )


def make_operating_app(operating: Operating, observer: Observer) -> web.Application:
    """The routes below `/v1` of an admin port, with the surroundings that the ingress has."""
    app = web.Application(middlewares=[surrounding(observer, deadline_s=operating.limits.request_deadline_s)])
    app.router.add_get("/dead_letters", operating.index)
    app.router.add_get("/dead_letters/{id}", operating.show)
    app.router.add_post("/dead_letters/{id}/requeue", operating.requeue)
    app.router.add_post("/dead_letters/{id}/discard", operating.discard)
    return app


def _letter_id(request: web.Request) -> str:
    letter_id = request.match_info["id"]
    if _UUID.fullmatch(letter_id) is None:
        raise not_found("dead letter")
    return letter_id


def _operator(request: web.Request) -> str:
    names = request.headers.getall(_OPERATOR_HEADER, [])
    if len(names) != 1 or _OPERATOR.fullmatch(names[0]) is None:
        detail = f"say who decides this, in one header: {_OPERATOR_HEADER}: <name of letters, digits and _ . @ : + ->"
        raise Problem(status=400, code="operator_missing", detail=detail)
    return names[0]


def _read_note(raw: bytes, verb: Resolving, *, depth_max: int) -> str:
    try:
        value, flaws = json_gate.parse(raw, depth_max=depth_max)
    except json_gate.Malformed as error:
        raise Problem(status=400, code="body_malformed", detail=f"the body is not acceptable JSON: {error}") from error
    if flaws:
        raise _body_invalid(flaws)
    try:
        note = _NoteBody.model_validate(value).note
    except ValidationError as error:
        found = error.errors(include_url=False, include_context=False, include_input=False)
        raise _body_invalid(
            [Flaw(detail=one["msg"], pointer=json_gate.pointer(one["loc"])) for one in found]
        ) from error
    if note is None and verb is Resolving.DISCARD:
        raise _body_invalid([Flaw(detail="is required: say why nobody will miss it", pointer="/note")])
    return note or _NO_NOTE


def _body_invalid(flaws: Sequence[Flaw]) -> Problem:
    return Problem(status=400, code="body_invalid", detail="the body cannot be accepted", errors=flaws)


def _status(text: str) -> str:
    if text not in (*LetterStatus, "all"):
        raise query.Unreadable(f"must be one of {', '.join((*LetterStatus, 'all'))}")
    return text


def _merchant_id(text: str) -> str:
    uuid = ids.parse(ids.MERCHANT, text)
    if uuid is None:
        raise query.Unreadable("must be the id of a merchant: mer_…")
    return uuid


def _word(text: str) -> str:
    if _WORD.fullmatch(text) is None:
        raise query.Unreadable("must have 1 to 200 printable characters")
    return text


_FILTERS: Final = {
    "status": _status,
    "reason": _word,
    "merchant_id": _merchant_id,
    "stream": _word,
    "from": query.moment,
    "to": query.moment,
    "limit": query.limit,
    "cursor": query.id_cursor("letters"),
}
