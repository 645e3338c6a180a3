"""One question over HTTP: what leaves, what is understood, and that everything else is no opinion, in time."""

from __future__ import annotations

import asyncio
import gzip
import json
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import anyio
import pytest

from paynode.domain.ids import MERCHANT, PAYMENT, public
from paynode.domain.screening import Judgement, Opinion, Question
from paynode.fraud.client import HttpCheck
from paynode.fraud.guard import GuardedCheck
from paynode.psp.breaker import Breaker, BreakerRules
from paynode.sections import SettingRefused
from tests.fraud.conftest import question
from tests.psp.misbehaving import (
    Script,
    answer,
    byte_by_byte,
    for_ever,
    raw,
    raw_server,
    raw_then_close,
    reset,
    silence,
)
from tests.support.waiting import wait_until

ASKED = question()


def said(**changes: Any) -> Script:
    return answer(200, json.dumps({"id": ASKED.operation_id, "decision": "pass", **changes}).encode())


@asynccontextmanager
async def client(url: str) -> AsyncIterator[HttpCheck]:
    async with HttpCheck(url=url, api_key="key", concurrency=4) as check:
        yield check


@pytest.mark.parametrize(
    ("script", "expected"),
    [
        (said(), Judgement(opinion=Opinion.PASS)),
        (said(decision="reject", reason="velocity"), Judgement(opinion=Opinion.REJECT, reason="velocity")),
        (said(decision="review", score=0.5), Judgement(opinion=Opinion.REVIEW)),
    ],
)
async def test_an_answer_is_an_opinion(script: Script, expected: Judgement) -> None:
    async with raw_server(script) as server, client(server.url) as check:
        assert await check.ask(ASKED, deadline_s=5) == expected


@pytest.mark.parametrize(
    ("script", "reason"),
    [
        pytest.param(silence, "timeout", id="never answers"),
        pytest.param(byte_by_byte(b"HTTP/1.1 200 OK\r\n" * 9), "timeout", id="answers byte by byte"),
        pytest.param(reset, "connection_lost", id="resets"),
        pytest.param(raw_then_close(b""), "connection_lost", id="closes"),
        pytest.param(raw_then_close(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n{"), "connection_lost", id="cuts"),
        pytest.param(raw(b"220 smtp ready\r\n\r\n"), "connection_lost", id="speaks another protocol"),
        pytest.param(answer(500, b"oops"), "http_500", id="500"),
        pytest.param(answer(503, b""), "http_503", id="503"),
        pytest.param(answer(401, b"{}"), "http_401", id="a wrong key"),
        pytest.param(answer(307, b"", b"Location: /elsewhere"), "http_307", id="redirects"),
        pytest.param(answer(200, b"{}"), "answer_invalid", id="says nothing"),
        pytest.param(answer(200, b"\xff"), "answer_invalid", id="not UTF-8"),
        pytest.param(answer(200, b"[" * 4000), "answer_invalid", id="deep JSON"),
        pytest.param(answer(200, gzip.compress(b"{}"), b"Content-Encoding: gzip"), "answer_invalid", id="compressed"),
        pytest.param(answer(200, b" " * 5000), "answer_too_large", id="long"),
        pytest.param(for_ever(b"HTTP/1.1 200 OK\r\n\r\n", b"x" * 4096), "answer_too_large", id="endless"),
        pytest.param(said(decision="perhaps"), "answer_invalid", id="unknown decision"),
        pytest.param(said(decision="out"), "answer_invalid", id="a word of ours"),
        pytest.param(said(id="another"), "answer_invalid", id="another charge"),
        pytest.param(said(reason="line\nbreak"), "answer_invalid", id="a reason that is no word"),
        pytest.param(said(reason="x" * 65), "answer_invalid", id="a long reason"),
    ],
)
async def test_everything_else_is_no_opinion(script: Script, reason: str) -> None:
    async with raw_server(script) as server, client(server.url) as check:
        # Long enough for whatever comes; only silence has to be waited for.
        deadline_s = 0.2 if reason == "timeout" else 10.0
        assert await check.ask(ASKED, deadline_s=deadline_s) == Judgement(opinion=Opinion.OUT, reason=reason)


async def test_nobody_there_is_no_opinion() -> None:
    async with raw_server(silence) as server:
        url = server.url
    async with client(url) as check:
        assert (await check.ask(ASKED, deadline_s=10)).reason == "connect_failed"


async def test_no_more_leaves_than_is_needed() -> None:
    async with raw_server(said()) as server, client(server.url) as check:
        await check.ask(ASKED, deadline_s=5)
        head, _, body = server.requests[0].partition(b"\r\n\r\n")
    assert head.startswith(b"PUT /checks/" + ASKED.operation_id.encode() + b" HTTP/1.1\r\n")
    assert b"\r\nAuthorization: Bearer key\r\n" in head
    assert json.loads(body) == {
        "id": ASKED.operation_id,
        "payment_id": public(PAYMENT, ASKED.payment_id),
        "merchant_id": public(MERCHANT, ASKED.merchant_id),
        "kind": "sale",
        "method": "token",
        "amount": 1000,
        "currency": "EUR",
        "customer": None,
    }


async def test_a_kept_connection_that_the_check_has_closed_is_no_outage() -> None:
    async def once(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await said()(reader, writer)
        # Without saying so, and before the next question: it shows only when that is written.
        await asyncio.sleep(0)
        writer.close()

    async with raw_server(once) as server, client(server.url) as check:
        for _ in range(20):
            assert (await check.ask(ASKED, deadline_s=10)).opinion is Opinion.PASS


@pytest.mark.parametrize("url", ["ftp://a.example", "http://", "http://user@a.example", "nonsense"])
def test_a_url_that_is_none_stops_the_start(url: str) -> None:
    with pytest.raises(SettingRefused, match=r"fraud\.url"):
        HttpCheck(url=url, api_key="", concurrency=1)


# -- guards -----------------------------------------------------------------------------------------------------------


class Client:
    """Answers when it is let; counts."""

    def __init__(self, *, opinion: Opinion = Opinion.PASS) -> None:
        self.opinion = opinion
        self.asked = 0
        self.at_once = 0
        self.most_at_once = 0
        self.may_answer = anyio.Event()

    async def ask(self, question: Question, *, deadline_s: float) -> Judgement:
        del question
        self.asked += 1
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        with anyio.move_on_after(deadline_s):
            await self.may_answer.wait()
        self.at_once -= 1
        if self.may_answer.is_set():
            return Judgement(opinion=self.opinion)
        return Judgement(opinion=Opinion.OUT, reason="timeout")


class Heard:
    """An observer."""

    def __init__(self) -> None:
        self.judgements: list[Judgement] = []

    def fraud_checked(self, judgement: Judgement, seconds: float) -> None:
        assert seconds >= 0
        self.judgements.append(judgement)


def breaker(calls_min: int = 3) -> Breaker:
    return Breaker(BreakerRules(window_s=60, calls_min=calls_min, failed_max=0.5, open_s=60))


async def test_no_more_than_its_places_are_asked_at_once_and_the_rest_wait_no_longer_than_half_the_deadline() -> None:
    client, heard = Client(), Heard()
    check = GuardedCheck(client, breaker(calls_min=100), heard, deadline_s=0.4, concurrency=2)
    begun = time.monotonic()
    async with anyio.create_task_group() as group:
        for _ in range(6):
            group.start_soon(check.ask, ASKED)
    assert time.monotonic() - begun < 10
    assert client.most_at_once == 2
    assert sorted(one.reason for one in heard.judgements) == ["no_place"] * 4 + ["timeout"] * 2


async def test_waiting_for_a_place_is_no_failure_of_the_check() -> None:
    client, heard = Client(), Heard()
    check = GuardedCheck(client, breaker(calls_min=2), heard, deadline_s=2, concurrency=1)
    async with anyio.create_task_group() as group:
        group.start_soon(check.ask, ASKED)
        await wait_until(lambda: client.asked == 1, "the only place is taken")
        for _ in range(3):
            group.start_soon(check.ask, ASKED)
        await wait_until(lambda: len(heard.judgements) == 3, "the others have had no place")
        client.may_answer.set()
    assert [one.reason for one in heard.judgements[:3]] == ["no_place"] * 3
    assert (await check.ask(ASKED)).opinion is Opinion.PASS, "the breaker is closed"


async def test_an_open_breaker_makes_nobody_wait() -> None:
    client, heard = Client(opinion=Opinion.OUT), Heard()
    client.may_answer.set()
    check = GuardedCheck(client, breaker(), heard, deadline_s=5, concurrency=2)
    judgements = [await check.ask(ASKED) for _ in range(5)]
    assert [one.reason for one in judgements] == ["", "", "", "breaker_open", "breaker_open"]
    assert client.asked == 3
    assert heard.judgements == judgements


async def test_a_reject_is_no_failure_of_the_check() -> None:
    client = Client(opinion=Opinion.REJECT)
    client.may_answer.set()
    check = GuardedCheck(client, breaker(), Heard(), deadline_s=5, concurrency=2)
    assert {(await check.ask(ASKED)).opinion for _ in range(10)} == {Opinion.REJECT}
