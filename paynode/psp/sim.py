"""The adapter of the PSP simulator: what is said to it, and what its words mean to us."""

from __future__ import annotations

import hashlib
import hmac
import re
from collections.abc import AsyncIterator, Mapping
from datetime import UTC, datetime
from types import TracebackType
from typing import Final, Self

from pydantic import TypeAdapter, ValidationError

from paynode.domain.payment import OperationKind, PspOrder
from paynode.domain.psp import Answer, Callback, Capabilities, Outcome, PspRequest, SettlementLine
from paynode.psp.errors import CallbackRefused, Unavailable
from paynode.psp.sim_requests import request_of
from paynode.psp.sim_words import (
    AnyObject,
    Event,
    Found,
    Heading,
    Refusal,
    ReportPage,
    final_word,
    is_event_for_us,
    unknown,
)
from paynode.psp.transport import NoReply, PspTransport, Reply

_OPERATIONS: Final = "/v1/operations"
_SETTLEMENT: Final = "/settlement"

# Lines of the report in one answer: some 250 bytes each, well below what an answer may have.
_PAGE_LINES: Final = 200
# Seconds for one page of the report: nobody waits for it.
_PAGE_DEADLINE_S: Final = 20.0

# Seconds by which a signature's time may differ from ours, both ways: room for clocks and slow networks,
# little for a replay.
_SIGNATURE_TOLERANCE_S: Final = 300

_SIGNATURE: Final = re.compile(r"t=([0-9]{1,12}),v1=([0-9a-f]{64})")

# Refusals that the PSP documents as final: nothing was done and the same request never will be. Any other
# error, those about the key among them, may hide a charge.
_FINAL_REFUSALS: Final = frozenset(
    {
        *("token_unknown", "body_invalid", "currency_unknown", "charge_unknown", "session_unknown"),
        *("amount_exceeds_authorized", "amount_exceeds_captured", "currency_mismatch", "nothing_captured"),
        *("not_capturable", "authorization_voided", "authorization_expired", "charge_reversed"),
        *("already_paid", "already_declined", "already_expired"),
    }
)
# It was done before: by us, if the PSP shows it under our reference.
_DONE_BEFORE: Final = {
    (OperationKind.CAPTURE, "already_captured"),
    (OperationKind.REFUND, "already_refunded"),
}
# What was asked for is so, whoever brought it about, and no money moved by it.
_IS_SO: Final = {
    (OperationKind.VOID, "already_voided"),
    (OperationKind.CANCEL, "already_canceled"),
}
# There is nothing left to void.
_FINAL_OF_VOID: Final = (OperationKind.VOID, "already_captured")

_ANY_OBJECT: Final[TypeAdapter[AnyObject]] = TypeAdapter(AnyObject)


class SimPsp:
    """An account at the simulator as the gateway sees it."""

    def __init__(
        self,
        *,
        name: str,
        url: str,
        api_key: str,
        webhook_secret: str,
        idempotent_for_s: float,
        settle_s: float,
        concurrency: int,
    ) -> None:
        self.name = name
        self.capabilities = Capabilities(
            has_page=True,
            has_token=True,
            can_authorize=True,
            can_capture_partially=True,
            can_capture_repeatedly=True,
            can_refund_partially=True,
            can_cancel_page=True,
            is_callback_binding=True,
            idempotent_for_s=idempotent_for_s,
            settle_s=settle_s,
        )
        self._webhook_secret = webhook_secret.encode()
        self._transport = PspTransport(url, headers={"Authorization": f"Bearer {api_key}"}, concurrency=concurrency)

    async def __aenter__(self) -> Self:
        await self._transport.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._transport.__aexit__(kind, error, trace)

    def prepare(self, order: PspOrder) -> PspRequest:
        """The bytes that ask for an operation."""
        return request_of(order)

    async def send(self, order: PspOrder, request: PspRequest, *, send_by: float, deadline: float) -> Answer:
        """Send the stored bytes once; both instants are of `time.monotonic()`. Every error is an Answer."""
        reply = await self._transport.post(
            request.path,
            request.body,
            headers={"Idempotency-Key": request.idempotency_key},
            send_by=send_by,
            deadline=deadline,
        )
        match reply:
            case NoReply(has_left=False):
                return Answer(outcome=Outcome.NOT_SENT, reason=reply.reason, is_psp_failure=reply.is_psp_failure)
            case NoReply():
                return unknown(reply.reason)
            case Reply(status=200 | 201):
                return _created(order, reply.body)
            case Reply(status=400 | 402 | 404 | 409):
                return await self._refused(order, reply, deadline)
            case Reply():
                return unknown(f"http_{reply.status}")

    async def find(self, order: PspOrder, *, deadline: float) -> Answer | None:
        """Ask what became of an operation. None: the PSP never saw it. UNKNOWN: the question went unanswered."""
        reply = await self._transport.get(_OPERATIONS, {"reference": order.operation_id}, deadline=deadline)
        if isinstance(reply, NoReply):
            return unknown(reply.reason)
        if reply.status != 200:
            return unknown(f"http_{reply.status}")
        try:
            found = Found.model_validate_json(reply.body).data
        except ValidationError:
            return unknown("answer_invalid")
        if not all(item.is_about(order) for item in found):
            return unknown("answer_invalid")
        return final_word(found)

    def parse_callback(self, headers: Mapping[str, str], raw: bytes, *, now_s: float) -> Callback | None:
        """Believe a callback by its signature over the raw bytes, then read it. None: it tells of no operation.

        Raises: CallbackRefused.
        """
        self._verify(headers, raw, now_s)
        try:
            if not is_event_for_us(Heading.model_validate_json(raw).type):
                return None
            event = Event.model_validate_json(raw)
        except ValidationError as error:
            raise CallbackRefused("malformed") from error
        if event.type != f"{event.data.object}.{event.data.status}":
            raise CallbackRefused("malformed")
        said = event.data
        return Callback(event_id=event.id, our_reference=said.reference, answer=said.answer(), kinds=said.kinds)

    async def settlement(self, since: datetime, until: datetime) -> AsyncIterator[SettlementLine]:
        """The lines of the report with `since` <= at < `until`, oldest first. Raises: Unavailable."""
        query = {"from": _iso(since), "to": _iso(until), "limit": str(_PAGE_LINES)}
        while True:
            page = await self._page(query)
            for one in page.data:
                yield one.line()
            if page.next_cursor is None:
                return
            query["cursor"] = page.next_cursor

    async def _page(self, query: dict[str, str]) -> ReportPage:
        reply = await self._transport.get(_SETTLEMENT, query, timeout_s=_PAGE_DEADLINE_S)
        if isinstance(reply, NoReply):
            raise Unavailable(reply.reason)
        if reply.status != 200:
            raise Unavailable(f"http_{reply.status}")
        try:
            return ReportPage.model_validate_json(reply.body)
        except ValidationError as error:
            raise Unavailable("answer_invalid") from error

    async def _refused(self, order: PspOrder, reply: Reply, deadline: float) -> Answer:
        """A refusal: what is documented as final, and what may be so because of us."""
        try:
            code = Refusal.model_validate_json(reply.body).error.code
        except ValidationError:
            # A proxy in between can say 404 or 409 too, of nothing that the PSP knows.
            return unknown("answer_invalid" if reply.status in (400, 402) else f"http_{reply.status}")
        if (order.kind, code) in _IS_SO:
            return Answer(outcome=Outcome.APPROVED, reason=code)
        if (order.kind, code) in _DONE_BEFORE:
            found = await self.find(order, deadline=deadline)
            # Not found is no proof yet: an inquiry may lag behind what is done.
            return found or Answer(outcome=Outcome.UNKNOWN, reason=code)
        if reply.status == 402 or code in _FINAL_REFUSALS or (order.kind, code) == _FINAL_OF_VOID:
            return Answer(outcome=Outcome.DECLINED, reason=code)
        return unknown(code if reply.status == 400 else f"http_{reply.status}")

    def _verify(self, headers: Mapping[str, str], raw: bytes, now_s: float) -> None:
        signatures = [value for name, value in headers.items() if name.lower() == "sim-signature"]
        if not signatures:
            raise CallbackRefused("signature_missing")
        parts = _SIGNATURE.fullmatch(signatures[0])
        if len(signatures) > 1 or parts is None:
            raise CallbackRefused("signature_invalid")
        at, digest = parts.groups()
        expected = hmac.new(self._webhook_secret, at.encode() + b"." + raw, hashlib.sha256).hexdigest()
        if not hmac.compare_digest(digest, expected):
            raise CallbackRefused("signature_invalid")
        if abs(now_s - int(at)) > _SIGNATURE_TOLERANCE_S:
            raise CallbackRefused("stale")


def _created(order: PspOrder, body: bytes) -> Answer:
    """The answer to a request; an amount that differs is passed on as it is: the domain compares."""
    try:
        said = _ANY_OBJECT.validate_json(body)
    except ValidationError:
        return unknown("answer_invalid")
    return said.answer() if said.is_about(order) else unknown("answer_invalid")


def _iso(at: datetime) -> str:
    return at.astimezone(UTC).isoformat()
