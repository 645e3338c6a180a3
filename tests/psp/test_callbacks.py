"""Callbacks: believed by their signature, then read strictly."""

from __future__ import annotations

import hashlib
import hmac
import json

import pytest
from multidict import CIMultiDict, CIMultiDictProxy

from paynode.domain.payment import OperationKind
from paynode.domain.psp import Answer, Callback, Outcome
from paynode.psp.errors import CallbackRefused
from paynode.psp.sim import SimPsp
from tests.psp.conftest import sim_psp
from tests.sim.running import WEBHOOK_SECRET

_NOW = 1_700_000_000
_CHARGE = {
    "id": "ch_1",
    "object": "charge",
    "reference": "op-1",
    "status": "approved",
    "decline_code": None,
    "amount": 1000,
    "currency": "EUR",
    "created_ms": 1_699_999_999_000,
}
_EVENT = {"id": "evt_1", "type": "charge.approved", "created_ms": 1, "data": _CHARGE}
_EXPIRED = _CHARGE | {"id": "cs_1", "object": "session", "status": "expired", "expires_ms": 1_699_999_999_500}
_RAW = json.dumps(_EVENT).encode()


@pytest.fixture
def psp() -> SimPsp:
    return sim_psp()


def _sign(raw: bytes, at: int | str = _NOW, secret: str = WEBHOOK_SECRET) -> str:
    return f"t={at},v1={hmac.new(secret.encode(), f'{at}.'.encode() + raw, hashlib.sha256).hexdigest()}"


def _parsed(psp: SimPsp, raw: bytes, at: int = _NOW) -> Callback:
    callback = psp.parse_callback({"Sim-Signature": _sign(raw, at)}, raw, now_s=_NOW)
    assert callback is not None
    return callback


def test_a_signed_callback_is_taken_with_the_time_of_its_charge(psp: SimPsp) -> None:
    for name in ("Sim-Signature", "sim-signature"):
        assert psp.parse_callback({name: _sign(_RAW)}, _RAW, now_s=_NOW) == Callback(
            event_id="evt_1",
            our_reference="op-1",
            answer=Answer(
                outcome=Outcome.APPROVED, reference="ch_1", amount=1000, currency="EUR", psp_at_ms=1_699_999_999_000
            ),
            kinds=frozenset({OperationKind.SALE}),
        )


def test_declines_and_expiries_are_read_too(psp: SimPsp) -> None:
    declined = _CHARGE | {"status": "declined", "decline_code": "do_not_honor"}
    for type_, data, outcome, reason, at_ms in [
        ("charge.declined", declined, Outcome.DECLINED, "do_not_honor", 1_699_999_999_000),
        ("session.expired", _EXPIRED, Outcome.EXPIRED, "session_expired", 1_699_999_999_500),
    ]:
        raw = json.dumps(_EVENT | {"type": type_, "data": data}).encode()
        said = _parsed(psp, raw).answer
        assert (said.outcome, said.reason, said.psp_at_ms) == (outcome, reason, at_ms)


@pytest.mark.parametrize("kind", OperationKind)
def test_an_event_is_about_operations_of_its_own_kind(psp: SimPsp, kind: OperationKind) -> None:
    name = "charge" if kind is OperationKind.SALE else kind.value
    raw = json.dumps(_EVENT | {"type": f"{name}.approved", "data": _CHARGE | {"object": name}}).encode()
    assert _parsed(psp, raw).kinds == frozenset({kind})
    page = json.dumps(_EVENT | {"type": "session.expired", "data": _EXPIRED}).encode()
    assert _parsed(psp, page).kinds == frozenset({OperationKind.SALE, OperationKind.AUTHORIZE})


def test_an_event_that_tells_of_no_operation_is_believed_and_passed_over(psp: SimPsp) -> None:
    for type_ in ("charge.updated", "session.approved", "dispute.opened", "payout.paid"):
        raw = json.dumps({"id": "evt_1", "type": type_, "data": {"new": ["shape"]}}).encode()
        assert psp.parse_callback({"Sim-Signature": _sign(raw)}, raw, now_s=_NOW) is None
        with pytest.raises(CallbackRefused):
            psp.parse_callback({"Sim-Signature": _sign(raw, secret="other")}, raw, now_s=_NOW)


_GOOD = _sign(_RAW)


@pytest.mark.parametrize(
    ("headers", "raw", "code"),
    [
        ([], _RAW, "signature_missing"),
        ([("Other-Signature", _GOOD)], _RAW, "signature_missing"),
        ([("Sim-Signature", "")], _RAW, "signature_invalid"),
        ([("Sim-Signature", _GOOD), ("sim-signature", _GOOD)], _RAW, "signature_invalid"),
        ([("Sim-Signature", f"{_GOOD},{_GOOD}")], _RAW, "signature_invalid"),
        ([("Sim-Signature", f"{_GOOD}\n")], _RAW, "signature_invalid"),
        ([("Sim-Signature", _GOOD.upper())], _RAW, "signature_invalid"),
        ([("Sim-Signature", _sign(_RAW, "\u0661\u0667" + "\u0660" * 8))], _RAW, "signature_invalid"),
        ([("Sim-Signature", _sign(_RAW, secret="other"))], _RAW, "signature_invalid"),
        ([("Sim-Signature", _GOOD.replace("t=17", "t=18"))], _RAW, "signature_invalid"),
        ([("Sim-Signature", _GOOD)], _RAW + b" ", "signature_invalid"),
        ([("Sim-Signature", _sign(_RAW, _NOW - 301))], _RAW, "stale"),
        ([("Sim-Signature", _sign(_RAW, _NOW + 301))], _RAW, "stale"),
    ],
)
def test_a_callback_that_is_not_signed_right_is_refused(
    psp: SimPsp, headers: list[tuple[str, str]], raw: bytes, code: str
) -> None:
    with pytest.raises(CallbackRefused) as refused:
        psp.parse_callback(CIMultiDictProxy(CIMultiDict(headers)), raw, now_s=_NOW)
    assert refused.value.code == code


def test_the_tolerance_is_five_minutes_both_ways(psp: SimPsp) -> None:
    for at in (_NOW - 300, _NOW + 300):
        assert _parsed(psp, _RAW, at).event_id == "evt_1"


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"not json",
        b"\xff",
        b"[]",
        b"[" * 100_000,
        json.dumps(_EVENT | {"type": 7}).encode(),
        json.dumps({"id": "evt_1", "type": "charge.approved"}).encode(),
        json.dumps(_EVENT | {"type": "charge.declined"}).encode(),
        json.dumps(_EVENT | {"type": "session.expired"}).encode(),
        json.dumps(_EVENT | {"id": "evt 1"}).encode(),
        json.dumps(_EVENT | {"data": _CHARGE | {"amount": 10.0}}).encode(),
        json.dumps(_EVENT | {"data": _CHARGE | {"amount": False}}).encode(),
        json.dumps(_EVENT | {"data": _CHARGE | {"reference": "op\u0000"}}).encode(),
        json.dumps(_EVENT | {"data": _CHARGE | {"reference": "\ud800"}}).encode(),
        json.dumps(_EVENT | {"data": None}).encode(),
    ],
)
def test_an_authentic_callback_that_cannot_be_read_is_malformed(psp: SimPsp, raw: bytes) -> None:
    with pytest.raises(CallbackRefused) as refused:
        psp.parse_callback({"Sim-Signature": _sign(raw)}, raw, now_s=_NOW)
    assert refused.value.code == "malformed"
