"""Events of outside publishers: whose they are first, then read strictly, and nothing but Poison for all the rest."""

from __future__ import annotations

import base64
import hmac
import json
from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from hashlib import sha256
from typing import Any, Final

import pytest
from cloudevents.v1.http import from_json
from hypothesis import given
from hypothesis import strategies as st

from paynode.domain.errors import Poison
from paynode.domain.ids import MERCHANT, public
from paynode.domain.money import AMOUNT_MAX, Money
from paynode.domain.partition import partition_of
from paynode.domain.publishing import (
    CaptureRequest,
    OutsideEvent,
    OutsideType,
    PublisherKey,
    RefundRequest,
    WalletMovement,
)
from paynode.streams.codec import decode, encode
from paynode.streams.entries import entries
from paynode.streams.signing import EVENT_BYTES_MAX, authenticate, claim
from tests.support.properties import law

NOW_MS: Final = 1_772_366_400_000
PARTITIONS: Final = 32
SECRET: Final = b"a secret of 32 bytes, or so to say"
KEYS: Final = {
    "loyalty": PublisherKey(secret=SECRET, types=frozenset(OutsideType)),
    "credits-only": PublisherKey(secret=b"another", types=frozenset({OutsideType.WALLET_CREDIT})),
}
MERCHANT_ID: Final = "01890a5d-ac96-774b-bcce-b302099a8057"
PUBLIC: Final = public(MERCHANT, MERCHANT_ID)
PARTITION: Final = partition_of(PUBLIC, PARTITIONS)


def uuid7(at_ms: int) -> str:
    text = f"{at_ms:012x}"
    return f"{text[:8]}-{text[8:]}-7000-8000-00000000abcd"


EVENT: Final = OutsideEvent(
    id=uuid7(NOW_MS),
    source="/loyalty/points",
    type=OutsideType.WALLET_CREDIT,
    at=datetime(2026, 3, 1, 12, 0, 0, 123000, tzinfo=UTC),
    merchant_id=MERCHANT_ID,
    data=WalletMovement(money=Money(amount=1000, currency="EUR"), reason="points", reference="order-7"),
    correlation_id="c-1",
)


def read(fields: Mapping[str, str], *, partition: int = PARTITION) -> OutsideEvent:
    claimed = claim(fields)
    key = authenticate(claimed, KEYS.get(claimed.publisher))
    return decode(claimed, key, now_ms=NOW_MS, partition=partition, partitions=PARTITIONS)


def as_read(event: OutsideEvent, content: str) -> OutsideEvent:
    """The event with what reading adds."""
    digest = sha256(content.encode()).digest()
    return replace(event, publisher="loyalty", content=content, content_sha256=digest)


def reason_of(fields: Mapping[str, str], *, partition: int = PARTITION) -> str:
    with pytest.raises(Poison) as refusal:
        read(fields, partition=partition)
    assert refusal.value.detail.isprintable()
    return refusal.value.reason


def signed(raw: bytes, publisher: str = "loyalty", secret: bytes = SECRET) -> dict[str, str]:
    signature = base64.b64encode(hmac.digest(secret, raw, "sha256")).decode()
    return {"event": raw.decode("utf-8", "replace"), "sig": f"{publisher}.{signature}"}


def attributes(event: OutsideEvent = EVENT) -> dict[str, Any]:
    content: dict[str, Any] = json.loads(encode(event, "loyalty", SECRET)["event"])
    return content


# -- there and back ---------------------------------------------------------------------------------------------------

tokens = st.from_regex(r"[\x21-\x7e]{1,200}", fullmatch=True)
texts = st.text(st.characters(min_codepoint=32, exclude_categories=["Cs", "Cc"]), max_size=500)
amounts = st.integers(1, AMOUNT_MAX)
movements = st.builds(
    WalletMovement,
    money=st.builds(Money, amount=amounts, currency=st.sampled_from(["EUR", "USD", "JPY", "KWD", "CLF"])),
    reason=texts,
    reference=tokens,
)
ids = st.uuids().map(str)
refunds = st.builds(RefundRequest, payment_id=ids, amount=st.none() | amounts, reason=texts)
captures = st.builds(CaptureRequest, payment_id=ids, amount=st.none() | amounts, is_final=st.booleans())
typed_data = st.one_of(
    st.tuples(st.sampled_from([OutsideType.WALLET_CREDIT, OutsideType.WALLET_DEBIT]), movements),
    st.tuples(st.just(OutsideType.REFUND_REQUEST), refunds),
    st.tuples(st.just(OutsideType.CAPTURE_REQUEST), captures),
)


@st.composite
def events(draw: st.DrawFn) -> OutsideEvent:
    event_type, data = draw(typed_data)
    return OutsideEvent(
        id=uuid7(draw(st.integers(0, NOW_MS))),
        source=draw(tokens),
        type=event_type,
        at=draw(st.datetimes(timezones=st.sampled_from([UTC, timezone(timedelta(hours=-7, minutes=-30))]))),
        merchant_id=draw(ids),
        data=data,
        traceparent=draw(st.none() | st.from_regex(r"00-[0-9a-f]{32}-[0-9a-f]{16}-01", fullmatch=True)),
        correlation_id=draw(st.none() | tokens),
        causation_id=draw(st.none() | tokens),
    )


@law(150)
@given(events())
def test_an_event_goes_out_and_comes_back(event: OutsideEvent) -> None:
    fields = encode(event, "loyalty", SECRET)
    partition = partition_of(public(MERCHANT, event.merchant_id), PARTITIONS)
    assert read(fields, partition=partition) == as_read(event, fields["event"])


def test_the_cloudevents_library_reads_what_we_write() -> None:
    event = from_json(encode(EVENT, "loyalty", SECRET)["event"])
    assert (event["specversion"], event["id"], event["source"]) == ("1.0", EVENT.id, EVENT.source)
    assert (event["type"], event["subject"]) == ("paynode.wallet.credit.v1", PUBLIC)
    assert (event["datacontenttype"], event["correlationid"]) == ("application/json", "c-1")
    assert datetime.fromisoformat(event["time"]) == EVENT.at
    assert event.data == {
        "merchant_id": PUBLIC,
        "amount": 1000,
        "currency": "EUR",
        "reason": "points",
        "reference": "order-7",
    }


def test_the_bytes_are_what_counts_and_not_how_json_is_written() -> None:
    spaced = json.dumps(attributes(), indent=2, sort_keys=True, ensure_ascii=True).encode()
    assert read(signed(spaced)) == as_read(EVENT, spaced.decode())


# -- whose it is ------------------------------------------------------------------------------------------------------

GOOD: Final = encode(EVENT, "loyalty", SECRET)
PUBLISHER, SIGNATURE = GOOD["sig"].split(".")


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"event": None}, "event_missing"),
        ({"event": "x" * (EVENT_BYTES_MAX + 1)}, "too_large"),
        ({"event": "é" * (EVENT_BYTES_MAX // 2 + 1)}, "too_large"),
        ({"event": "x" * EVENT_BYTES_MAX}, "signature_invalid"),
        ({"sig": None}, "signature_missing"),
        ({"sig": ""}, "signature_missing"),
        ({"sig": SIGNATURE}, "signature_invalid"),
        ({"sig": f"{PUBLISHER}.{SIGNATURE}\n"}, "signature_invalid"),
        ({"sig": f"{PUBLISHER}.{SIGNATURE[:-1]}"}, "signature_invalid"),
        ({"sig": f"LOYALTY.{SIGNATURE}"}, "signature_invalid"),
        ({"sig": f"{PUBLISHER}.{base64.b64encode(bytes(32)).decode()}"}, "signature_invalid"),
        ({"sig": f"{PUBLISHER}.{bytes(32).hex()}"}, "signature_invalid"),
        ({"sig": f"stranger.{SIGNATURE}"}, "publisher_unknown"),
        ({"sig": f"credits-only.{SIGNATURE}"}, "signature_invalid"),
        ({"event": GOOD["event"].replace("1000", "9000")}, "signature_invalid"),
        ({"event": GOOD["event"] + " "}, "signature_invalid"),
        ({"event": "not even JSON"}, "signature_invalid"),
        ({"event": "\ud800"}, "signature_invalid"),
    ],
)
def test_nothing_is_looked_at_before_it_is_known_whose_it_is(changes: Mapping[str, str | None], reason: str) -> None:
    fields = {name: value for name, value in {**GOOD, **changes}.items() if value is not None}
    assert reason_of(fields) == reason


def test_a_publisher_says_only_what_its_key_lists() -> None:
    assert read(encode(EVENT, "credits-only", b"another")).type is OutsideType.WALLET_CREDIT
    debit = replace(EVENT, type=OutsideType.WALLET_DEBIT)
    assert reason_of(encode(debit, "credits-only", b"another")) == "type_not_allowed"


def test_a_key_shows_its_secret_to_nobody() -> None:
    assert "secret of 32" not in repr(KEYS["loyalty"])


# -- what it says -----------------------------------------------------------------------------------------------------


def without(name: str) -> Callable[[dict[str, Any]], None]:
    return lambda content: content.pop(name)


def put(name: str, value: object) -> Callable[[dict[str, Any]], None]:
    return lambda content: content.__setitem__(name, value)


def data(name: str, value: object) -> Callable[[dict[str, Any]], None]:
    return lambda content: content["data"].__setitem__(name, value)


OTHER: Final = public(MERCHANT, "01890a5d-ac96-774b-bcce-b302099a8000")
WRONG: Final[Mapping[str, tuple[Callable[[dict[str, Any]], None], str]]] = {
    **{
        f"without {name}": (without(name), "shape_invalid")
        for name in ("specversion", "id", "source", "type", "time", "subject", "datacontenttype", "data")
    },
    "another version": (put("specversion", "0.3"), "shape_invalid"),
    "a version that is a number": (put("specversion", 1), "shape_invalid"),
    "another content type": (put("datacontenttype", "text/xml"), "shape_invalid"),
    "data in base64": (put("data_base64", "e30="), "shape_invalid"),
    "an attribute that we do not know": (put("priority", "high"), "shape_invalid"),
    "a type that nobody has": (put("type", "paynode.wallet.gift.v1"), "type_unknown"),
    "a type of our own": (put("type", "psp.evidence"), "type_unknown"),
    "a type that is no text": (put("type", ["paynode.wallet.credit.v1"]), "shape_invalid"),
    "an id that is no UUID": (put("id", "7"), "event_id_invalid"),
    "an id of version 4": (put("id", "01890a5d-ac96-474b-bcce-b302099a8057"), "event_id_invalid"),
    "an id of another variant": (put("id", "01890a5d-ac96-774b-0cce-b302099a8057"), "event_id_invalid"),
    "an id in capitals": (put("id", "01890A5D-AC96-774B-BCCE-B302099A8057"), "event_id_invalid"),
    "an id of more than a day ahead": (put("id", uuid7(NOW_MS + 86_400_001)), "event_id_invalid"),
    "a subject that is no merchant": (put("subject", PUBLIC.replace("mer_", "pay_")), "shape_invalid"),
    "another merchant in the data": (data("merchant_id", OTHER), "merchant_mismatch"),
    "no merchant in the data": (lambda content: content["data"].pop("merchant_id"), "merchant_mismatch"),
    "data that is no object": (put("data", [1]), "shape_invalid"),
    "no source": (put("source", ""), "shape_invalid"),
    "a source with a space": (put("source", "a b"), "shape_invalid"),
    "a time without a zone": (put("time", "2026-03-01T12:00:00"), "shape_invalid"),
    "a time that is none": (put("time", "2026-02-30T12:00:00Z"), "shape_invalid"),
    "a time before all times": (put("time", "0001-01-01T00:00:00+23:59"), "shape_invalid"),
    "a time in words": (put("time", "yesterday"), "shape_invalid"),
    "a time that is a number": (put("time", 1_772_366_400), "shape_invalid"),
    "a trace that is none": (put("traceparent", "00-1-2-3"), "shape_invalid"),
    "a correlation that is null": (put("correlationid", None), "shape_invalid"),
    "a causation of 300 characters": (put("causationid", "x" * 300), "shape_invalid"),
    "nothing": (data("amount", 0), "shape_invalid"),
    "less than nothing": (data("amount", -1), "shape_invalid"),
    "more than there is": (data("amount", AMOUNT_MAX + 1), "shape_invalid"),
    "a fraction": (data("amount", 10.5), "shape_invalid"),
    "a whole fraction": (data("amount", 1000.0), "shape_invalid"),
    "true for an amount": (data("amount", True), "shape_invalid"),
    "an amount in quotes": (data("amount", "1000"), "shape_invalid"),
    "a currency that nobody has": (data("currency", "EUE"), "shape_invalid"),
    "a currency without a minor unit": (data("currency", "XAU"), "shape_invalid"),
    "a currency in small letters": (data("currency", "eur"), "shape_invalid"),
    "a currency with a newline": (data("currency", "EUR\n"), "shape_invalid"),
    "a reason with NUL": (data("reason", "a\0b"), "shape_invalid"),
    "a reason that never ends": (data("reason", "x" * 501), "shape_invalid"),
    "a reference with a space": (data("reference", "a b"), "shape_invalid"),
    "a member that we do not know": (data("fee", 1), "shape_invalid"),
    "a name with an escape": (data("\x1b[2J", 1), "shape_invalid"),
    "a lone surrogate": (data("reason", "\ud800"), "shape_invalid"),
    "an object for a reason": (data("reason", {"a": {"b": {}}}), "shape_invalid"),
}


@pytest.mark.parametrize(("change", "reason"), WRONG.values(), ids=WRONG.keys())
def test_an_event_that_is_not_as_agreed_is_refused_with_its_reason(
    change: Callable[[dict[str, Any]], None], reason: str
) -> None:
    content = attributes()
    change(content)
    assert reason_of(signed(json.dumps(content).encode())) == reason


REQUESTS: Final = {
    "a payment that is none": ("payment_id", "pay_1"),
    "a merchant for a payment": ("payment_id", PUBLIC),
    "an amount of null": ("amount", None),
    "an amount of nothing": ("amount", 0),
    "final in words": ("final", "yes"),
    "final as a number": ("final", 1),
    "a currency, which the payment has": ("currency", "EUR"),
}


@pytest.mark.parametrize(("name", "value"), REQUESTS.values(), ids=REQUESTS.keys())
@pytest.mark.parametrize(
    ("event_type", "request_data"),
    [
        (OutsideType.REFUND_REQUEST, RefundRequest(payment_id=MERCHANT_ID)),
        (OutsideType.CAPTURE_REQUEST, CaptureRequest(payment_id=MERCHANT_ID)),
    ],
)
def test_a_request_that_is_not_as_agreed_is_refused(
    event_type: OutsideType, request_data: RefundRequest | CaptureRequest, name: str, value: object
) -> None:
    content = attributes(replace(EVENT, type=event_type, data=request_data))
    assert read(signed(json.dumps(content).encode())).data == request_data
    content["data"][name] = value
    assert reason_of(signed(json.dumps(content).encode())) == "shape_invalid"


def test_an_event_on_another_partition_is_refused() -> None:
    assert reason_of(GOOD, partition=(PARTITION + 1) % PARTITIONS) == "wrong_partition"


def test_an_id_of_a_day_ahead_is_taken() -> None:
    content = attributes() | {"id": uuid7(NOW_MS + 86_400_000)}
    assert read(signed(json.dumps(content).encode())).id == content["id"]


TEXT: Final = GOOD["event"]


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"null",
        b"[]",
        b'"paynode"',
        b"{",
        TEXT.encode() + b"{}",
        b"\xef\xbb\xbf" + TEXT.encode(),
        TEXT.encode("utf-16"),
        b"[" * 60_000,
        b'{"a":' * 10_000,
        TEXT.replace('"amount":1000', '"amount":1,"amount":1000').encode(),
        TEXT.replace('"subject"', f'"subject":"{OTHER}","subject"').encode(),
        TEXT.replace('"amount":1000', '"amount":1e3').encode(),
        TEXT.replace('"amount":1000', '"amount":NaN').encode(),
        TEXT.replace('"amount":1000', '"amount":-Infinity').encode(),
        TEXT.replace('"amount":1000', '"amount":' + "9" * 60_000).encode(),
        TEXT.replace('"amount":1000', '"amount":1e999999').encode(),
        TEXT.replace('"reason":"points"', '"reason":[[[[[[]]]]]]').encode(),
        TEXT.replace("points", "po\nints").encode(),
    ],
)
def test_what_parsers_disagree_about_is_refused(raw: bytes) -> None:
    assert reason_of(signed(raw)) in ("shape_invalid", "signature_invalid")


# -- anything at all --------------------------------------------------------------------------------------------------

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=10), inner, max_size=3),
    max_leaves=8,
)


def only_poison(fields: Mapping[str, str]) -> None:
    try:
        read(fields)
    except Poison as poison:
        assert poison.detail.encode().isascii() or "…" in poison.detail  # noqa: PT017 - most are poison, not all


@law(300)
@given(st.dictionaries(st.sampled_from([b"event", b"sig", b"ref"]), st.binary(max_size=300)))
def test_no_bytes_on_a_stream_raise_anything_but_poison(fields: dict[bytes, bytes]) -> None:
    (entry,) = entries([(b"1-0", fields)])
    only_poison(entry.fields)


@law(300)
@given(st.binary(max_size=300))
def test_no_bytes_that_a_publisher_signs_raise_anything_but_poison(raw: bytes) -> None:
    only_poison(signed(raw))


@law(300)
@given(st.sampled_from(sorted(attributes())), json_values, st.sampled_from(sorted(attributes()["data"])), json_values)
def test_no_values_in_their_places_raise_anything_but_poison(
    name: str, value: object, member: str, content: object
) -> None:
    changed = attributes()
    changed["data"][member] = content
    only_poison(signed(json.dumps(changed).encode()))
    changed[name] = value
    only_poison(signed(json.dumps(changed).encode()))


@law(200)
@given(st.text(max_size=100), st.text(max_size=100))
def test_no_texts_raise_anything_but_poison(event: str, signature: str) -> None:
    only_poison({"event": event, "sig": signature})
