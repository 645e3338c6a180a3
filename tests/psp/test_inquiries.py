"""Asking what became of an operation."""

from __future__ import annotations

import json
import time

import pytest

from paynode.domain.psp import Outcome
from tests.psp.conftest import adapter
from tests.psp.misbehaving import Script, answer, raw_server, raw_then_close, silence
from tests.psp.words import CHARGE, PAGE_ORDER, SESSION


@pytest.mark.parametrize(
    ("script", "expected"),
    [
        pytest.param(answer(200, b'{"data":[]}'), None, id="never seen"),
        pytest.param(answer(500, b""), (Outcome.UNKNOWN, "http_500"), id="500"),
        pytest.param(answer(404, b""), (Outcome.UNKNOWN, "http_404"), id="404 is no word about the operation"),
        pytest.param(answer(200, b'{"data":{}}'), (Outcome.UNKNOWN, "answer_invalid"), id="no list"),
        pytest.param(answer(200, b"{}"), (Outcome.UNKNOWN, "answer_invalid"), id="no data"),
        pytest.param(raw_then_close(b""), (Outcome.UNKNOWN, "disconnected"), id="closes"),
        pytest.param(silence, (Outcome.UNKNOWN, "timeout"), id="never answers"),
        pytest.param(answer(200, b" " * 100_000), (Outcome.UNKNOWN, "answer_too_large"), id="too large"),
        pytest.param(
            answer(200, json.dumps({"data": [CHARGE | {"reference": "op-2"}]}).encode()),
            (Outcome.UNKNOWN, "answer_invalid"),
            id="another operation",
        ),
        pytest.param(
            answer(200, json.dumps({"data": [SESSION, CHARGE]}).encode()), (Outcome.APPROVED, ""), id="charge first"
        ),
        pytest.param(
            answer(200, json.dumps({"data": [CHARGE | {"status": "declined", "decline_code": "x"}, CHARGE]}).encode()),
            (Outcome.APPROVED, ""),
            id="approved before declined",
        ),
        pytest.param(
            answer(200, json.dumps({"data": [CHARGE | {"status": "reversed", "changed_ms": 1}]}).encode()),
            (Outcome.REVERSED, "reversed"),
            id="taken back",
        ),
        pytest.param(
            answer(200, json.dumps({"data": [CHARGE | {"status": "reversed"}, CHARGE | {"id": "ch_2"}]}).encode()),
            (Outcome.APPROVED, ""),
            id="one of two taken back",
        ),
        pytest.param(
            answer(200, json.dumps({"data": [CHARGE | {"object": "refund"}]}).encode()),
            (Outcome.UNKNOWN, "answer_invalid"),
            id="another kind",
        ),
        pytest.param(
            answer(200, json.dumps({"data": [SESSION | {"status": "canceled"}]}).encode()),
            (Outcome.EXPIRED, "session_canceled"),
            id="page canceled",
        ),
        pytest.param(
            answer(200, json.dumps({"data": [SESSION]}).encode()), (Outcome.PENDING, ""), id="page still open"
        ),
        pytest.param(
            answer(200, json.dumps({"data": [SESSION | {"status": "expired"}]}).encode()),
            (Outcome.EXPIRED, "session_expired"),
            id="page expired",
        ),
        pytest.param(
            answer(200, json.dumps({"data": [SESSION | {"status": "approved"}]}).encode()),
            (Outcome.UNKNOWN, "answer_invalid"),
            id="paid page without its charge",
        ),
    ],
)
async def test_an_inquiry_believes_only_what_is_said_of_this_operation(
    script: Script, expected: tuple[Outcome, str] | None
) -> None:
    async with raw_server(script) as server, adapter(server.url) as psp:
        said = await psp.find(PAGE_ORDER, deadline=time.monotonic() + (0.3 if script is silence else 5))
    assert (said and (said.outcome, said.reason)) == expected
