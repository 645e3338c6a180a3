"""The gate in front of `POST /v1/payments`."""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from paynode.http.payment_body import read_payment
from paynode.http.problem import Problem
from tests.http.house import House, by_token, hosted

GOOD: dict[str, Any] = by_token(order_id="A-1")


def refusal(raw: bytes) -> Problem:
    with pytest.raises(Problem) as caught:
        read_payment(raw, depth_max=8)
    return caught.value


def pointers(raw: bytes) -> list[str | None]:
    return [flaw.pointer for flaw in refusal(raw).errors]


def changed(**changes: Any) -> bytes:
    return orjson.dumps(GOOD | changes)


@pytest.mark.parametrize(
    ("changes", "where"),
    [
        ({"order_id": ""}, "/order_id"),
        ({"order_id": "x" * 65}, "/order_id"),
        ({"order_id": "a\u200bb"}, "/order_id"),
        ({"order_id": 7}, "/order_id"),
        ({"amount": 0}, "/amount"),
        ({"amount": -1}, "/amount"),
        ({"amount": 10**12 + 1}, "/amount"),
        ({"amount": True}, "/amount"),
        ({"amount": "1250"}, "/amount"),
        ({"amount": None}, "/amount"),
        ({"currency": "eur"}, "/currency"),
        ({"currency": "EUR\n"}, "/currency"),
        ({"currency": "XXX"}, "/currency"),
        ({"currency": "XAU"}, "/currency"),
        ({"currency": "ZZZ"}, "/currency"),
        ({"currency": "\uff25UR"}, "/currency"),
        ({"capture": "later"}, "/capture"),
        ({"method": None}, "/method"),
        ({"method": []}, "/method"),
        ({"method": {}}, "/method/type"),
        ({"method": {"type": "cash"}}, "/method/type"),
        ({"method": {"type": "token"}}, "/method/token"),
        ({"method": {"type": "token", "token": ""}}, "/method/token"),
        ({"method": {"type": "token", "token": "tok approve"}}, "/method/token"),
        ({"method": {"type": "token", "token": "4111111111111111"}}, "/method/token"),
        ({"method": {"type": "token", "token": "t", "return_url": "https://x.example"}}, "/method/return_url"),
        ({"method": {"type": "hosted_page"}}, "/method/return_url"),
        ({"customer": "Ada"}, "/customer"),
        ({"customer": {"email": "ada"}}, "/customer/email"),
        ({"customer": {"email": "ada@" + "x" * 260}}, "/customer/email"),
        ({"customer": {"name": ""}}, "/customer/name"),
        ({"customer": {"phone": "1"}}, "/customer/phone"),
        ({"description": "x" * 501}, "/description"),
        ({"description": "a\u0007b"}, "/description"),
        ({"description": "a\x85b"}, "/description"),
        ({"metadata": []}, "/metadata"),
        ({"metadata": {"a": 1}}, "/metadata/a"),
        ({"metadata": {"": "x"}}, "/metadata/"),
        ({"metadata": {"k" * 41: "x"}}, f"/metadata/{'k' * 41}"),
        ({"metadata": {"a": "x" * 501}}, "/metadata/a"),
        ({"metadata": {"a/b~c": 1}}, "/metadata/a~1b~0c"),
        ({"metadata": {str(number): "x" for number in range(21)}}, "/metadata"),
        ({"on_timeout": "capture"}, "/on_timeout"),
        ({"colour": "red"}, "/colour"),
    ],
)
def test_a_bad_member_is_named(changes: dict[str, Any], where: str) -> None:
    problem = refusal(changed(**changes))
    assert (problem.status, problem.code) == (400, "body_invalid")
    assert [flaw.pointer for flaw in problem.errors] == [where]


@pytest.mark.parametrize(
    "url",
    [
        "shop.example",
        "//shop.example/",
        "ftp://shop.example/",
        "javascript:alert(1)",
        "https://",
        "https:///path",
        "https://ada:secret@shop.example/",
        "https://ada@shop.example/",
        "https://shop.example:99999/",
        "https://shop.example:0/",
        "https://[::1/",
        "https://shop.example/a b",
        "https://shop.example\\@evil.example/",
        "https://shop.example/\r\nSet-Cookie:a=b",
        "https://shöp.example/",
        "https://shop.example/" + "x" * 2000,
    ],
)
def test_a_return_url_is_absolute_and_carries_no_credentials(url: str) -> None:
    assert set(pointers(changed(method={"type": "hosted_page", "return_url": url}))) == {"/method/return_url"}


@pytest.mark.parametrize("url", ["https://shop.example", "http://127.0.0.1:8085/back?a=b#c", "https://[::1]:8443/"])
def test_an_ordinary_return_url_is_accepted(url: str) -> None:
    body, _ = read_payment(changed(method={"type": "hosted_page", "return_url": url}), depth_max=8)
    assert body.method.type == "hosted_page"


@pytest.mark.parametrize(
    ("amount", "says"),
    [
        ("1.0", "must be an integer, written without fraction and exponent"),
        ("1e3", "must be an integer, written without fraction and exponent"),
        ("1e999999", "must be an integer, written without fraction and exponent"),
        ("9" * 5000, "is too large"),
        ('12,"amount":13', "stands more than once"),
    ],
)
def test_a_number_that_only_looks_like_one_is_named(amount: str, says: str) -> None:
    raw = orjson.dumps(GOOD).replace(b'"amount":1250', b'"amount":' + amount.encode())
    (flaw,) = refusal(raw).errors
    assert (flaw.pointer, flaw.detail) == ("/amount", says)


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"{",
        b"\xff",
        b"\xef\xbb\xbf{}",
        b'{"amount": NaN}',
        b'{"amount": -Infinity}',
        b'{"amount": 01}',
        b"{'amount': 1}",
        b'{"a": "\n"}',
        b"{} {}",
        b"[" * 8000,
        b'{"a":' * 2000,
        b"[[[[[[[[[]]]]]]]]]",
    ],
)
def test_what_is_not_json_is_refused_as_a_whole(raw: bytes) -> None:
    problem = refusal(raw)
    assert (problem.status, problem.code) == (400, "body_malformed")


@pytest.mark.parametrize("raw", [b"[]", b"null", b'"text"', b"7", b"1.5"])
def test_a_body_is_an_object(raw: bytes) -> None:
    assert pointers(raw) == [""]


def test_brackets_inside_strings_do_not_nest() -> None:
    body, _ = read_payment(changed(description='[[[[[[[[[[ \\" {{{{{{{{{{'), depth_max=8)
    assert body.description == '[[[[[[[[[[ \\" {{{{{{{{{{'


def test_lone_surrogates_and_nul_are_refused_wherever_they_stand() -> None:
    raw = orjson.dumps(GOOD)[:-1] + rb',"description":"\ud800","metadata":{"a\u0000":"b","c":"\udfff"}}'
    assert pointers(raw) == ["/description", "/metadata/a\0", "/metadata/c"]


def test_all_flaws_are_named_at_once() -> None:
    raw = b'{"order_id":"","amount":1.5,"currency":"eur","metadata":{"a":null},"colour":1}'
    assert sorted(str(pointer) for pointer in pointers(raw)) == [
        "/amount",
        "/colour",
        "/currency",
        "/metadata/a",
        "/method",
        "/order_id",
    ]


def test_no_value_is_repeated_in_a_refusal() -> None:
    body = GOOD | {"capture": "s3cret", "currency": "s3cret", "method": {"type": "s3cret"}, "on_timeout": "s3cret"}
    problem = refusal(orjson.dumps(body))
    assert len(problem.errors) == 4
    assert b"s3cret" not in problem.body("req_1")


def test_the_largest_legal_body_is_accepted() -> None:
    metadata = {f"{number:040}": "x" * 500 for number in range(20)}
    customer = {"email": "a@" + "b" * 252, "name": "n" * 200, "reference": "r" * 200}
    url = "https://shop.example/" + "p" * 1979
    raw = changed(
        order_id="o" * 64,
        amount=10**12,
        metadata=metadata,
        customer=customer,
        description="d" * 500,
        method={"type": "hosted_page", "return_url": url},
    )
    assert read_payment(raw, depth_max=8)[0].amount == 10**12
    assert len(raw) < 16384


async def test_a_refused_body_is_told_over_http(house: House) -> None:
    reply = await house.pay(hosted(amount=0, colour="red"))
    assert (reply.status, reply.code) == (400, "body_invalid")
    assert reply.json["title"] == "Bad Request"
    assert reply.json["errors"] == [
        {"detail": "must be at least 1", "pointer": "/amount"},
        {"detail": "is not known", "pointer": "/colour"},
    ]
    assert reply.json["request_id"] == reply.headers["Request-Id"]
    assert await house.count("payments") == 0
