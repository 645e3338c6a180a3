"""Flaws of the gateway and of the ingress."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from typing import Any
from uuid import uuid4

import structlog
from aiohttp import web

from paynode.domain.accepting import Accepted, NewPayment, Verdict
from paynode.domain.errors import IdempotencyKeyReused, Transient, Unavailable
from paynode.domain.payment import PspOrder
from paynode.domain.psp import Answer, Outcome, PspRequest
from paynode.http.acceptor import Acceptor
from paynode.http.authentication import Doorman
from paynode.http.creating import Creating
from paynode.psp.guard import GuardedPsp
from paynode.streams.publisher import RedisPublisher
from tests.support.bugs.patching import Method, wrap

_KEPT: list[Any] = []


def resend_after_time_out() -> None:
    """No answer is taken for "not sent", and the next try is a new charge to the PSP."""

    def make(send: Method) -> Method:
        async def hasty(self: Any, order: PspOrder, request: PspRequest, **instants: float) -> Answer:
            answer: Answer = await send(self, order, replace(request, idempotency_key=str(uuid4())), **instants)
            return replace(answer, outcome=Outcome.NOT_SENT) if answer.outcome is Outcome.UNKNOWN else answer

        return hasty

    wrap(GuardedPsp, "send", make)


def stored_error() -> None:
    """An error is an answer like any other, and is kept for those who ask again."""
    stored: dict[str, web.Response] = {}

    def make(create: Method) -> Method:
        async def keeping(self: Any, request: web.Request) -> web.Response:
            key = request.headers["Idempotency-Key"]
            if key in stored:
                return _response(is_replayed=True)
            try:
                response: web.Response = await create(self, request)
            except Transient:
                response = stored[key] = _response(is_replayed=False)
            return response

        return keeping

    wrap(Creating, "create", make)


def _response(*, is_replayed: bool) -> web.Response:
    headers = {"Location": "/v1/payments/none"} | ({"Idempotent-Replayed": "true"} if is_replayed else {})
    return web.json_response({"code": "internal_error"}, status=500, headers=headers)


def cut_commit_is_failed() -> None:
    """A commit whose answer was cut off counts as failed, and the client is told no."""

    def make(_: Method) -> Method:
        async def commit(self: Any, group: Sequence[NewPayment]) -> Sequence[Verdict]:
            try:
                verdicts: list[Verdict] = await self._commit(group)
            except Unavailable:
                verdicts = [IdempotencyKeyReused() for _ in group]
            self._announce(group, verdicts)
            return verdicts

        return commit

    wrap(Acceptor, "commit", make)


def answer_before_commit() -> None:
    """Accepted is said at once, and committed a little later."""

    def make(submit: Method) -> Method:
        async def hasty(self: Any, payment: NewPayment, **is_pos: bool) -> Verdict:
            async def later() -> None:
                await asyncio.sleep(0.3)
                await submit(self, payment, **is_pos)

            _KEPT.append(asyncio.get_running_loop().create_task(later()))
            return Accepted(payment_id=payment.view.id)

        return hasty

    wrap(Acceptor, "submit", make)


def key_in_the_log() -> None:
    """Who asks is written down, with his key."""

    def make(merchant: Method) -> Method:
        async def talkative(self: Any, request: web.Request) -> Any:
            structlog.get_logger().info("authenticating", detail=request.headers["Authorization"])
            return await merchant(self, request)

        return talkative

    wrap(Doorman, "merchant", make)


def descriptors_leak() -> None:
    """Every publishing leaves some open."""

    def make(publish: Method) -> Method:
        async def leaking(self: Any, pointers: Any) -> None:
            _KEPT.extend(open("/dev/null") for _ in range(10))  # noqa: SIM115, ASYNC230 - that is the flaw
            await publish(self, pointers)

        return leaking

    wrap(RedisPublisher, "publish", make)
