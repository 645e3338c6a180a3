"""The adapter of Stripe: PaymentIntents for stored cards, Checkout Sessions for a page. Written from its documentation,
and never run against Stripe itself (docs/decisions/0016-stripe.md)."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable, Mapping
from datetime import datetime
from types import TracebackType
from typing import Final, Self

from pydantic import ValidationError

from paynode.domain.payment import Method, OperationKind, PspOrder
from paynode.domain.psp import Answer, Callback, Capabilities, Outcome, PspRequest, SettlementLine
from paynode.psp import stripe_events
from paynode.psp.errors import Unavailable
from paynode.psp.stripe_inquiries import Inquiries
from paynode.psp.stripe_money import CURRENCIES
from paynode.psp.stripe_reading import Reader
from paynode.psp.stripe_requests import API_VERSION, CONTENT_TYPE, prepared
from paynode.psp.stripe_settlement import settlement
from paynode.psp.stripe_words import Intent, Refund, Refusal, Session, declined, unknown, unsettled, word
from paynode.psp.transport import NoReply, PspTransport, Reply

# Errors of the key, or of an object that is in use: what was asked for may have been done, or is being done.
_IN_DOUBT: Final = frozenset({"idempotency_key_in_use", "lock_timeout"})

# The keys of real money, secret and restricted; all others are a sandbox's.
_LIVE_KEYS: Final = ("sk_live_", "rk_live_")

# What was refused may have been done before, by an earlier sending of ours: the object says so.
_ABOUT_A_CHARGE: Final = frozenset(
    {OperationKind.CAPTURE, OperationKind.VOID, OperationKind.REFUND, OperationKind.CANCEL}
)


class StripePsp:
    """An account at Stripe as the gateway sees it. `has_search`: its country has Stripe's search (India has none)."""

    def __init__(
        self,
        *,
        name: str,
        url: str,
        api_key: str,
        webhook_secret: str,
        idempotent_for_s: float,
        settle_s: float,
        has_search: bool,
        concurrency: int,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.name = name
        self.capabilities = Capabilities(
            has_page=True,
            has_token=True,
            can_authorize=True,
            can_capture_partially=True,
            # Only for accounts with a contract of their own; for all others the first capture is the last.
            can_capture_repeatedly=False,
            can_refund_partially=True,
            can_cancel_page=True,
            is_callback_binding=True,
            idempotent_for_s=idempotent_for_s,
            settle_s=settle_s,
            currencies=CURRENCIES,
        )
        self._webhook_secret = webhook_secret.encode()
        self._is_live = api_key.startswith(_LIVE_KEYS)
        headers = {"Authorization": f"Bearer {api_key}", "Stripe-Version": API_VERSION}
        self._transport = PspTransport(url, headers=headers, concurrency=concurrency)
        self._reader = Reader(self._transport)
        self._inquiries = Inquiries(self._reader, has_search=has_search, idempotent_for_s=idempotent_for_s, clock=clock)

    async def __aenter__(self) -> Self:
        await self._transport.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._transport.__aexit__(kind, error, trace)

    def prepare(self, order: PspOrder) -> PspRequest:
        """The bytes that ask for an operation."""
        return prepared(order)

    async def send(self, order: PspOrder, request: PspRequest, *, send_by: float, deadline: float) -> Answer:
        """Send the stored bytes once. Every error is an Answer."""
        reply = await self._transport.post(
            request.path,
            request.body,
            headers={"Idempotency-Key": request.idempotency_key},
            send_by=send_by,
            deadline=deadline,
            content_type=CONTENT_TYPE,
        )
        match reply:
            case NoReply(has_left=False):
                return Answer(outcome=Outcome.NOT_SENT, reason=reply.reason, is_psp_failure=reply.is_psp_failure)
            case NoReply():
                return unknown(reply.reason)
            case Reply(status=200):
                return await self._done(order, reply.body, deadline)
            case Reply():
                return await self._refused(order, reply, deadline)

    async def find(self, order: PspOrder, *, deadline: float) -> Answer | None:
        """Ask what became of an operation. None: nothing of it is at Stripe. UNKNOWN: the question went unanswered."""
        try:
            return await self._inquiries.find(order, deadline=deadline)
        except Unavailable as error:
            return unknown(str(error))
        except ValueError:
            return unknown("answer_invalid")

    def parse_callback(self, headers: Mapping[str, str], raw: bytes, *, now_s: float) -> Callback | None:
        """Believe a callback by its signature over the raw bytes, then read it. Raises: CallbackRefused."""
        stripe_events.verify(self._webhook_secret, headers, raw, now_s=now_s)
        return stripe_events.callback_of(raw, is_live=self._is_live)

    def settlement(self, since: datetime, until: datetime) -> AsyncIterator[SettlementLine]:
        """The balance transactions with `since` <= at < `until`, oldest first. Raises: Unavailable."""
        return settlement(self._reader, since, until)

    async def _done(self, order: PspOrder, body: bytes, deadline: float) -> Answer:
        """What the object says that was made or changed. Its state may say that nothing came of it yet."""
        try:
            said = _said(order, body)
        except ValueError:  # ValidationError is one, and so is an amount that is none of ours
            return unknown("answer_invalid")
        return said or unsettled("nothing_done")

    async def _refused(self, order: PspOrder, reply: Reply, deadline: float) -> Answer:
        try:
            error = Refusal.model_validate_json(reply.body).error
        except ValidationError:
            return unknown(f"http_{reply.status}")
        code = word(error.code, word(error.type, "refused"))
        match reply.status:
            case 401:
                # Without an account to charge there is no charge: Stripe looks at the key before all else.
                return Answer(outcome=Outcome.NOT_SENT, reason="key_refused", is_psp_failure=True)
            case 429 if code == "rate_limit":
                # Stripe's limiters stand before the layer that remembers keys: what they refuse was never begun.
                return Answer(outcome=Outcome.NOT_SENT, reason=code, is_psp_failure=True)
            case 402 if error.type == "card_error":
                return _card_declined(order, error.reason, error.payment_intent)
            case 400 | 404 if error.type == "invalid_request_error" and code not in _IN_DOUBT:
                return await self._impossible(order, reply.status, code, deadline)
            case 409 | 429:
                return unsettled(code)
            case _:
                return unknown(f"http_{reply.status}")

    async def _impossible(self, order: PspOrder, status: int, code: str, deadline: float) -> Answer:
        """A request that Stripe will never do; of a charge that is there, because it has been done perhaps."""
        if status == 404 and code != "resource_missing":
            return unknown("http_404")  # an address that Stripe does not know: ours is set wrong
        if order.kind not in _ABOUT_A_CHARGE:
            return declined(code)
        found = await self.find(order, deadline=deadline)
        return declined(code) if found is None else found


def _card_declined(order: PspOrder, reason: str, intent: Intent | None) -> Answer:
    """The no of a bank. Of a capture the authorization may still stand: only a declined charge says more."""
    if intent is not None and not _is_about(order, intent):
        return unknown("answer_invalid")
    try:
        said = None if intent is None else intent.charged()
    except ValueError:  # an amount that is none of ours
        said = None
    return said if said is not None and said.outcome is Outcome.DECLINED else declined(reason)


def _is_about(order: PspOrder, intent: Intent) -> bool:
    """Whether it is the charge that was asked for, or the one that something was asked about."""
    if order.kind in _ABOUT_A_CHARGE:
        return intent.id == order.charge_reference
    return intent.operation_id == order.operation_id


def _said(order: PspOrder, body: bytes) -> Answer | None:
    """Raises: ValueError, when it is not understood or not about this operation."""
    match order.kind:
        case OperationKind.SALE | OperationKind.AUTHORIZE if order.method is Method.TOKEN:
            intent = Intent.model_validate_json(body)
            _same(order.operation_id, intent.operation_id)
            return intent.charged()
        case OperationKind.SALE | OperationKind.AUTHORIZE:
            session = Session.model_validate_json(body)
            _same(order.operation_id, session.operation_id)
            return session.opened()
        case OperationKind.CAPTURE | OperationKind.VOID:
            intent = Intent.model_validate_json(body)
            _same(order.charge_reference, intent.id)
            return intent.captured(order.operation_id) if order.kind is OperationKind.CAPTURE else intent.voided()
        case OperationKind.REFUND:
            refund = Refund.model_validate_json(body)
            _same(order.operation_id, refund.operation_id)
            return refund.refunded()
        case OperationKind.CANCEL:
            session = Session.model_validate_json(body)
            _same(order.charge_reference, session.id)
            return session.closed()


def _same(ours: str | None, said: str | None) -> None:
    if ours != said:
        raise ValueError("an answer about something else")
