"""Requests by their first bytes: which are told at once, which are left to the long way, and what happens to bodies."""

from __future__ import annotations

import pytest

from paynode.http.glance import Begun, Glance, begun_by
from paynode.http.work import Work

BODY = b'{"amount":1}'
NO = b"HTTP/1.1 503 no"


def request(line: str = "POST /v1/payments", *fields: str, body: bytes = BODY) -> bytes:
    head = [f"{line} HTTP/1.1", "Host: test", *fields, *([f"Content-Length: {len(body)}"] if body else [])]
    return "\r\n".join([*head, "", ""]).encode() + body


class House:
    """Refuses everybody while it is full."""

    def __init__(self, *, is_full: bool = True) -> None:
        self.is_full = is_full
        self.asked: list[Begun] = []
        self.coming = 0

    def refusal(self, begun: Begun) -> bytes:
        self.asked.append(begun)
        self.coming += not self.is_full
        return NO if self.is_full else b""

    def arrived(self) -> None:
        self.coming -= 1


@pytest.mark.parametrize(
    ("line", "fields", "route", "work"),
    [
        ("POST /v1/payments", (), "/v1/payments", Work.CHECKOUT),
        ("POST /v1/payments", ("prefer: Respond-Async, WAIT=3",), "/v1/payments", Work.POS),
        ("GET /v1/payments?limit=3", (), "/v1/payments", Work.EXPORT),
        ("GET /v1/ledger", ("Connection: Keep-Alive",), "/v1/ledger", Work.EXPORT),
        ("GET /v1/payments/pay_1", (), "/v1/payments/{id}", Work.READ),
        ("POST /v1/payments/pay_1/refunds", (), "/v1/payments/pay_1/refunds", Work.OPERATION),
    ],
)
def test_the_class_is_the_one_that_the_long_way_finds(
    line: str, fields: tuple[str, ...], route: str, work: Work
) -> None:
    body = BODY if line.startswith("POST") else b""
    sent = request(line, *fields, body=body)
    assert begun_by(sent) == Begun(method=line.split()[0], route=route, work=work, size=len(sent))


@pytest.mark.parametrize(
    "sent",
    [
        request()[:40],
        request().replace(b"HTTP/1.1", b"HTTP/1.0"),
        request("POST /v1/payments", "Connection: close"),
        request("POST /v1/payments", "Connection: keep-alive, upgrade"),
        request("POST /v1/payments", "Upgrade: h2c"),
        request("POST /v1/payments", "Expect: 100-continue"),
        request("POST /v1/payments", "Transfer-Encoding: chunked", body=b""),
        request("POST /v1/payments", "Transfer-Encoding : chunked"),
        request("POST /v1/payments", "Content-Length: 12"),
        request("POST /v1/payments", "Content-Length : 12", body=b""),
        request("POST /v1/payments", "Content-Length: +12", body=b""),
        request("POST /v1/payments", "Content-Length: 12, 12", body=b""),
        request("POST /v1/payments", " folded: yes"),
        request("POST /v1/payments", "X: a\nTransfer-Encoding: chunked"),
        request("POST http://test/v1/payments\x00"),
        b"\r\n" + request(),
        b"",
    ],
)
def test_whatever_is_in_doubt_is_left_to_the_long_way(sent: bytes) -> None:
    assert begun_by(sent) is None
    glance = Glance(House())
    assert glance.look(sent, is_idle=True) == (b"", sent)
    if sent:
        assert glance.look(request(), is_idle=True) == (b"", request()), "and so is all that comes after it"


def test_a_refused_request_is_answered_once_and_never_read_however_its_body_comes() -> None:
    glance, sent = Glance(House()), request()
    assert glance.look(sent, is_idle=True) == (NO, b"")
    for cut in (len(sent) - len(BODY), len(sent) - 3):
        assert glance.look(sent[:cut], is_idle=True) == (NO, b"")
        for byte in sent[cut:]:
            assert glance.look(bytes([byte]), is_idle=True) == (b"", b"")
    assert glance.look(sent, is_idle=True) == (NO, b"")


def test_what_follows_a_refused_body_in_one_piece_is_read() -> None:
    glance, sent = Glance(House()), request()
    assert glance.look(sent[:-5], is_idle=True) == (NO, b"")
    assert glance.look(sent[-5:] + sent, is_idle=True) == (b"", sent)
    assert glance.look(sent, is_idle=True) == (b"", sent)


def test_a_body_that_looks_like_a_request_is_none() -> None:
    house = House(is_full=False)
    glance, inner = Glance(house), request()
    sent = request(body=inner)
    head = sent[: -len(inner)]
    assert glance.look(head, is_idle=True) == (b"", head)
    house.is_full = True
    assert glance.look(inner, is_idle=True) == (b"", inner)
    assert len(house.asked) == 1
    assert glance.look(sent, is_idle=True) == (NO, b"")


def test_nobody_is_refused_before_the_last_was_answered_nor_two_in_one_piece() -> None:
    house = House()
    glance = Glance(house)
    assert glance.look(request(), is_idle=False) == (b"", request())
    assert glance.look(request() * 2, is_idle=True) == (b"", request() * 2)
    assert house.asked == []


@pytest.mark.parametrize("line", ["POST /v1/psp/sim/webhook", "POST /v1/payments/pay_1/capture", "GET /checkout/chk_1"])
def test_what_is_refused_last_and_what_is_unknown_is_not_asked_about(line: str) -> None:
    house = House()
    sent = request(line)
    assert Glance(house).look(sent, is_idle=True) == (b"", sent)
    assert house.asked == []


def test_who_was_let_in_counts_until_he_arrives_or_is_gone() -> None:
    house = House(is_full=False)
    glance = Glance(house)
    glance.arrived()  # for one that nobody was asked about
    assert house.coming == 0
    glance.look(request(), is_idle=True)
    assert house.coming == 1
    for _ in range(2):
        glance.arrived()
        assert house.coming == 0
