"""The simulator's report, page by page."""

from __future__ import annotations

import asyncio
import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from paynode.domain.psp import SettlementKind, SettlementLine
from paynode.psp.errors import Unavailable
from tests.psp.conftest import adapter
from tests.psp.misbehaving import RawServer, Script, answer, raw_server, raw_then_close

_SINCE = datetime(2026, 1, 1, tzinfo=UTC)
_LINE: dict[str, Any] = {
    "psp_reference": "ch_1",
    "our_reference": "op-1",
    "kind": "sale",
    "amount": 1000,
    "currency": "EUR",
    "at": "2026-01-01T00:00:00.001Z",
    "at_ms": 1_767_225_600_001,
}


def _page(next_cursor: str | None, *kinds: str, **changes: object) -> Script:
    lines = [_LINE | {"kind": kind} | changes for kind in kinds]
    return answer(200, json.dumps({"data": lines, "next_cursor": next_cursor}).encode())


async def _read(*scripts: Script) -> tuple[list[SettlementLine], RawServer]:
    left = list(scripts)

    async def in_turn(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await left.pop(0)(reader, writer)

    async with raw_server(in_turn) as server, adapter(server.url) as psp:
        lines = [one async for one in psp.settlement(_SINCE, _SINCE + timedelta(days=1))]
        return lines, server


async def test_the_pages_are_read_to_the_last_one_with_the_cursor_of_each() -> None:
    lines, server = await _read(
        _page("1.1", "sale", "fee"), _page("2.2", "capture", "refund"), _page(None, "reversal", "refund_failure")
    )
    assert [one.kind for one in lines] == [
        SettlementKind.CHARGE,
        SettlementKind.FEE,
        SettlementKind.CHARGE,
        SettlementKind.REFUND,
        SettlementKind.REVERSAL,
        SettlementKind.REVERSAL,
    ]
    assert lines[0] == SettlementLine(
        kind=SettlementKind.CHARGE,
        reference="ch_1",
        our_reference="op-1",
        amount=1000,
        currency="EUR",
        at_ms=1_767_225_600_001,
    )
    targets = [request.split(b" ")[1].decode() for request in server.requests]
    assert all("from=2026-01-01T00:00:00%2B00:00" in one and "to=2026-01-02" in one for one in targets)
    assert ["cursor=1.1" in one for one in targets] == [False, True, False]
    assert ["cursor=2.2" in one for one in targets] == [False, False, True]


@pytest.mark.parametrize(
    ("script", "reason"),
    [
        (answer(503, b""), "http_503"),
        (answer(200, b"{}"), "answer_invalid"),
        (answer(200, b" " * 100_000), "answer_too_large"),
        (_page(None, "sale", amount=10.5), "answer_invalid"),
        (_page(None, "gift"), "answer_invalid"),
        (raw_then_close(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n{"), "answer_cut"),
    ],
    ids=["503", "no page", "too large", "a float", "an unknown kind", "cut"],
)
async def test_a_report_that_cannot_be_read_is_unavailable_and_never_shorter(script: Script, reason: str) -> None:
    with pytest.raises(Unavailable, match=reason):
        await _read(_page("1.1", "sale"), script)
