"""A fraud check that says and does as it is told: `/fraud` of the simulator, down or silent apart from the PSP.

| amount    | decision                              |
|-----------|---------------------------------------|
| 4100001   | reject, `velocity`                    |
| 4100002   | review, `unusual_amount`              |
| any other | pass                                  |

`POST /fraud/control` with `{"mode": ...}` puts one mode in force until the next: `rules` (the table), `pass`, `reject`
or `review` (everything), `down` (503), `silent` (no answer), `cut` (the connection is closed), `garbled` (200, and
nothing that could be understood). `GET /fraud/control` shows the mode and all questions that came, unanswered ones too.
"""

from __future__ import annotations

import asyncio
import hmac
from collections import deque
from enum import StrEnum
from typing import Annotated, Final

import orjson
from aiohttp import web
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from paynode.sim.refusals import Refusal, what_is_wrong

# Questions that are shown; the oldest go.
_SHOWN_MAX: Final = 10_000


class Mode(StrEnum):
    """How the check is."""

    RULES = "rules"
    PASS = "pass"  # noqa: S105 - a word, not a secret
    REJECT = "reject"
    REVIEW = "review"
    DOWN = "down"
    SILENT = "silent"
    CUT = "cut"
    GARBLED = "garbled"


class _Question(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    id: str
    payment_id: Annotated[str, Field(pattern=r"^pay_")]
    merchant_id: Annotated[str, Field(pattern=r"^mer_")]
    kind: str
    method: str
    amount: Annotated[int, Field(ge=1, le=10**12)]
    currency: Annotated[str, Field(pattern=r"^[A-Z]{3}$")]
    customer: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")] | None


class _Control(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    mode: Mode


class FraudCheck:
    def __init__(self, *, api_key: str) -> None:
        self._authorization = f"Bearer {api_key}".encode() if api_key else None
        self._mode = Mode.RULES
        self._asked: deque[dict[str, object]] = deque(maxlen=_SHOWN_MAX)

    def routes(self) -> list[web.RouteDef]:
        return [
            web.put("/fraud/checks/{id}", self.check),
            web.get("/fraud/control", self.show),
            web.post("/fraud/control", self.control),
        ]

    async def check(self, request: web.Request) -> web.Response:
        given = request.headers.get("Authorization", "").encode()
        if self._authorization is not None and not hmac.compare_digest(given, self._authorization):
            raise Refusal(401, "unauthorized", "say Authorization: Bearer with the key of the fraud check")
        try:
            question = _Question.model_validate_json(await request.read())
        except ValidationError as error:
            raise Refusal(400, "question_invalid", what_is_wrong(error)) from error
        if question.id != request.match_info["id"]:
            raise Refusal(400, "question_invalid", "the path and the body name different charges")
        self._asked.append(question.model_dump())
        match self._mode:
            case Mode.DOWN:
                raise Refusal(503, "unavailable", "the fraud check is down")
            case Mode.SILENT:
                await asyncio.Event().wait()
            case Mode.CUT:
                if request.transport is not None:
                    request.transport.abort()
            case Mode.GARBLED:
                return web.Response(body=b'{"decision":"perhaps"}', content_type="application/json")
        decision, reason = self._decision(question)
        return _json({"id": question.id, "decision": decision, "reason": reason})

    def _decision(self, question: _Question) -> tuple[str, str]:
        match self._mode, question.amount:
            case (Mode.REJECT, _) | (Mode.RULES, 4_100_001):
                return "reject", "velocity"
            case (Mode.REVIEW, _) | (Mode.RULES, 4_100_002):
                return "review", "unusual_amount"
            case _:
                return "pass", ""

    async def show(self, request: web.Request) -> web.Response:
        return _json({"mode": self._mode, "asked": list(self._asked)})

    async def control(self, request: web.Request) -> web.Response:
        try:
            self._mode = _Control.model_validate_json(await request.read()).mode
        except ValidationError as error:
            raise Refusal(400, "mode_invalid", what_is_wrong(error)) from error
        return await self.show(request)


def _json(content: dict[str, object]) -> web.Response:
    return web.Response(body=orjson.dumps(content), content_type="application/json")
