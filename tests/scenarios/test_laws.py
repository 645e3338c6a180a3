"""Each law sees what breaks it, and nothing in a case in which nothing is broken."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from hashlib import sha256
from typing import Any

import pytest

from paynode.domain import ids
from tests.support.case import Case, Row, Stream, Usage
from tests.support.history import Asked
from tests.support.laws import LAWS, judge, number_of

MERCHANT = "0198f3a0-0000-7000-8000-000000000001"
PAYMENT = "0198f3a0-0000-7000-8000-000000000002"
OPERATION = "0198f3a0-0000-7000-8000-000000000003"
ENTRY = "0198f3a0-0000-7000-8000-000000000004"
SECRET = "pk_live_do_not_tell"


def _asked(**changes: Any) -> Asked:
    asked = Asked(merchant_id=MERCHANT, key="k", amount=1000)
    asked.status, asked.ended_at = 201, 1.0
    asked.body = (
        b'{"id":"%s","order_id":"k","amount":1000,"currency":"EUR"}' % ids.public(ids.PAYMENT, PAYMENT).encode()
    )
    for name, value in changes.items():
        setattr(asked, name, value)
    return asked


def _entry(seq: int, type_: str, debit: str, credit: str, amount: int) -> Row:
    return {
        "id": ENTRY,
        "line": seq,
        "merchant_id": MERCHANT,
        "seq": seq,
        "payment_id": PAYMENT,
        "operation_id": OPERATION,
        "type": type_,
        "debit": debit,
        "credit": credit,
        "amount": amount,
        "currency": "EUR",
        "epoch": 3,
        "prev_hash": sha256(b"%d" % (seq - 1)).digest(),
        "hash": sha256(b"%d" % seq).digest(),
    }


WALLET = {"merchant_id": MERCHANT, "currency": "EUR", "pending": 985, "available": 0, "reserve": 0, "held": 0}
CHARGE = {"our_reference": OPERATION, "result": "approved", "amount": 1000}
FACT = {"id": "e", "payment_id": PAYMENT, "operation_id": OPERATION, "outcome": "approved"}

# One payment of 10 euros, charged once, less a fee of 15 cents; one message came twice.
SOUND = Case(
    asked=[_asked(), _asked(is_replayed=True)],
    payments=[
        {
            "id": PAYMENT,
            "merchant_id": MERCHANT,
            "key": "k",
            "amount": 1000,
            "currency": "EUR",
            "status": "captured",
            "version": 2,
            "amount_authorized": 1000,
            "amount_captured": 1000,
            "amount_refunded": 0,
        }
    ],
    operations=[{"id": OPERATION, "payment_id": PAYMENT, "amount": 1000, "state": "approved"}],
    attempts=[{"operation_id": OPERATION, "sends": 1, "outcome": "approved"}],
    evidence=[
        {**FACT, "source": "answer", "psp_reference": "ch"},
        {**FACT, "source": "callback", "psp_reference": "ch"},
    ],
    events=[
        {"payment_id": PAYMENT, "version": 1, "type": "payment.created"},
        {"payment_id": PAYMENT, "version": 2, "type": "payment.captured"},
    ],
    ledger=[
        _entry(1, "capture", "psp:sim:receivable", "merchant:pending", 1000),
        _entry(2, "fee", "merchant:pending", "fee_revenue", 15),
    ],
    adjustments=[
        {"merchant_id": MERCHANT, "currency": "EUR", "d_pending": 985, "d_available": 0, "d_reserve": 0, "d_held": 0}
    ],
    wallets=[{**WALLET, "balance": 985}],
    keys=[{"merchant_id": MERCHANT, "key": "k", "response_body": _asked().body}],
    partitions=[{"partition": number, "owner": "w", "epoch": 3} for number in range(32)],
    book=[CHARGE],
    streams={"paynode:{psp-sim}:commands": Stream(length=0, consumers=1)},
    logs={"worker.log": '{"event":"ready"}'},
    secrets=frozenset({SECRET}),
    psp_calls=1,
    redelivered=1,
    gateways=1,
    before=[Usage(verb="worker", memory_kb=60_000, descriptors=50)],
    after=[Usage(verb="worker", memory_kb=70_000, descriptors=55)],
)


def _changed(rows: Any, **changes: Any) -> list[Row]:
    """The last row another one."""
    return [*rows[:-1], {**rows[-1], **changes}]


BREACHES: dict[str, tuple[str, Callable[[Case], Case]]] = {
    "accepted and not there": ("L1", lambda case: replace(case, payments=[])),
    "accepted over another amount": ("L1", lambda case: replace(case, payments=_changed(case.payments, amount=999))),
    "a payment that nobody asked for": ("L2", lambda case: replace(case, asked=[_asked(key="other")])),
    "refused and there": ("L2", lambda case: replace(case, asked=[_asked(status=422, body=b"{}")])),
    "a charge that nobody asked for": ("L2", lambda case: replace(case, book=[{**CHARGE, "our_reference": "x"}])),
    "not ended": ("L3", lambda case: replace(case, payments=_changed(case.payments, status="unknown"))),
    "in review": ("L3", lambda case: replace(case, payments=_changed(case.payments, status="review"))),
    "ended beside its timeline": ("L3", lambda case: replace(case, events=case.events[:1])),
    "charged twice": ("L4", lambda case: replace(case, book=[CHARGE, CHARGE])),
    "charged and not captured": ("L4", lambda case: replace(case, payments=_changed(case.payments, amount_captured=0))),
    "captured and not charged": ("L4", lambda case: replace(case, book=[])),
    "refunded and not given back": (
        "L4",
        lambda case: replace(case, payments=_changed(case.payments, amount_refunded=1)),
    ),
    "charged and not posted": ("L4", lambda case: replace(case, ledger=case.ledger[1:])),
    "money made": ("L5", lambda case: replace(case, wallets=_changed(case.wallets, pending=986, balance=986))),
    "a chain broken": ("L5", lambda case: replace(case, ledger=_changed(case.ledger, prev_hash=b"other"))),
    "doctor disagrees": ("L5", lambda case: replace(case, findings=["chains_verify"])),
    "reconciliation finds something": ("L7", lambda case: replace(case, differences=["stuck op 0"])),
    "a wallet that is no fold": ("L6", lambda case: replace(case, wallets=_changed(case.wallets, pending=0, held=985))),
    "a fact without its adjustment": ("L6", lambda case: replace(case, adjustments=[])),
    "posted twice": ("L8", lambda case: replace(case, ledger=[*case.ledger, case.ledger[-1]])),
    "a callback that counted twice": ("L8", lambda case: replace(case, evidence=[*case.evidence, case.evidence[-1]])),
    "nothing came twice": ("L8", lambda case: replace(case, redelivered=0)),
    "two answers": ("L9", lambda case: replace(case, asked=[_asked(), _asked(body=_asked().body + b" ")])),
    "another one stored": ("L9", lambda case: replace(case, keys=_changed(case.keys, response_body=b"{}"))),
    "an error replayed": ("L9", lambda case: replace(case, asked=[_asked(), _asked(status=500, is_replayed=True)])),
    "another body accepted": ("L9", lambda case: replace(case, asked=[_asked(), _asked(is_twisted=True)])),
    "unprocessed": ("L10", lambda case: replace(case, outbox=[{"id": "o", "type": "psp.submit", "stream": "s"}])),
    "unacknowledged": ("L10", lambda case: replace(case, streams={"s:events": Stream(length=1, waiting=1)})),
    "passed over": ("L10", lambda case: replace(case, streams={"s:commands": Stream(length=1)})),
    "an innocent dead": ("L11", lambda case: replace(case, letters=[{"stream": "s", "reason": "r", "entry_id": "1"}])),
    "a poison alive": ("L11", lambda case: replace(case, poison=Counter({("s", "r"): 1}))),
    "a version missing": ("L12", lambda case: replace(case, events=case.events[1:])),
    "a number missing": ("L12", lambda case: replace(case, ledger=_changed(case.ledger, seq=3))),
    "an epoch that fell": ("L13", lambda case: replace(case, ledger=_changed(case.ledger, epoch=2))),
    "an epoch from nowhere": ("L13", lambda case: replace(case, ledger=_changed(case.ledger, epoch=4))),
    "called in vain": ("L15", lambda case: replace(case, psp_calls=50)),
    "memory grown": ("L16", lambda case: replace(case, after=[Usage(verb="worker", memory_kb=10**6, descriptors=9)])),
    "descriptors grown": (
        "L16",
        lambda case: replace(case, after=[Usage(verb="worker", memory_kb=9, descriptors=200)]),
    ),
    "consumers left behind": ("L16", lambda case: replace(case, streams={"s": Stream(length=0, consumers=2)})),
    "a secret in a log": ("L17", lambda case: replace(case, logs={"worker.log": f"key {SECRET}"})),
    "a secret in an error": (
        "L17",
        lambda case: replace(case, asked=[*case.asked, _asked(status=400, body=SECRET.encode())]),
    ),
    "a bare 500": ("L18", lambda case: replace(case, asked=[*case.asked, _asked(status=500, body=b"oops")])),
    "503 without a time": (
        "L18",
        lambda case: replace(
            case, asked=[*case.asked, _asked(status=503, body=b"{}", content_type="application/problem+json")]
        ),
    ),
    "a traceback": ("L18", lambda case: replace(case, logs={"a.log": "Traceback (most recent call last):\n"})),
}


def test_a_sound_case_breaks_no_law() -> None:
    assert judge(SOUND) == {}


@pytest.mark.parametrize(("law", "breach"), BREACHES.values(), ids=BREACHES.keys())
def test_a_breach_is_seen_by_its_law(law: str, breach: Callable[[Case], Case]) -> None:
    assert law in judge(breach(SOUND))


def test_every_law_is_broken_by_something() -> None:
    assert {number_of(law) for law in LAWS} == {law for law, _ in BREACHES.values()}
