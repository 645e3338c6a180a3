"""What hostile and broken clients send, and what every answer carries."""

from __future__ import annotations

import gzip
import re
from collections.abc import Sequence

import orjson
import pytest

from paynode.domain.errors import Unavailable
from paynode.http.application import Ingress
from tests.http import raw
from tests.http.house import House, by_token, running, with_http
from tests.support.waiting import wait_until


async def test_every_answer_has_an_id_a_trace_and_headers_that_protect(house: House) -> None:
    for reply in (await house.pay(), await house.get("/v1/payments/x"), await house.get("/nowhere")):
        assert re.fullmatch(r"req_[0-9a-z]{26}", reply.headers["Request-Id"])
        assert re.fullmatch(r"00-[0-9a-f]{32}-[0-9a-f]{16}-00", reply.headers["traceparent"])
        assert reply.headers["X-Content-Type-Options"] == "nosniff"
        assert reply.headers["Cache-Control"] == "no-store"
        assert reply.headers["Server"] == "paynode"


async def test_a_request_id_of_the_clients_own_is_not_taken_over(untouched: House) -> None:
    assert (await untouched.get("/nowhere", Request_Id="mine")).headers["Request-Id"] != "mine"


@pytest.mark.parametrize(
    "header",
    ["", "Basic abc", "Bearer", "Bearer a b", "Bearer pk_wrong", "Bearer " + "x" * 201, "bearer pk_" + "0" * 60],
)
async def test_without_a_valid_key_nobody_comes_in(untouched: House, header: str) -> None:
    for path in ("/v1/payments", "/v1/payments/x", "/v1/wallets", "/v1/ledger"):
        reply = await untouched.get(path, Authorization=header)
        assert reply.status == 401
        assert reply.code in ("api_key_missing", "api_key_invalid")
        assert reply.headers["WWW-Authenticate"].startswith('Bearer realm="paynode"')


async def test_a_revoked_key_is_refused(house: House) -> None:
    await house.owner.execute("UPDATE api_keys SET revoked_at = clock_timestamp()")
    assert (await house.pay()).code == "api_key_invalid"


async def test_the_scheme_is_spelled_as_one_likes(house: House) -> None:
    assert (await house.get("/v1/wallets", Authorization=f"bEARER {house.merchant.api_key}")).status == 200


@pytest.mark.parametrize("name", ["Idempotency-Key", "Authorization", "Content-Type"])
async def test_a_header_that_decides_must_stand_once(untouched: House, name: str) -> None:
    value = {"Idempotency-Key": "k", "Authorization": "Bearer x", "Content-Type": "application/json"}[name]
    reply = await raw.exchange(untouched, raw.with_header(raw.request(untouched), f"{name}: {value}"))
    assert reply.status in (400, 401, 415)
    assert await untouched.count("payments") == 0


@pytest.mark.parametrize(
    "content_type",
    ["text/plain", "application/json; charset=latin-1", "application/x-www-form-urlencoded", "", "application/jsonx"],
)
async def test_a_body_must_say_that_it_is_json(untouched: House, content_type: str) -> None:
    reply = await raw.exchange(untouched, raw.request(untouched, Content_Type=content_type))
    assert (reply.status, reply.code) == (415, "content_type_unsupported")


@pytest.mark.parametrize("content_type", ["application/json", "Application/JSON; charset=UTF-8"])
async def test_json_is_json(house: House, content_type: str) -> None:
    assert (await raw.exchange(house, raw.request(house, Content_Type=content_type))).status == 201


@pytest.mark.parametrize("encoding", ["gzip", "br", "deflate", "x"])
async def test_a_packed_body_is_refused_and_never_unpacked(untouched: House, encoding: str) -> None:
    bomb = gzip.compress(b" " * 5_000_000)
    reply = await raw.exchange(untouched, raw.request(untouched, body=bomb, Content_Encoding=encoding))
    assert (reply.status, reply.code) == (415, "content_encoding_unsupported")
    assert reply.headers["Accept-Encoding"] == "identity"


async def test_a_body_that_is_too_large_is_refused_before_it_is_sent(untouched: House) -> None:
    async with raw.connected(untouched) as (reader, writer):
        writer.write(raw.request(untouched, body=b"", Content_Length="20000"))
        reply = await raw.answer(reader)
        assert (reply.status, reply.code) == (413, "body_too_large")
        assert await raw.is_closed(reader)


async def test_a_body_of_unknown_length_is_counted(untouched: House) -> None:
    head = raw.request(untouched, body=b"", Content_Length="", Transfer_Encoding="chunked")
    chunk = b"4000\r\n" + b" " * 0x4000 + b"\r\n"
    reply = await raw.exchange(untouched, head + chunk * 2 + b"0\r\n\r\n")
    assert (reply.status, reply.code) == (413, "body_too_large")


async def test_a_body_in_chunks_is_accepted(house: House) -> None:
    head = raw.request(house, body=b"", Content_Length="", Transfer_Encoding="chunked")
    body = orjson.dumps(by_token())
    sent = head + f"{len(body):x}\r\n".encode() + body + b"\r\n0\r\n\r\n"
    assert (await raw.exchange(house, sent)).status == 201


async def test_a_body_that_comes_too_slowly_is_refused(untouched: House) -> None:
    async with raw.connected(untouched) as (reader, writer):
        writer.write(raw.request(untouched, body=b"{", Content_Length="100"))
        reply = await raw.answer(reader)
        assert (reply.status, reply.code) == (408, "body_too_slow")
        assert await raw.is_closed(reader)


async def test_a_client_may_ask_before_it_sends_the_body(house: House) -> None:
    sent = raw.request(house, Expect="100-continue")
    head, _, body = sent.partition(b"\r\n\r\n")
    async with raw.connected(house) as (reader, writer):
        writer.write(head + b"\r\n\r\n")
        assert await reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
        writer.write(body)
        assert (await raw.answer(reader)).status == 201


@pytest.mark.parametrize(
    "sent",
    [
        b"hello\r\n\r\n",
        b"GET / HTTP/9.9\r\n\r\n",
        b"POST /v1/payments HTTP/1.1\r\nHost: x\r\nContent-Length: abc\r\n\r\n",
        b"POST /v1/payments HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"POST /v1/payments HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\nX-Long: " + b"x" * 20_000 + b"\r\n\r\n",
        b"GET /" + b"x" * 20_000 + b" HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET / HTTP/1.1\r\n" + b"".join(b"X-%d: 1\r\n" % number for number in range(100)) + b"\r\n",
    ],
)
async def test_what_is_not_http_is_a_problem_and_closes_the_connection(untouched: House, sent: bytes) -> None:
    async with raw.connected(untouched) as (reader, writer):
        writer.write(sent)
        reply = await raw.answer(reader)
        assert (reply.status, reply.code) == (400, "request_malformed")
        assert await raw.is_closed(reader)


async def test_broken_chunks_are_a_problem(untouched: House) -> None:
    head = raw.request(untouched, body=b"", Content_Length="", Transfer_Encoding="chunked")
    assert (await raw.exchange(untouched, head + b"zz\r\n")).status == 400


@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [
        ("GET", "/nowhere", 404, "not_found"),
        ("GET", "/v1/payments/a/b", 404, "not_found"),
        ("DELETE", "/v1/payments", 405, "method_not_allowed"),
        ("GET", "/v1/psp/sim/webhook", 405, "method_not_allowed"),
    ],
)
async def test_what_is_not_there_is_a_problem_too(
    untouched: House, method: str, path: str, status: int, code: str
) -> None:
    reply = await untouched.request(method, path)
    assert (reply.status, reply.code) == (status, code)
    if status == 405:
        assert reply.headers["Allow"]


async def test_a_database_that_is_away_is_a_503_that_tells_when_to_try_again(house: House) -> None:
    class Away:
        async def merchants_of(self, api_keys: Sequence[str]) -> Sequence[None]:
            raise Unavailable("postgres at 10.0.0.7")

    async with running(house.settings, keys=Away()) as away:
        reply = await away.pay()
        assert (reply.status, reply.code, reply.headers["Retry-After"]) == (503, "unavailable", "1")
        assert b"10.0.0.7" not in reply.raw


async def test_a_flaw_of_ours_is_a_500_without_its_words(house: House) -> None:
    class Flawed:
        async def merchants_of(self, api_keys: Sequence[str]) -> Sequence[None]:
            raise ValueError("s3cret")

    async with running(house.settings, keys=Flawed()) as flawed:
        reply = await flawed.pay()
        assert (reply.status, reply.code) == (500, "internal_error")
        assert b"s3cret" not in reply.raw
        assert [type(error) for error in flawed.told.crashes] == [ValueError]
        flawed.told.crashes.clear()


async def test_a_request_that_takes_too_long_is_a_503(house: House) -> None:
    await house.owner.execute("BEGIN; LOCK TABLE payments IN ACCESS EXCLUSIVE MODE")
    async with running(
        with_http(house.settings, request_deadline_s=0.3),
    ) as slow:
        slow.merchant = house.merchant
        reply = await slow.pay()
        assert (reply.status, reply.code) == (503, "deadline_exceeded")
        await house.owner.execute("ROLLBACK")


async def test_one_line_is_told_of_each_request_and_it_holds_no_secret(house: House) -> None:
    payment = (await house.pay()).json["id"]
    await house.get("/v1/payments/whatever-somebody-types")
    first, second = house.told.answered_with
    assert (first["route"], first["method"], first["status"]) == ("/v1/payments", "POST", 201)
    assert first["facts"]["payment_id"] == payment
    assert first["facts"]["merchant_id"] == house.merchant.public_id
    assert (second["route"], second["status"], second["facts"]["code"]) == ("/v1/payments/{id}", 404, "not_found")
    told = repr(house.told.answered_with)
    assert house.merchant.api_key not in told
    assert "tok_approve" not in told


async def test_a_method_that_somebody_made_up_is_no_label(untouched: House) -> None:
    await untouched.request("PROPFIND", "/v1/payments")
    assert untouched.told.answered_with[-1]["method"] == "other"


async def test_the_routes_are_these_and_no_others(untouched: House) -> None:
    ingress: Ingress = untouched.ingress
    routes = {(route.method, route.resource.canonical) for route in ingress.app.router.routes() if route.resource}
    gets = {path for method, path in routes if method == "GET"}
    assert gets == {path for method, path in routes if method == "HEAD"}
    routes = {(method, path) for method, path in routes if method != "HEAD"}
    assert routes == {
        ("POST", "/v1/payments"),
        ("GET", "/v1/payments"),
        ("GET", "/v1/payments/{id}"),
        ("GET", "/v1/payments/{id}/events"),
        ("POST", "/v1/payments/{id}/capture"),
        ("POST", "/v1/payments/{id}/void"),
        ("POST", "/v1/payments/{id}/cancel"),
        ("POST", "/v1/payments/{id}/refunds"),
        ("GET", "/v1/payments/{id}/refunds"),
        ("GET", "/v1/payments/{id}/refunds/{operation}"),
        ("GET", "/v1/payments/{id}/operations/{operation}"),
        ("GET", "/v1/wallets"),
        ("GET", "/v1/ledger"),
        ("GET", "/checkout/{id}"),
        ("GET", "/checkout/{id}/return"),
        ("POST", "/v1/psp/{psp}/webhook"),
    }


async def test_a_body_that_breaks_off_is_told_as_a_client_that_went_away(house: House) -> None:
    async with raw.connected(house) as (_, writer):
        writer.write(raw.request(house, body=b"{", Content_Length="100"))
        await writer.drain()
    await wait_until(lambda: bool(house.told.answered_with), "the request is over")
    assert house.told.answered_with[0]["status"] == 499
    assert await house.count("payments") == 0


async def test_only_the_head_of_an_answer_is_sent_when_only_that_is_asked_for(house: House) -> None:
    path = (await house.pay()).headers["Location"]
    whole, head = await house.get(path), await house.request("HEAD", path)
    assert (head.status, head.raw, head.headers["ETag"]) == (200, b"", whole.headers["ETag"])
