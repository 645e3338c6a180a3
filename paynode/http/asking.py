"""`POST /v1/payments/{id}/capture`, `/void`, `/cancel`, `/refunds`: the payment's actor decides, and we wait for it."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Final, Protocol, assert_never

import uuid_utils
from aiohttp import web

from paynode.domain import ids
from paynode.domain.accepting import KeyUse, StoredAnswer
from paynode.domain.asking import Asked, AskVerdict, Left, NewRequest
from paynode.domain.errors import IdempotencyKeyInFlight, PaynodeError, Transient, Unavailable
from paynode.domain.partition import partition_of
from paynode.domain.payment import OperationKind
from paynode.domain.reading import OperationView, PaymentView
from paynode.domain.requesting import Request, RequestKind
from paynode.domain.road import Pointer, events_stream
from paynode.http import idempotency, prefer, representation
from paynode.http.announcing import Announcer
from paynode.http.answering import Plan, applied, let_wait, plan_preferred, replay, respond
from paynode.http.authentication import Doorman
from paynode.http.body import read_json
from paynode.http.context import CONTEXT
from paynode.http.operation_bodies import CaptureBody, EmptyBody, RefundBody
from paynode.http.preconditions import expected_version
from paynode.http.problem import not_found, retry_after
from paynode.http.refusals import problem_of
from paynode.http.strict_body import read_as
from paynode.http.waiting import Waiters, Watch
from paynode.sections import Http

_Body = CaptureBody | RefundBody | EmptyBody

# The last word of the path, which is also a part of the key's scope.
_WORD: Final = {
    RequestKind.CAPTURE: "capture",
    RequestKind.VOID: "void",
    RequestKind.CANCEL: "cancel",
    RequestKind.REFUND: "refunds",
}


class PaymentLooking(Protocol):
    """Where the payment is looked at that something is asked about."""

    async def payment(self, merchant_id: str, payment_id: str) -> PaymentView | None:
        """A payment of this merchant. Raises: Unavailable."""


class Requesting(Protocol):
    """Where requests are kept. All of it raises Unavailable."""

    async def ask(self, new: NewRequest) -> AskVerdict:
        """Commit the request, or tell what is known of its key. Whether Unavailable has committed it, `find` tells."""

    async def find(self, new: NewRequest) -> AskVerdict:
        """What is known of the request's key; None when it is not taken."""

    async def adopt(self, use: KeyUse, request_id: str, *, in_flight_s: float) -> bool:
        """Go on with an abandoned request; False when somebody else does."""


class KeyKeeping(Protocol):
    """Where the answers to requests are kept."""

    async def store(self, use: KeyUse, answer: StoredAnswer) -> StoredAnswer | None:
        """Keep the answer; the one that was faster, if any. Raises: Unavailable, Conflict."""

    async def release(self, use: KeyUse) -> None:
        """Let the next retry go on at once. Raises: Unavailable."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Asking:
    """Hands requests to the actors of payments, and tells what these have decided."""

    limits: Http
    partitions: int
    doorman: Doorman
    looking: PaymentLooking
    requesting: Requesting
    keys: KeyKeeping
    announcer: Announcer
    waiters: Waiters[OperationView]

    async def capture(self, request: web.Request) -> web.Response:
        """Take what is authorized, or a part of it."""
        return await self._ask(request, RequestKind.CAPTURE, CaptureBody)

    async def void(self, request: web.Request) -> web.Response:
        """Let go of what is authorized and not captured."""
        return await self._ask(request, RequestKind.VOID, EmptyBody)

    async def cancel(self, request: web.Request) -> web.Response:
        """End a payment that nobody has paid yet."""
        return await self._ask(request, RequestKind.CANCEL, EmptyBody)

    async def refund(self, request: web.Request) -> web.Response:
        """Give back what is captured, or a part of it."""
        return await self._ask(request, RequestKind.REFUND, RefundBody)

    async def _ask(self, request: web.Request, kind: RequestKind, shape: type[_Body]) -> web.Response:
        merchant = await self.doorman.merchant(request)
        key = idempotency.key_of(request.headers.getall("Idempotency-Key", []))
        plan = self._plan(prefer.parse(request.headers.getall("Prefer", [])))
        # All members are optional: no body is the empty object.
        raw = await read_json(request, self.limits) if request.body_exists else b"{}"
        body, value = read_as(shape, raw, depth_max=self.limits.json_depth_max)
        payment = await self._payment(merchant.merchant_id, request.match_info["id"])
        use = KeyUse(
            merchant_id=merchant.merchant_id,
            path=f"{representation.path_of(payment.id)}/{_WORD[kind]}",
            key=key,
            fingerprint=idempotency.fingerprint(value),
        )
        version = expected_version(request.headers.getall("If-Match", []), current=payment.version)
        asked = _request(kind, payment.id, body, version)
        request[CONTEXT].facts["payment_id"] = request.match_info["id"]
        plan = let_wait(plan, request[CONTEXT])
        return await self._submit(use, plan, asked, payment)

    def _plan(self, preference: prefer.Preference) -> Plan[OperationView]:
        decided = Plan(wait_s=self.limits.decision_wait_s, is_enough=_is_decided, status=201)
        return plan_preferred(preference, _is_final) or decided

    async def _payment(self, merchant_id: str, public_id: str) -> PaymentView:
        payment_id = ids.parse(ids.PAYMENT, public_id)
        payment = await self.looking.payment(merchant_id, payment_id) if payment_id else None
        if payment is None:
            raise not_found("payment")
        return payment

    async def _submit(
        self, use: KeyUse, plan: Plan[OperationView], asked: Request, payment: PaymentView
    ) -> web.Response:
        draft = _draft(asked, payment)
        merchant = ids.public(ids.MERCHANT, use.merchant_id)
        new = NewRequest(
            request=asked,
            use=use,
            stream=events_stream(partition_of(merchant, self.partitions)),
            in_flight_s=plan.in_flight_s,
            answer=self._answer(draft, plan.status) if plan.is_immediate else None,
        )
        # Watched from before the commit: the actor may be faster than our hearing of it.
        with self.waiters.watch(asked.id, payment_id=payment.id) as watch:
            verdict = await self._commit(new)
            if isinstance(verdict, Asked):
                self.announcer.announce([Pointer(stream=new.stream, ref=asked.id, merchant=merchant)])
                if new.answer is not None:
                    return respond(new.answer, applied(plan.applied))
                return await self._wait(use, plan, watch, draft)
        return await self._again(use, plan, payment, verdict)

    async def _commit(self, new: NewRequest) -> AskVerdict:
        try:
            return await self.requesting.ask(new)
        except Unavailable:
            # Committed or not: the connection is gone and cannot say. Only the key can.
            verdict = await self.requesting.find(new)
            if verdict is None:
                raise
            return verdict

    async def _again(
        self, use: KeyUse, plan: Plan[OperationView], payment: PaymentView, verdict: AskVerdict
    ) -> web.Response:
        """The key has been used before."""
        match verdict:
            case StoredAnswer():
                return replay(verdict)
            case Left() | Asked():
                return await self._adopt(use, plan, payment, verdict.request_id)
            case PaynodeError():
                raise verdict
            case None:
                raise not_found("payment")
            case _:
                assert_never(verdict)

    async def _adopt(
        self, use: KeyUse, plan: Plan[OperationView], payment: PaymentView, request_id: str
    ) -> web.Response:
        """Whoever waited for the decision is gone: answer in its place."""
        # An immediate answer needs one look at what was asked, which it cannot know.
        plan = replace(plan, wait_s=plan.wait_s or self.limits.decision_wait_s)
        if not await self.requesting.adopt(use, request_id, in_flight_s=plan.in_flight_s):
            raise IdempotencyKeyInFlight(1.0)
        with self.waiters.watch(request_id, payment_id=payment.id, look_now=True) as watch:
            return await self._wait(use, plan, watch, None)

    async def _wait(
        self, use: KeyUse, plan: Plan[OperationView], watch: Watch[OperationView], draft: OperationView | None
    ) -> web.Response:
        view = await watch.until(plan.is_enough, within_s=plan.wait_s) or draft
        if view is None:
            raise Unavailable("nobody could look at the request")
        if view.refusal is not None:
            # Not suppressed: this write also makes certain that the refusal, which was only read, will last.
            await self.keys.release(use)
            raise problem_of(view)
        if not plan.is_enough(view) or plan.status != 201:
            return await self._answer_late(use, plan, view)
        answer = self._answer(view, plan.status)
        faster = await self.keys.store(use, answer)
        return respond(answer, applied(plan.applied)) if faster is None else replay(faster)

    async def _answer_late(self, use: KeyUse, plan: Plan[OperationView], view: OperationView) -> web.Response:
        """202, not stored: a retry waits again, or gets what there is by then."""
        with suppress(Transient):  # the in-flight time passes by itself
            await self.keys.release(use)
        return respond(self._answer(view, 202), applied(plan.applied_late or plan.applied))

    def _answer(self, view: OperationView, status: int) -> StoredAnswer:
        """A refund shows itself; whatever else was asked shows its payment."""
        headers = {"Location": representation.operation_path(view)}
        if status == 202:
            headers |= retry_after()
        is_refund = view.kind == OperationKind.REFUND
        shown = representation.refund(view) if is_refund else representation.payment_after(view, self.limits.base_url)
        return StoredAnswer(status=status, headers=headers, body=representation.encode(shown))


def _request(kind: RequestKind, payment_id: str, body: _Body, version: int | None) -> Request:
    asked = Request(id=str(uuid_utils.uuid7()), payment_id=payment_id, kind=kind, expected_version=version)
    match body:
        case CaptureBody():
            return replace(asked, amount=body.amount, is_final=body.final)
        case RefundBody():
            return replace(asked, amount=body.amount, reason=body.reason or "")
        case EmptyBody():
            return asked
        case _:
            assert_never(body)


def _draft(asked: Request, payment: PaymentView) -> OperationView:
    """What is asked, before anybody has decided."""
    now = datetime.now(UTC)
    return OperationView(
        id=asked.id,
        kind=asked.kind,
        payment=payment,
        amount=asked.amount,
        is_final_capture=asked.is_final,
        reason=asked.reason,
        created_at=now,
        updated_at=now,
    )


def _is_decided(view: OperationView) -> bool:
    return view.is_decided


def _is_final(view: OperationView) -> bool:
    return view.is_final
