"""Notifications: believed by their signature, then read strictly."""

from __future__ import annotations

import json

import pytest
from multidict import CIMultiDict, CIMultiDictProxy

from paynode.domain.payment import OperationKind
from paynode.domain.psp import Answer, Callback, Outcome
from paynode.psp.errors import CallbackRefused
from tests.psp.payu import documents
from tests.psp.payu.accounts import payu_at

_PSP = payu_at("https://payu.invalid")
_STRICT = payu_at("https://payu.invalid", is_md5_allowed=False)
_RAW = documents.order_notice("COMPLETED")


def _read(raw: bytes, **changes: str) -> Callback | None:
    return _PSP.parse_callback({"OpenPayu-Signature": documents.signature(raw, **changes)}, raw, now_s=0.0)


def _refusal(headers: list[tuple[str, str]], raw: bytes = _RAW) -> str:
    with pytest.raises(CallbackRefused) as refused:
        _PSP.parse_callback(CIMultiDictProxy(CIMultiDict(headers)), raw, now_s=0.0)
    return refused.value.code


@pytest.mark.parametrize("algorithm", ["MD5", "SHA256", "SHA-256"])
@pytest.mark.parametrize("name", ["OpenPayu-Signature", "openpayu-signature", "X-OpenPayU-Signature"])
def test_a_signed_notification_is_taken(algorithm: str, name: str) -> None:
    said = _PSP.parse_callback({name: documents.signature(_RAW, algorithm=algorithm)}, _RAW, now_s=0.0)
    assert said is not None
    assert said.our_reference == documents.OURS
    assert said.kinds == frozenset({OperationKind.SALE, OperationKind.AUTHORIZE})
    assert said.answer == Answer(
        outcome=Outcome.APPROVED,
        reference=documents.ORDER_ID,
        amount=2490,
        currency="PLN",
        psp_at_ms=1795431600000,
    )


def test_the_order_of_the_fields_and_a_last_semicolon_do_not_matter() -> None:
    sender, signature, algorithm, content = documents.signature(_RAW).split(";")
    for header in (
        f"{algorithm};{content};{sender};{signature}",
        f"{signature}; {algorithm};",
        f"{signature};{algorithm}",
    ):
        assert _PSP.parse_callback({"OpenPayu-Signature": header}, _RAW, now_s=0.0) is not None


_GOOD = documents.signature(_RAW)
_DIGEST = _GOOD.split(";")[1]


@pytest.mark.parametrize(
    ("headers", "raw", "code"),
    [
        ([], _RAW, "signature_missing"),
        ([("Signature", _GOOD)], _RAW, "signature_missing"),
        ([("OpenPayu-Signature", "")], _RAW, "signature_invalid"),
        ([("OpenPayu-Signature", _GOOD)], _RAW + b" ", "signature_invalid"),
        ([("OpenPayu-Signature", documents.signature(_RAW, key="other"))], _RAW, "signature_invalid"),
        ([("OpenPayu-Signature", documents.signature(_RAW, key=""))], _RAW, "signature_invalid"),
        ([("OpenPayu-Signature", _GOOD.replace("MD5", "SHA-256"))], _RAW, "signature_invalid"),
        ([("OpenPayu-Signature", _GOOD.replace("MD5", "CRC32"))], _RAW, "signature_invalid"),
        ([("OpenPayu-Signature", f"{_DIGEST};content=DOCUMENT")], _RAW, "signature_invalid"),
        ([("OpenPayu-Signature", "algorithm=MD5;content=DOCUMENT")], _RAW, "signature_invalid"),
        ([("OpenPayu-Signature", f"{_GOOD};signature=0")], _RAW, "signature_invalid"),
        ([("OpenPayu-Signature", f"{_GOOD};{_DIGEST}")], _RAW, "signature_invalid"),
        ([("OpenPayu-Signature", _GOOD + "\u0661")], _RAW, "signature_invalid"),
        ([("OpenPayu-Signature", _GOOD), ("OpenPayu-Signature", _GOOD + "0")], _RAW, "signature_invalid"),
        ([("OpenPayu-Signature", _GOOD), ("X-OpenPayU-Signature", _GOOD + "0")], _RAW, "signature_invalid"),
    ],
)
def test_a_notification_that_is_not_signed_right_is_refused(
    headers: list[tuple[str, str]], raw: bytes, code: str
) -> None:
    assert _refusal(headers, raw) == code


def test_nobody_chooses_the_weaker_hash_for_us() -> None:
    with pytest.raises(CallbackRefused) as refused:
        _STRICT.parse_callback({"OpenPayu-Signature": _GOOD}, _RAW, now_s=0.0)
    assert refused.value.code == "signature_invalid"
    strong = documents.signature(_RAW, algorithm="SHA-256")
    assert _STRICT.parse_callback({"OpenPayu-Signature": strong}, _RAW, now_s=0.0) is not None


def test_a_repetition_is_the_same_event_and_another_claim_is_another_one() -> None:
    first, told_later = _read(_RAW), _read(_RAW.replace(b"T12:05:00", b"T15:35:00"))
    assert first is not None
    assert told_later is not None
    assert first.event_id == told_later.event_id
    others = [
        _read(documents.order_notice(status, **changes))
        for status, changes in [
            ("PENDING", {}),
            ("CANCELED", {}),
            ("COMPLETED", {"totalAmount": "2491"}),
            ("COMPLETED", {"currencyCode": "EUR"}),
            ("COMPLETED", {"orderId": "ANOTHER"}),
            ("COMPLETED", {"extOrderId": documents.OUR_REFUND}),
        ]
    ]
    events = {said.event_id for said in (first, *others) if said is not None}
    assert len(events) == 7


def test_a_refund_is_told_by_our_reference() -> None:
    for status, outcome in [("FINALIZED", Outcome.APPROVED), ("CANCELED", Outcome.DECLINED)]:
        said = _read(documents.refund_notice(status))
        assert said is not None
        assert (said.our_reference, said.answer.outcome) == (documents.OUR_REFUND, outcome)
        assert said.kinds == frozenset({OperationKind.REFUND}), "whatever it names: of a sale it would be a capture"
        assert (said.answer.reference, said.answer.amount) == (documents.REFUND_ID, 1000)


@pytest.mark.parametrize(
    "raw",
    [
        documents.order_notice("COMPLETED", extOrderId=None),  # made by somebody else on the same POS
        documents.refund_notice("FINALIZED", extRefundId=None),  # made in PayU's panel
    ],
)
def test_what_was_not_made_here_says_nothing_of_ours(raw: bytes) -> None:
    assert _read(raw) is None


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"not json",
        b"\xff",
        b"[]",
        b"{}",
        b"[" * 100_000,
        documents.order_notice("REJECTED"),
        documents.order_notice("COMPLETED", totalAmount=24.9),
        documents.order_notice("COMPLETED", orderId="../x"),
        documents.refund_notice("DONE"),
        json.dumps({"refund": documents.refund("FINALIZED")}).encode(),
    ],
)
def test_an_authentic_notification_that_cannot_be_read_is_malformed(raw: bytes) -> None:
    assert _refusal([("OpenPayu-Signature", documents.signature(raw))], raw) == "malformed"
