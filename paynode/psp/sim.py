"""The adapter of the PSP simulator: what is said to it, and what its words mean to us."""

from __future__ import annotations

import hashlib
import hmac
import re
from collections.abc import Mapping
from types import TracebackType
from typing import Self

import orjson
from pydantic import ValidationError

from paynode.domain.psp import Answer, Callback, Outcome, PspRequest
from paynode.psp.errors import CallbackRefused
from paynode.psp.sim_words import Charge, Event, Found, Refusal, Session, final_word, unknown
from paynode.psp.transport import NoReply, PspTransport, Reply

_CHARGES = "/v1/charges"
_SESSIONS = "/v1/sessions"
_OPERATIONS = "/v1/operations"

# Seconds by which a signature's time may differ from ours, both ways: room for clocks and slow networks,
# little for a replay.
_SIGNATURE_TOLERANCE_S = 300

_SIGNATURE = re.compile(r"t=([0-9]{1,12}),v1=([0-9a-f]{64})")

# Refusals that the PSP documents as final: nothing was charged and the same request never will be. Any other
# error, those about the key among them, may hide a charge.
_FINAL_REFUSALS = frozenset({"token_unknown", "body_invalid", "currency_unknown"})


class SimPsp:
    """The simulator as the gateway sees it."""

    name = "sim"

    def __init__(
        self, *, url: str, api_key: str, webhook_secret: str, idempotent_for_s: float, concurrency: int
    ) -> None:
        self.idempotent_for_s = idempotent_for_s
        self._webhook_secret = webhook_secret.encode()
        self._transport = PspTransport(url, headers={"Authorization": f"Bearer {api_key}"}, concurrency=concurrency)

    async def __aenter__(self) -> Self:
        await self._transport.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._transport.__aexit__(kind, error, trace)

    def prepare_charge(
        self, *, operation_id: str, amount: int, currency: str, token: str, description: str
    ) -> PspRequest:
        """A sale on a token."""
        return _request(_CHARGES, operation_id, amount=amount, currency=currency, token=token, description=description)

    def prepare_session(
        self, *, operation_id: str, amount: int, currency: str, return_url: str, description: str
    ) -> PspRequest:
        """A sale on a payment page."""
        return _request(
            _SESSIONS, operation_id, amount=amount, currency=currency, return_url=return_url, description=description
        )

    async def send(self, request: PspRequest, *, send_by: float, deadline: float) -> Answer:
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
                return _created(request, reply.body)
            case Reply(status=400 | 402):
                return _refused(reply)
            case Reply():
                return unknown(f"http_{reply.status}")

    async def find(self, our_reference: str, *, deadline: float) -> Answer | None:
        """Ask what became of an operation. None: the PSP never saw it. UNKNOWN: the question went unanswered."""
        reply = await self._transport.get(_OPERATIONS, {"reference": our_reference}, deadline=deadline)
        if isinstance(reply, NoReply):
            return unknown(reply.reason)
        if reply.status != 200:
            return unknown(f"http_{reply.status}")
        try:
            found = Found.model_validate_json(reply.body).data
        except ValidationError:
            return unknown("answer_invalid")
        if any(item.reference != our_reference for item in found):
            return unknown("answer_invalid")
        return final_word(found)

    def parse_callback(self, headers: Mapping[str, str], raw: bytes, *, now_s: float) -> Callback:
        """Believe a callback by its signature over the raw bytes, then read it.

        Raises: CallbackRefused.
        """
        self._verify(headers, raw, now_s)
        try:
            event = Event.model_validate_json(raw)
        except ValidationError as error:
            raise CallbackRefused("malformed") from error
        if event.type != f"{event.data.object}.{event.data.status}":
            raise CallbackRefused("malformed")
        return Callback(event_id=event.id, our_reference=event.data.reference, answer=event.data.answer())

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


def _request(path: str, operation_id: str, **content: str | int) -> PspRequest:
    body = orjson.dumps({"reference": operation_id} | content, option=orjson.OPT_SORT_KEYS)
    return PspRequest(path=path, body=body, idempotency_key=operation_id)


def _created(request: PspRequest, body: bytes) -> Answer:
    """The answer to a request; an amount that differs is passed on as it is: the domain compares."""
    model = Charge if request.path == _CHARGES else Session
    try:
        said = model.model_validate_json(body)
    except ValidationError:
        return unknown("answer_invalid")
    if said.reference != request.idempotency_key:
        return unknown("answer_invalid")
    return said.answer()


def _refused(reply: Reply) -> Answer:
    try:
        code = Refusal.model_validate_json(reply.body).error.code
    except ValidationError:
        return unknown("answer_invalid")
    if reply.status == 402 or code in _FINAL_REFUSALS:
        return Answer(outcome=Outcome.DECLINED, reason=code)
    return unknown(code)
