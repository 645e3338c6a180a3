"""What a test says to the adapter, and what a PSP would answer."""

from __future__ import annotations

import json
import time
from dataclasses import replace
from typing import Any

from paynode.domain.money import Money
from paynode.domain.payment import Method, PspOrder
from paynode.domain.psp import Answer
from paynode.psp.sim import SimPsp
from tests.psp.misbehaving import Script, answer
from tests.support.waiting import wait_until

CHARGE: dict[str, Any] = {
    "id": "ch_1",
    "object": "charge",
    "reference": "op-1",
    "status": "approved",
    "decline_code": None,
    "amount": 1000,
    "currency": "EUR",
    "created_ms": 1_700_000_000_000,
}
SESSION: dict[str, Any] = {
    "id": "cs_1",
    "object": "session",
    "reference": "op-1",
    "status": "open",
    "decline_code": None,
    "amount": 1000,
    "currency": "EUR",
    "created_ms": 1_700_000_000_000,
    "expires_ms": 1_700_000_900_000,
    "url": "http://psp.invalid/pay/cs_1",
}


def charge(**changes: object) -> Script:
    return answer(201, json.dumps(CHARGE | changes).encode())


def error(status: int, code: str) -> Script:
    return answer(status, json.dumps({"error": {"code": code, "message": "no"}}).encode())


ORDER = PspOrder(
    operation_id="op-1",
    payment_id="pay-1",
    merchant_id="mer-1",
    psp="sim",
    money=Money(amount=1000, currency="EUR"),
    method=Method.TOKEN,
    token="tok_approve",
)
PAGE_ORDER = replace(ORDER, method=Method.HOSTED_PAGE, token=None, return_url="http://a.invalid/")


async def send(psp: SimPsp, *, send_by_s: float = 60.0, deadline_s: float = 60.0) -> Answer:
    now = time.monotonic()
    return await psp.send(ORDER, psp.prepare(ORDER), send_by=now + send_by_s, deadline=now + deadline_s)


async def has_unasked(psp: SimPsp) -> None:
    """Wait until something has come on a connection that is idle."""
    connector = psp._transport._session.connector
    assert connector is not None
    await wait_until(
        lambda: any(one.should_close for idle in connector._conns.values() for one, _ in idle), "it has come unasked"
    )
