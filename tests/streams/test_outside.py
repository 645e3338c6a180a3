"""What outside publishers put on the streams: read, or unreadable with the exact reason, and never a megabyte kept."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from paynode.domain.errors import Unavailable
from paynode.domain.keeping import kept
from paynode.domain.message import Message, Unreadable
from paynode.domain.publishing import PublisherKey
from paynode.streams.codec import encode
from paynode.streams.outside import OutsideReader
from paynode.streams.signing import EVENT_BYTES_MAX, sign
from tests.streams.test_codec import (
    EVENT,
    GOOD,
    KEYS,
    MERCHANT_ID,
    NOW_MS,
    OTHER,
    PARTITION,
    PARTITIONS,
    SECRET,
    as_read,
    attributes,
)
from tests.support.properties import law


class Known:
    """Keys that are there, or a database that is away."""

    def __init__(self, *, is_away: bool = False) -> None:
        self.is_away = is_away
        self.asked: list[str] = []

    async def key_of(self, publisher: str) -> PublisherKey | None:
        self.asked.append(publisher)
        if self.is_away:
            raise Unavailable("away")
        return KEYS.get(publisher)


async def read(fields: Mapping[str, str], *, keys: Known | None = None, partition: int = PARTITION) -> object:
    reader = OutsideReader(keys or Known(), partitions=PARTITIONS, now_ms=lambda: NOW_MS)
    [meaning] = await reader.read([fields], partition)
    return meaning


async def unreadable(fields: Mapping[str, str], *, partition: int = PARTITION) -> Unreadable:
    meaning = await read(fields, partition=partition)
    assert isinstance(meaning, Unreadable)
    return meaning


def changed(publisher: str = "loyalty", secret: bytes = SECRET, **members: Any) -> dict[str, str]:
    """The good event with other members, signed anew."""
    return sign(json.dumps(attributes() | members).encode(), publisher, secret)


async def test_a_good_event_is_a_message_with_what_it_came_as() -> None:
    assert await read(GOOD) == Message(
        ref=None, merchant_id=MERCHANT_ID, content=as_read(EVENT, GOOD["event"]), fields=GOOD
    )


async def test_fields_beside_an_event_mean_nothing() -> None:
    meaning = await read({**GOOD, "amount": "1000000"})
    assert isinstance(meaning, Message)
    assert meaning.content == as_read(EVENT, GOOD["event"])


_ABOUT: Final = (EVENT.id, str(EVENT.type), MERCHANT_ID)

# fields, partition, reason, (event_id, type, merchant_id) that the dead letter may name
REASONS: Final[Mapping[str, tuple[Mapping[str, str], int, str, tuple[str | None, str | None, str | None]]]] = {
    "only a signature": ({"sig": GOOD["sig"]}, PARTITION, "event_missing", (None, None, None)),
    "oversized": (sign(b"x" * (EVENT_BYTES_MAX + 1), "loyalty", SECRET), PARTITION, "too_large", (None, None, None)),
    "unsigned": ({"event": GOOD["event"]}, PARTITION, "signature_missing", (None, None, None)),
    "forged": (changed(secret=b"guessed"), PARTITION, "signature_invalid", (None, None, None)),
    "of a stranger": (changed("stranger"), PARTITION, "publisher_unknown", (None, None, None)),
    "malformed": (sign(b"{", "loyalty", SECRET), PARTITION, "shape_invalid", (None, None, None)),
    "with a member too many": (changed(priority="high"), PARTITION, "shape_invalid", _ABOUT),
    "of an unknown type": (
        changed(type="paynode.gift.v1"),
        PARTITION,
        "type_unknown",
        (EVENT.id, "paynode.gift.v1", MERCHANT_ID),
    ),
    "evidence of the PSP": (
        changed(type="psp.evidence"),
        PARTITION,
        "type_unknown",
        (EVENT.id, "psp.evidence", MERCHANT_ID),
    ),
    "a command": (changed(type="psp.execute"), PARTITION, "type_unknown", (EVENT.id, "psp.execute", MERCHANT_ID)),
    "a debit by who may credit": (
        changed("credits-only", b"another", type="paynode.wallet.debit.v1"),
        PARTITION,
        "type_not_allowed",
        (EVENT.id, "paynode.wallet.debit.v1", MERCHANT_ID),
    ),
    "with an id that is none": (changed(id="7"), PARTITION, "event_id_invalid", (None, *_ABOUT[1:])),
    "misdirected": (GOOD, (PARTITION + 1) % PARTITIONS, "wrong_partition", _ABOUT),
    "about two merchants": (
        changed(data=attributes()["data"] | {"merchant_id": OTHER}),
        PARTITION,
        "merchant_mismatch",
        _ABOUT,
    ),
    "with a type that no log should show": (
        changed(type="paynode.\u202e.v1", subject="mer_"),
        PARTITION,
        "type_unknown",
        (EVENT.id, None, None),
    ),
}


@pytest.mark.parametrize(("fields", "partition", "reason", "about"), REASONS.values(), ids=REASONS.keys())
async def test_what_cannot_be_read_says_why_and_what_it_was_about(
    fields: Mapping[str, str], partition: int, reason: str, about: tuple[str | None, str | None, str | None]
) -> None:
    what = await unreadable(fields, partition=partition)
    assert what.reason == reason
    assert what.detail.isprintable()
    assert (what.event_id, what.type, what.merchant_id) == about
    assert (what.ref, what.payment_id) == (None, None)


async def test_keys_are_not_asked_for_what_no_key_could_mend() -> None:
    keys = Known()
    for fields in (
        {"sig": GOOD["sig"]},
        {"event": "x"},
        {"event": "x", "sig": "x"},
        {"event": "x" * 70_000, "sig": "x"},
    ):
        await read(fields, keys=keys)
    assert keys.asked == []
    await read(GOOD, keys=keys)
    assert keys.asked == ["loyalty"]


async def test_while_the_keys_are_away_nothing_is_decided() -> None:
    with pytest.raises(Unavailable):
        await read(GOOD, keys=Known(is_away=True))


async def test_the_largest_event_is_kept_whole_and_can_be_read_again() -> None:
    event = replace(EVENT, correlation_id=None)
    raw = encode(event, "loyalty", SECRET)["event"]
    largest = sign((raw + " " * (EVENT_BYTES_MAX - len(raw))).encode(), "loyalty", SECRET)
    meaning = await read({"padding": "x" * 200_000, **largest})
    assert isinstance(meaning, Message)
    assert {name: meaning.fields[name] for name in largest} == largest
    assert isinstance(await read(meaning.fields), Message)
    misdirected = await unreadable({"padding": "x" * 200_000, **largest}, partition=(PARTITION + 1) % PARTITIONS)
    assert {name: misdirected.fields[name] for name in largest} == largest


@pytest.mark.parametrize(
    "fields",
    [
        {"event": "x" * 5_000_000, "sig": "y" * 5_000_000},
        {"x" * 5_000_000: "", "event": "x"},
        {str(number): "z" * 10 for number in range(100_000)},
        {"event": "\U0001f600" * 100_000},
    ],
    ids=["large values", "a large name", "many fields", "large characters"],
)
async def test_a_dead_letter_does_not_weigh_a_megabyte(fields: Mapping[str, str]) -> None:
    what = await unreadable(fields)
    assert len(json.dumps(dict(what.fields), ensure_ascii=False).encode()) < 600_000
    assert "…" in json.dumps(dict(what.fields), ensure_ascii=False), "what was cut is marked"


async def test_the_size_that_is_told_is_that_of_what_came() -> None:
    what = await unreadable({"event": "x" * 5_000_000, "sig": "y"})
    assert (what.reason, what.detail) == ("too_large", "5000000 bytes, of at most 65536")
    assert what.fields["event"].endswith("x… (5000000 characters)")


@law(200)
@given(st.dictionaries(st.text(max_size=5), st.text(max_size=200), max_size=6))
def test_small_fields_are_kept_as_they_are(fields: dict[str, str]) -> None:
    assert kept(fields) == fields


@law(100)
@given(st.dictionaries(st.text(max_size=300), st.sampled_from(["", "x", "y" * 65_536, "z" * 70_000]), max_size=8))
def test_what_is_kept_is_bounded_whatever_came(fields: dict[str, str]) -> None:
    assert sum(len(name) + len(value) for name, value in kept(fields).items()) <= 3 * EVENT_BYTES_MAX
