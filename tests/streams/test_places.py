"""What a Redis URL says, and which ones are refused, with the reason and without the password."""

from __future__ import annotations

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from paynode import config
from paynode.streams.client import commands_client, reader_client
from paynode.streams.places import Address, Kind, Login, Place, UrlRefused, parse
from tests.support.properties import law

ONE = Address("127.0.0.1", 6379)


@pytest.mark.parametrize(
    ("url", "place"),
    [
        ("redis://127.0.0.1", Place(kind=Kind.SERVER, addresses=(ONE,), login=Login())),
        ("redis://127.0.0.1:6379/", Place(kind=Kind.SERVER, addresses=(ONE,), login=Login())),
        (
            "redis://user:p%40s%2Fs@127.0.0.1/7",
            Place(kind=Kind.SERVER, addresses=(ONE,), login=Login(username="user", password="p@s/s"), database=7),
        ),
        (
            "redis://:secret@[::1]:7000",
            Place(kind=Kind.SERVER, addresses=(Address("::1", 7000),), login=Login(password="secret")),
        ),
        (
            "rediss://h?ssl_ca_certs=/ca.pem",
            Place(kind=Kind.SERVER, addresses=(Address("h", 6379),), login=Login(), tls={"ssl_ca_certs": "/ca.pem"}),
        ),
        (
            "redis+cluster://:secret@a:1,b:2,c",
            Place(
                kind=Kind.CLUSTER,
                addresses=(Address("a", 1), Address("b", 2), Address("c", 6379)),
                login=Login(password="secret"),
            ),
        ),
        ("redis+cluster://a/0", Place(kind=Kind.CLUSTER, addresses=(Address("a", 6379),), login=Login())),
        (
            "redis+sentinel://u:p@a:1,b/payments/3?sentinel_password=other%20secret",
            Place(
                kind=Kind.SENTINELS,
                addresses=(Address("a", 1), Address("b", 26379)),
                login=Login(username="u", password="p"),
                service="payments",
                database=3,
                sentinel_login=Login(password="other secret"),
            ),
        ),
        (
            "redis+sentinel://a:1,[::1]:2/payments",
            Place(
                kind=Kind.SENTINELS, addresses=(Address("a", 1), Address("::1", 2)), login=Login(), service="payments"
            ),
        ),
        (
            "rediss+sentinel://a/my%20service",
            Place(kind=Kind.SENTINELS, addresses=(Address("a", 26379),), login=Login(), service="my service", tls={}),
        ),
    ],
)
def test_a_url_names_a_server_sentinels_or_a_cluster(url: str, place: Place) -> None:
    assert parse(url) == place


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("", "is not set"),
        ("127.0.0.1:6379", "begins with none of"),
        ("http://127.0.0.1", "none of redis://, redis+sentinel://, redis+cluster://"),
        ("redis+cluster-://a", "begins with none of"),
        ("unix:///tmp/socket", "begins with none of"),
        ("redis://", "no host:port"),
        ("redis://a:0", "no host:port"),
        ("redis://a:70000", "no host:port"),
        ("redis://a:port", "no host:port"),
        ("redis+cluster://a:1,,b:2", "number 2 is no host:port"),
        ("redis+cluster://a:1, b:2", "no host:port"),
        ("redis://[::1", "is no URL"),
        ("redis://a,b", "several servers"),
        ("redis://a/x", "number of a database"),
        ("redis://a/1/2", "number of a database"),
        ("redis://a/99999", "beyond every Redis"),
        ("redis+cluster://a/1", "only database 0"),
        ("redis+sentinel://a", "names no service"),
        ("redis+sentinel://a/", "names no service"),
        ("redis+sentinel://a/payments/x", "number of a database"),
        ("redis://a?retry_on_timeout=true", "not known here; known are: none"),
        ("redis://a?sentinel_password=x", "not known here"),
        ("rediss://a?ssl_ciphers=x", "ssl_ca_certs, ssl_certfile, ssl_keyfile"),
        ("redis://a/0#1", "after #"),
    ],
)
def test_a_url_that_cannot_be_meant_is_refused_with_the_reason(url: str, reason: str) -> None:
    with pytest.raises(UrlRefused, match=r"^redis\.url: ") as refused:
        parse(url)
    assert reason in str(refused.value)


@law(300)
@given(st.text(max_size=40), st.sampled_from(["", "redis://", "redis+sentinel://", "redis+cluster://"]))
def test_any_text_is_a_place_or_refused(text: str, scheme: str) -> None:
    with suppress(UrlRefused):
        assert parse(scheme + text).addresses


@law(500)
@given(st.text(alphabet="ab1=:/?#@%[]é ", min_size=3, max_size=12).map(lambda text: "geheim" + text))
def test_no_refusal_tells_the_password(password: str) -> None:
    urls = (f"redis://user:{password}@", f"redis+cluster://:{password}@a/7", f"http://:{password}@a")
    for url in (*urls, f"redis://user:{password}@/1", f"redis://user:{password}=1@a"):
        try:
            told = repr(parse(url))
        except UrlRefused as refused:
            told = str(refused)
        assert "geheim" not in told


@pytest.mark.parametrize("client", [commands_client, reader_client])
async def test_whoever_would_use_a_bad_url_is_refused_at_the_start(client: object) -> None:
    settings = config.load({"redis": {"url": "redis+sentinel://a:1"}})
    assert callable(client)
    with pytest.raises(UrlRefused):
        async with client(settings):
            pass
