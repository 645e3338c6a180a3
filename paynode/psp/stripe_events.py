"""Stripe's webhooks: believed by their signature over the raw bytes, then read as the claim about one operation."""

from __future__ import annotations

import hashlib
import hmac
import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Annotated, Final, NamedTuple

from pydantic import Field

from paynode.domain.payment import OperationKind
from paynode.domain.psp import Answer, Callback, Outcome
from paynode.psp import stripe_requests as asked
from paynode.psp.errors import CallbackRefused
from paynode.psp.stripe_words import Intent, Refund, Said, Session, declined

# Seconds by which a signature's time may differ from ours: Stripe's own libraries take the same.
_TOLERANCE_S: Final = 300
# While a secret is being changed there are two; more than a few are no header of Stripe's.
_SIGNATURES_MAX: Final = 8

_AT: Final = re.compile(r"[0-9]{1,12}", re.ASCII)
_DIGEST: Final = re.compile(r"[0-9a-f]{64}", re.ASCII)
# A UUIDv7, as all our operations have it. Others who cancel (Stripe's dashboard and libraries) make random ones.
_OURS: Final = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}", re.ASCII)

# What a claim can be about. The end of a PaymentIntent is a void's doing, or that of a cancel that closed its page.
_CHARGES: Final = frozenset({OperationKind.SALE, OperationKind.AUTHORIZE})
_CAPTURES: Final = frozenset({OperationKind.CAPTURE})
_ENDS: Final = frozenset({OperationKind.VOID, OperationKind.CANCEL})
_REFUNDS: Final = frozenset({OperationKind.REFUND})


class _Request(Said):
    idempotency_key: str | None = None


# Named here: inside the class below, `object` is one of its fields.
_Item = dict[str, object]


class _Data(Said):
    object: _Item
    previous_attributes: _Item | None = None


class _Event(Said):
    id: Annotated[str, Field(pattern=r"^evt_[A-Za-z0-9_]{1,200}$")]
    type: Annotated[str, Field(max_length=200)]
    created: Annotated[int, Field(ge=0, lt=2**53)]
    data: _Data
    request: _Request | None = None
    livemode: bool
    account: str | None = None


class _Claim(NamedTuple):
    our_reference: str
    answer: Answer
    kinds: frozenset[OperationKind]


def verify(secret: bytes, headers: Mapping[str, str], raw: bytes, *, now_s: float) -> None:
    """Believe these bytes or not. Raises: CallbackRefused."""
    found = [value for name, value in headers.items() if name.lower() == "stripe-signature"]
    if not found:
        raise CallbackRefused("signature_missing")
    parts = [part.partition("=") for part in found[0].split(",")]
    at = [value for name, _, value in parts if name == "t"]
    digests = [value for name, _, value in parts if name == "v1" and _DIGEST.fullmatch(value)]
    is_header = len(found) == 1 and len(at) == 1 and _AT.fullmatch(at[0]) and 0 < len(digests) <= _SIGNATURES_MAX
    if not is_header:
        raise CallbackRefused("signature_invalid")
    expected = hmac.new(secret, at[0].encode() + b"." + raw, hashlib.sha256).hexdigest()
    if not any(hmac.compare_digest(digest, expected) for digest in digests):
        raise CallbackRefused("signature_invalid")
    if abs(now_s - int(at[0])) > _TOLERANCE_S:
        raise CallbackRefused("stale")


def callback_of(raw: bytes, *, is_live: bool) -> Callback | None:
    """What an authentic event says of one of our operations; None: nothing. Raises: CallbackRefused.

    An account may have other users, whose events come here too, and so may those of its sandbox and of accounts that
    are connected to it, under the same secret: what is not marked as ours, or is not of our own money, is never read
    further.
    """
    try:
        event = _Event.model_validate_json(raw)
        if event.account is not None or event.livemode != is_live or not _is_ours(event.data.object):
            return None
        said = _claim(event)
    except ValueError as error:  # ValidationError is one, and so is an amount that is none
        raise CallbackRefused("malformed") from error
    if said is None or said.answer.outcome is Outcome.UNKNOWN:
        return None
    return Callback(event_id=event.id, our_reference=said.our_reference, answer=said.answer, kinds=said.kinds)


def _is_ours(item: Mapping[str, object]) -> bool:
    marks = item.get("metadata")
    return isinstance(marks, dict) and isinstance(marks.get(asked.OPERATION), str)


def _claim(event: _Event) -> _Claim | None:
    match event.type:
        case (
            "payment_intent.succeeded"
            | "payment_intent.amount_capturable_updated"
            | "payment_intent.payment_failed"
            | "payment_intent.canceled"
        ):
            return _of_intent(event, Intent.model_validate(event.data.object))
        case (
            "checkout.session.completed"
            | "checkout.session.async_payment_succeeded"
            | "checkout.session.async_payment_failed"
            | "checkout.session.expired"
        ):
            return _of_session(event, Session.model_validate(event.data.object))
        case "refund.created" | "refund.updated" | "refund.failed" | "charge.refund.updated":
            return _of_refund(event, Refund.model_validate(event.data.object))
        case _:
            return None


def _of_intent(event: _Event, intent: Intent) -> _Claim | None:
    own = _marked(intent.metadata)
    at_ms = event.created * 1000
    if intent.status == "canceled" and (void_id := _requester(event, own)) is not None:
        said = intent.voided()
        return None if said is None else _Claim(void_id, said, _ENDS)
    capture_id = intent.metadata.get(asked.CAPTURE)
    if intent.status == "succeeded" and intent.is_authorization and capture_id is not None:
        said = intent.captured(capture_id)
        return None if said is None else _Claim(capture_id, replace(said, psp_at_ms=at_ms), _CAPTURES)
    return _Claim(own, intent.charged(), _CHARGES)


def _requester(event: _Event, own: str) -> str | None:
    """The operation of ours by whose request it happened: its id is the key that the request had.

    Stripe lets a cancel write nothing on its PaymentIntent, so the key is all there is, and only the look of it says
    whose it is. What somebody else has canceled is the end of the charge.
    """
    key = event.request.idempotency_key if event.request is not None else None
    return key if key is not None and key != own and _OURS.fullmatch(key) else None


def _of_session(event: _Event, session: Session) -> _Claim:
    # Complete and unpaid: nobody can pay on it any more.
    has_failed = event.type == "checkout.session.async_payment_failed"
    return _Claim(_marked(session.metadata), declined("payment_failed") if has_failed else session.opened(), _CHARGES)


def _of_refund(event: _Event, refund: Refund) -> _Claim | None:
    """A bank can refuse a refund days after it was paid out. What it was before stands only in some of the events."""
    before = (event.data.previous_attributes or {}).get("status")
    if refund.has_failed and before is None:
        return None
    said = refund.given_back() if refund.has_failed and before == "succeeded" else refund.refunded()
    return _Claim(_marked(refund.metadata), said, _REFUNDS)


def _marked(metadata: Mapping[str, str]) -> str:
    return metadata[asked.OPERATION]
