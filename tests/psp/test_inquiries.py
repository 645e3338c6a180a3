"""Asking what became of an operation."""

from __future__ import annotations

import asyncio
import json
import time

import pytest

from paynode.domain.psp import Outcome
from tests.psp.conftest import adapter
from tests.psp.misbehaving import Script, answer, raw_server, raw_then_close, silence, told_twice
from tests.psp.words import CHARGE, ORDER, PAGE_ORDER, SESSION, has_unasked


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


async def test_that_nothing_was_found_is_said_of_what_was_asked_for_and_not_of_what_is_asked_next() -> None:
    again, is_there = asyncio.Event(), answer(200, json.dumps({"data": [CHARGE]}).encode())
    async with (
        raw_server(told_twice(answer(200, b'{"data":[]}'), again, is_there)) as server,
        adapter(server.url) as psp,
    ):
        assert await psp.find(PAGE_ORDER, deadline=time.monotonic() + 5) is None
        again.set()
        await has_unasked(psp)
        found = await psp.find(ORDER, deadline=time.monotonic() + 5)
        assert found is not None
        assert found.outcome is Outcome.APPROVED
