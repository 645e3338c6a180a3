"""The adapter of PayU's REST API 2.1: a hosted page, no idempotency key, and orders found by PayU's name only.

`docs/decisions/0017-payu.md` says why each thing is as it is.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from dataclasses import replace
from datetime import datetime
from types import TracebackType
from typing import Final, Self

import orjson
from pydantic import ValidationError

from paynode.domain.payment import Method, OperationKind, PspOrder
from paynode.domain.psp import Answer, Callback, Capabilities, Outcome, PspRequest, SettlementLine
from paynode.psp.errors import Unavailable
from paynode.psp.payu_callbacks import Notifications
from paynode.psp.payu_tokens import NoToken, PayuTokens
from paynode.psp.payu_words import (
    REFUNDS,
    SUCCESS,
    Charging,
    Order,
    Orders,
    Refund,
    Refunded,
    Verdict,
    done,
    is_reference,
    opened,
    parsed,
    unknown,
)
from paynode.psp.transport import NoReply, PspTransport, Reply

_ORDERS: Final = "/api/v2_1/orders"

# PayU wants the customer's address for its own checks, and an order of ours does not carry it: a page that the
# customer opens later, in whatever browser, has none yet.
_CUSTOMER_IP: Final = "127.0.0.1"

# What the customer reads on the page; PayU refuses an empty one, and a product's name longer than this.
_DESCRIPTION: Final = "Payment"
_DESCRIPTION_MAX: Final = 255

_NO_REPORT: Final[tuple[SettlementLine, ...]] = ()

_CANCELS: Final = (OperationKind.VOID, OperationKind.CANCEL)
_CHARGES: Final = (OperationKind.SALE, OperationKind.AUTHORIZE)


class PayuPsp:
    """One point of sale (POS) at PayU."""

    def __init__(
        self,
        *,
        name: str,
        url: str,
        pos_id: str,
        client_id: str,
        client_secret: str,
        second_key: str,
        notify_url: str,
        page_ttl_s: int,
        settle_s: float,
        currencies: frozenset[str],
        is_auto_receive: bool,
        is_md5_allowed: bool,
        concurrency: int,
    ) -> None:
        self.name = name
        self.capabilities = Capabilities(
            has_page=True,
            has_token=False,
            can_authorize=not is_auto_receive,
            can_capture_partially=False,
            can_capture_repeatedly=False,
            can_refund_partially=True,
            can_cancel_page=True,
            is_callback_binding=True,
            idempotent_for_s=0.0,
            settle_s=settle_s,
            currencies=currencies,
            has_report=False,
        )
        self._pos_id = pos_id
        self._notify_url = notify_url
        self._page_ttl_s = page_ttl_s
        self._charging = Charging(is_auto_receive=is_auto_receive)
        self._charge_kind = OperationKind.SALE if is_auto_receive else OperationKind.AUTHORIZE
        self._notifications = Notifications(
            second_key=second_key.encode(), is_md5_allowed=is_md5_allowed, charging=self._charging
        )
        self._transport = PspTransport(url, headers={}, concurrency=concurrency)
        self._tokens = PayuTokens(self._transport, client_id=client_id, client_secret=client_secret)

    async def __aenter__(self) -> Self:
        await self._transport.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._transport.__aexit__(kind, error, trace)

    # -- asking for something -----------------------------------------------------------------------------------------

    def prepare(self, order: PspOrder) -> PspRequest:
        """What asks for an operation; a capture, a void and a cancel are about a whole order and say nothing more."""
        of_order = f"{_ORDERS}/{order.charge_reference}"
        match order.kind:
            case OperationKind.SALE | OperationKind.AUTHORIZE:
                path, body = _ORDERS, orjson.dumps(self._new_order(order), option=orjson.OPT_SORT_KEYS)
            case OperationKind.REFUND:
                path, body = f"{of_order}/refunds", orjson.dumps(_new_refund(order), option=orjson.OPT_SORT_KEYS)
            case OperationKind.CAPTURE:
                path, body = f"{of_order}/captures", b""
            case OperationKind.VOID | OperationKind.CANCEL:
                path, body = of_order, b""
        return PspRequest(path=path, body=body, idempotency_key=order.operation_id)

    async def send(self, order: PspOrder, request: PspRequest, *, send_by: float, deadline: float) -> Answer:
        """Send the stored bytes once, with a token that was fetched before."""
        if reason := self._why_not(order):
            return Answer(outcome=Outcome.NOT_SENT, reason=reason)
        token = await self._tokens.get(by=min(send_by, deadline))
        if isinstance(token, NoToken):
            return Answer(outcome=Outcome.NOT_SENT, reason=token.reason, is_psp_failure=token.is_psp_failure)
        reply = await self._transport.post(
            request.path,
            request.body,
            headers=_bearer(token),
            send_by=send_by,
            deadline=deadline,
            method="DELETE" if order.kind in _CANCELS else "POST",
        )
        match reply:
            case NoReply(has_left=False):
                return Answer(outcome=Outcome.NOT_SENT, reason=reply.reason, is_psp_failure=reply.is_psp_failure)
            case NoReply():
                return unknown(reply.reason)
            case Reply(status=401 | 403):
                self._tokens.drop(token)
                return _not_let_in(reply)
            case Reply():
                return await self._concluded(order, reply, deadline)

    def _why_not(self, order: PspOrder) -> str | None:
        """What this account cannot do is not even tried."""
        if order.kind not in _CHARGES:
            return None if is_reference(order.charge_reference) else "reference_missing"
        if order.method is not Method.HOSTED_PAGE:
            return "method_not_supported"
        # Whether PayU takes the money at once is set at PayU, for the POS and not for the order.
        return None if order.kind is self._charge_kind else "capture_method_not_supported"

    async def _concluded(self, order: PspOrder, reply: Reply, deadline: float) -> Answer:
        said = parsed(Verdict, reply.body)
        if said is None or reply.status >= 500:
            return unknown("answer_invalid" if reply.status < 400 else f"http_{reply.status}")
        if order.kind in _CHARGES:
            return await self._opened(order, reply.status, said, deadline)
        if order.kind is OperationKind.REFUND and said.code == SUCCESS:
            refunded = parsed(Refunded, reply.body)
            is_ours = refunded is not None and refunded.refund.ext_refund_id == order.operation_id
            return refunded.refund.answer() if refunded is not None and is_ours else unknown("answer_invalid")
        return await self._looked_up(order, reply.status, said, deadline)

    async def _opened(self, order: PspOrder, status: int, said: Verdict, deadline: float) -> Answer:
        answer = opened(status, said, order.operation_id)
        if answer is not None:
            return answer
        # There is an order with our reference already. PayU names it, and nothing else would: see `find`.
        if said.order_id is None or said.ext_order_id not in (None, order.operation_id):
            return unknown(said.reason)
        found = await self._order(said.order_id, order.operation_id, deadline=deadline)
        return self._charging.answer(found) if isinstance(found, Order) else replace(found, reference=said.order_id)

    async def _looked_up(self, order: PspOrder, status: int, said: Verdict, deadline: float) -> Answer:
        """PayU's yes names no amount, and its no may mean "already": what counts is how the order stands now."""
        found = await self.find(order, deadline=deadline)
        if found is not None:
            return found
        if said.is_done(status):
            return Answer(outcome=Outcome.PENDING, reference=order.charge_reference, reason="accepted")
        return Answer(outcome=Outcome.DECLINED, reason=said.reason) if said.is_refused(status) else unknown(said.reason)

    # -- asking what became of it -------------------------------------------------------------------------------------

    async def find(self, order: PspOrder, *, deadline: float) -> Answer | None:
        """By PayU's name of the order. Until we are told it nothing can be asked: UNKNOWN, never "not found"."""
        if order.charge_reference is None or not is_reference(order.charge_reference):
            return Answer(outcome=Outcome.UNKNOWN, reason="reference_unknown")
        if order.kind is OperationKind.REFUND:
            return await self._refund(order.charge_reference, order.operation_id, deadline=deadline)
        our_reference = order.operation_id if order.kind in _CHARGES else order.charge_id
        found = await self._order(order.charge_reference, our_reference, deadline=deadline)
        if not isinstance(found, Order):
            return found
        return self._charging.answer(found) if order.kind in _CHARGES else done(order.kind, found)

    async def _order(self, reference: str, our_reference: str | None, *, deadline: float) -> Order | Answer:
        """The order, or why it is not known how it stands."""
        reply = await self._get(f"{_ORDERS}/{reference}", deadline=deadline)
        if isinstance(reply, Answer):
            return reply
        orders = parsed(Orders, reply.body)
        if orders is None:
            return unknown("answer_invalid")
        [order] = orders.orders
        is_asked_for = order.order_id == reference and order.ext_order_id == our_reference
        return order if is_asked_for else unknown("answer_invalid")

    async def _refund(self, reference: str, our_reference: str, *, deadline: float) -> Answer | None:
        """The refund of our reference among those of the order."""
        reply = await self._get(f"{_ORDERS}/{reference}/refunds", deadline=deadline)
        if isinstance(reply, Answer):
            return reply
        try:
            said = REFUNDS.validate_json(reply.body)
        except ValidationError:
            return unknown("answer_invalid")
        refunds: list[Refund] = said if isinstance(said, list) else said.refunds
        ours = [refund for refund in refunds if refund.ext_refund_id == our_reference]
        if len(ours) > 1:
            return unknown("refunded_twice")
        return ours[0].answer() if ours else None

    async def _get(self, path: str, *, deadline: float) -> Reply | Answer:
        """A 404 too is no answer: PayU named the order itself."""
        token = await self._tokens.get(by=deadline)
        if isinstance(token, NoToken):
            return unknown(token.reason)
        reply = await self._transport.get(path, {}, headers=_bearer(token), deadline=deadline)
        if isinstance(reply, NoReply):
            return unknown(reply.reason)
        if reply.status == 401:
            self._tokens.drop(token)
        return reply if reply.status == 200 else unknown(f"http_{reply.status}")

    # -- being told ---------------------------------------------------------------------------------------------------

    def parse_callback(self, headers: Mapping[str, str], raw: bytes, *, now_s: float) -> Callback | None:
        """A notification about an order or a refund. Raises: CallbackRefused."""
        return self._notifications.read(headers, raw)

    async def settlement(self, since: datetime, until: datetime) -> AsyncIterator[SettlementLine]:
        """PayU settles by statements that people fetch from its panel. Raises: Unavailable."""
        for line in _NO_REPORT:
            yield line
        raise Unavailable("no_settlement_report")

    # -- words --------------------------------------------------------------------------------------------------------

    def _new_order(self, order: PspOrder) -> dict[str, object]:
        amount, description = str(order.money.amount), _description(order, _DESCRIPTION)
        return {
            "extOrderId": order.operation_id,
            "merchantPosId": self._pos_id,
            "customerIp": _CUSTOMER_IP,
            "notifyUrl": self._notify_url,
            "continueUrl": order.return_url,
            "validityTime": str(self._page_ttl_s),
            "description": description,
            "currencyCode": order.money.currency,
            "totalAmount": amount,
            "products": [{"name": description, "unitPrice": amount, "quantity": "1"}],
        }


def _new_refund(order: PspOrder) -> dict[str, object]:
    """The amount is said even if it is all: what is left to refund may be less by the time it arrives."""
    return {
        "refund": {
            "extRefundId": order.operation_id,
            "description": _description(order, "Refund"),
            "amount": str(order.money.amount),
            "currencyCode": order.money.currency,
        }
    }


def _description(order: PspOrder, otherwise: str) -> str:
    return order.description.strip()[:_DESCRIPTION_MAX] or otherwise


def _not_let_in(reply: Reply) -> Answer:
    """Whoever is not let in has asked for nothing: as good a proof as a connection that was refused, if it is certain
    that it is the answer to this request. Nothing in it says so, and on a used connection one before may come twice."""
    outcome = Outcome.NOT_SENT if reply.is_first else Outcome.UNKNOWN
    return Answer(outcome=outcome, reason=f"http_{reply.status}", is_psp_failure=True)


def _bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}
