"""`POST /v1/payments`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import assert_never

import uuid_utils
from aiohttp import web

from paynode.domain.accepting import Abandoned, Accepted, KeyUse, MerchantKey, NewPayment, StoredAnswer
from paynode.domain.errors import (
    IdempotencyKeyInFlight,
    IdempotencyKeyReused,
    NoRoute,
    PaynodeError,
    Transient,
    Unavailable,
)
from paynode.domain.folding import status_at_first
from paynode.domain.money import Money
from paynode.domain.payment import Method, OperationKind, PspOrder
from paynode.domain.psp import Capabilities
from paynode.domain.reading import PaymentView
from paynode.domain.route import route
from paynode.http import idempotency, prefer, representation
from paynode.http.acceptor import Accepting, Acceptor
from paynode.http.answering import Plan, answer_of, applied, let_wait, plan_of, replay, respond
from paynode.http.authentication import Doorman
from paynode.http.body import read_json
from paynode.http.context import CONTEXT
from paynode.http.payment_body import HostedPageBody, PaymentBody, read_payment
from paynode.http.point_of_sale import PointOfSale, is_ripe, plan_of_pos
from paynode.http.problem import Problem
from paynode.http.waiting import Waiters, Watch
from paynode.http.work import Work
from paynode.sections import Http

_PATH = "/v1/payments"
# The PSP of what no PSP takes: it is only looked up by its key, and never made.
_NOWHERE = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Creating:
    """Accepts payments. `accounts` are the PSPs that this installation has, with what they can do."""

    limits: Http
    doorman: Doorman
    acceptor: Acceptor
    accepting: Accepting
    waiters: Waiters[PaymentView]
    accounts: Mapping[str, Capabilities]
    point_of_sale: PointOfSale

    async def create(self, request: web.Request) -> web.Response:
        """Accept a payment, or answer again for one that was accepted."""
        merchant = await self.doorman.merchant(request)
        key = idempotency.key_of(request.headers.getall("Idempotency-Key", []))
        preference = prefer.parse(request.headers.getall("Prefer", []))
        raw = await read_json(request, self.limits)
        body, value = read_payment(raw, depth_max=self.limits.json_depth_max)
        use = KeyUse(merchant_id=merchant.merchant_id, path=_PATH, key=key, fingerprint=idempotency.fingerprint(value))
        if body.on_timeout is None:
            request[CONTEXT].is_about(Work.CHECKOUT)
        plan = plan_of(preference, Method(body.method.type), self.limits)
        try:
            if body.on_timeout is not None:
                plan = plan_of_pos(body, preference)
            way = self._way(merchant, body)
        except (NoRoute, Problem) as refusal:
            # What was accepted once is answered again, whatever has changed since.
            plan = let_wait(plan, request[CONTEXT])
            response = await self._recall(self._draft(merchant, use, body, plan, way=()), plan, refusal)
        else:
            plan = let_wait(plan, request[CONTEXT])
            response = await self._accept(self._draft(merchant, use, body, plan, way=way), plan)
        request[CONTEXT].facts["payment_id"] = response.headers["Location"].rpartition("/")[2]
        return response

    def _way(self, merchant: MerchantKey, body: PaymentBody) -> tuple[str, ...]:
        """Raises: NoRoute."""
        method = Method(body.method.type)
        return route(merchant.psps, self.accounts, currency=body.currency, method=method, kind=_kind(body))

    def _draft(
        self, merchant: MerchantKey, use: KeyUse, body: PaymentBody, plan: Plan[PaymentView], *, way: tuple[str, ...]
    ) -> NewPayment:
        view = _view(merchant, body, psp=way[0] if way else _NOWHERE)
        customer = body.customer.model_dump(exclude_none=True) if body.customer else None
        return NewPayment(
            view=view,
            order=self._order(view, body, plan),
            route=way,
            use=use,
            command_id=_new_id(),
            event_id=_new_id(),
            customer=customer,
            description=body.description,
            in_flight_s=plan.in_flight_s,
            answer=answer_of(view, plan.status, self.limits.base_url) if plan.is_immediate else None,
            reverse_after_s=plan.wait_s if plan.is_pos else None,
        )

    def _order(self, view: PaymentView, body: PaymentBody, plan: Plan[PaymentView]) -> PspOrder:
        is_hosted = isinstance(body.method, HostedPageBody)
        # What is reversed when the wait is over is not sent for the first time after it either.
        deadline_s = plan.wait_s if plan.is_pos else self.limits.payment_deadline_s
        # The PSP sends the customer back to us, and we to the shop: by then we know more than the PSP's page tells.
        come_back = f"{self.limits.base_url}{representation.checkout_path(view.id)}/return"
        return PspOrder(
            operation_id=_new_id(),
            payment_id=view.id,
            merchant_id=view.merchant_id,
            psp=view.psp,
            kind=_kind(body),
            money=view.money,
            method=view.method,
            token=None if isinstance(body.method, HostedPageBody) else body.method.token,
            return_url=come_back if is_hosted else None,
            description=body.description or "",
            give_up_at_ms=int((view.created_at.timestamp() + deadline_s) * 1000),
        )

    async def _accept(self, payment: NewPayment, plan: Plan[PaymentView]) -> web.Response:
        if payment.answer is not None:
            verdict = await self.acceptor.submit(payment)
            if isinstance(verdict, Accepted):
                return respond(payment.answer, applied(plan.applied))
            return await self._again(payment.use, plan, verdict)
        # Watched from before the commit: a payment can be final before this request hears of its commit.
        with self.waiters.watch(payment.view.id) as watch:
            verdict = await self.acceptor.submit(payment, is_pos=plan.is_pos)
            if isinstance(verdict, Accepted) and plan.is_pos:
                return await self.point_of_sale.answer(payment.use, payment.view.id, plan, watch)
            if isinstance(verdict, Accepted):
                return await self._wait(payment.use, plan, watch, payment.view, is_kept=plan.is_enough)
        return await self._again(payment.use, plan, verdict)

    async def _recall(self, draft: NewPayment, plan: Plan[PaymentView], refusal: NoRoute | Problem) -> web.Response:
        """Today it is refused; but it may be the retry of what was accepted. Raises: the refusal, if it is none."""
        [verdict] = await self.accepting.find([draft])
        match verdict:
            case StoredAnswer():
                return replay(verdict)
            case Abandoned() | IdempotencyKeyInFlight() | IdempotencyKeyReused() if isinstance(refusal, NoRoute):
                return await self._again(draft.use, plan, verdict)
            case _:
                # Whoever does not say how long he waits at the till cannot go on in another's place.
                raise refusal

    async def _again(
        self, use: KeyUse, plan: Plan[PaymentView], verdict: StoredAnswer | Abandoned | PaynodeError
    ) -> web.Response:
        """The key has been used before, or the payment was refused."""
        match verdict:
            case StoredAnswer():
                return replay(verdict)
            case Abandoned():
                return await self._adopt(use, plan, verdict.payment_id)
            case PaynodeError():
                raise verdict
            case _:
                assert_never(verdict)

    async def _adopt(self, use: KeyUse, plan: Plan[PaymentView], payment_id: str) -> web.Response:
        """The request that made the payment is gone: answer in its place."""
        # Another preference than this request's may have made it: then what is under way is no answer to be kept, for
        # it is neither the one that was given at once, which nobody can know, nor the last.
        is_kept = is_ripe if plan.is_immediate else plan.is_enough
        # An immediate answer needs one look at the payment.
        plan = replace(plan, wait_s=plan.wait_s or self.limits.hosted_page_wait_s)
        if not await self.accepting.adopt(use, in_flight_s=plan.in_flight_s):
            raise IdempotencyKeyInFlight(1.0)
        with self.waiters.watch(payment_id, look_now=True) as watch:
            if plan.is_pos:
                return await self.point_of_sale.answer(use, payment_id, plan, watch)
            return await self._wait(use, plan, watch, None, is_kept=is_kept)

    async def _wait(
        self,
        use: KeyUse,
        plan: Plan[PaymentView],
        watch: Watch[PaymentView],
        view: PaymentView | None,
        *,
        is_kept: Callable[[PaymentView], bool],
    ) -> web.Response:
        view = await watch.until(plan.is_enough, within_s=plan.wait_s) or view
        if view is None:
            raise Unavailable("nobody could look at the payment")
        if not is_kept(view) or plan.status != 201:
            return await self._answer_late(use, plan, view)
        answer = answer_of(view, plan.status, self.limits.base_url)
        faster = await self.accepting.store(use, answer)
        return respond(answer, applied(plan.applied)) if faster is None else replay(faster)

    async def _answer_late(self, use: KeyUse, plan: Plan[PaymentView], view: PaymentView) -> web.Response:
        """202, not stored: a retry waits again, or gets what there is by then."""
        with suppress(Transient):  # the in-flight time passes by itself
            await self.accepting.release(use)
        return respond(answer_of(view, 202, self.limits.base_url), applied(plan.applied_late or plan.applied))


def _view(merchant: MerchantKey, body: PaymentBody, *, psp: str) -> PaymentView:
    # Milliseconds, as they are shown: a stored answer says exactly what the row says.
    now = datetime.now(UTC)
    now = now.replace(microsecond=now.microsecond // 1000 * 1000)
    method = Method(body.method.type)
    metadata: Mapping[str, str] = body.metadata
    return PaymentView(
        id=_new_id(),
        merchant_id=merchant.merchant_id,
        order_id=body.order_id,
        status=status_at_first(method),
        money=Money(amount=body.amount, currency=body.currency),
        capture=body.capture,
        method=method,
        return_url=body.method.return_url if isinstance(body.method, HostedPageBody) else None,
        psp=psp,
        metadata=metadata,
        created_at=now,
        updated_at=now,
    )


def _kind(body: PaymentBody) -> OperationKind:
    # At a point of sale it is captured when somebody has been told that it was authorized, and not before.
    is_apart = body.capture == "manual" or body.on_timeout is not None
    return OperationKind.AUTHORIZE if is_apart else OperationKind.SALE


def _new_id() -> str:
    return str(uuid_utils.uuid7())
