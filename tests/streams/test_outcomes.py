"""Outcomes as publishers read them: CloudEvents with the publisher's own signature, on the stream of the merchant."""

from __future__ import annotations

import json
from typing import Any, Final
from uuid import UUID

import pytest
from cloudevents.v1.http import from_json
from hypothesis import given
from hypothesis import strategies as st

from paynode.domain.errors import Poison, Unavailable
from paynode.domain.publishing import OutsideType, PublisherKey, Result, Verdict
from paynode.domain.road import outcomes_stream
from paynode.streams.client import Redis, client_of
from paynode.streams.members import NotStrict
from paynode.streams.outcome_events import Told, decode, encode
from paynode.streams.outcomes import Outcomes
from paynode.streams.outside import Keys, OutsideReader
from paynode.streams.signing import authenticate, claim, sign
from tests.streams import looking
from tests.streams.test_codec import EVENT, GOOD, KEYS, MERCHANT_ID, NOW_MS, PARTITION, PARTITIONS, PUBLIC, SECRET
from tests.streams.test_codec import read as read_event
from tests.support.properties import law

OUTCOME_ID: Final = "01890a5d-ac96-774b-bcce-000000000001"
STREAM: Final = outcomes_stream(PARTITION)
REFUSED: Final = Verdict.of(read_event(GOOD), Result.REFUSED, "insufficient_funds")
APPLIED: Final = Verdict.of(read_event(GOOD), Result.APPLIED)


class Known:
    async def key_of(self, publisher: str) -> PublisherKey | None:
        return KEYS.get(publisher)


class Away:
    async def key_of(self, publisher: str) -> PublisherKey | None:
        raise Unavailable("away")


def outcomes(client: Redis, keys: Keys | None = None, *, entries_max: int = 100) -> Outcomes:
    return Outcomes(
        client,
        keys or Known(),
        partitions=PARTITIONS,
        entries_max=entries_max,
        new_id=lambda: OUTCOME_ID,
        now_ms=lambda: NOW_MS,
    )


async def told(commands: Redis) -> list[dict[str, str]]:
    return [
        {name.decode(): value.decode() for name, value in one.items()} for one in await looking.fields(commands, STREAM)
    ]


async def test_a_refusal_is_told_so_that_any_cloudevents_reader_understands_it(commands: Redis) -> None:
    await outcomes(commands).tell([REFUSED])
    [fields] = await told(commands)
    event = from_json(fields["event"])
    assert (event["specversion"], event["id"], event["source"]) == ("1.0", OUTCOME_ID, "paynode")
    assert (event["type"], event["subject"]) == ("paynode.wallet.credit.refused.v1", PUBLIC)
    assert (event["causationid"], event["time"]) == (EVENT.id, "2026-03-01T12:00:00.000Z")
    assert event.data == {
        "merchant_id": PUBLIC,
        "event_id": EVENT.id,
        "content_sha256": REFUSED.content_sha256.hex(),
        "code": "insufficient_funds",
    }


async def test_it_is_signed_with_the_publishers_own_key(commands: Redis) -> None:
    await outcomes(commands).tell([APPLIED])
    [fields] = await told(commands)
    claimed = claim(fields)
    assert claimed.publisher == "loyalty"
    authenticate(claimed, KEYS["loyalty"])
    assert decode(claimed.raw) == Told(
        event_id=EVENT.id,
        content_sha256=APPLIED.content_sha256,
        merchant_id=MERCHANT_ID,
        type=OutsideType.WALLET_CREDIT,
        result=Result.APPLIED,
        code=None,
    )
    with pytest.raises(Poison):
        authenticate(claimed, PublisherKey(secret=b"another", types=frozenset()))


async def test_dead_letters_and_publishers_without_a_key_are_not_told(commands: Redis) -> None:
    dead = Verdict.of(read_event(GOOD), Result.DEAD_LETTER, "merchant_unknown")
    revoked = Verdict(
        event_id=EVENT.id,
        content_sha256=bytes(32),
        merchant_id=MERCHANT_ID,
        publisher="revoked",
        type=OutsideType.WALLET_CREDIT,
        result=Result.APPLIED,
    )
    await outcomes(commands).tell([dead, revoked])
    assert await told(commands) == []
    await outcomes(commands).tell([dead, REFUSED, revoked, APPLIED])
    assert [decode(one["event"].encode()).result for one in await told(commands)] == [Result.REFUSED, Result.APPLIED]


async def test_a_stream_of_outcomes_does_not_grow_for_ever(commands: Redis) -> None:
    """Redis trims whole nodes of 100 entries."""
    await outcomes(commands, entries_max=100).tell([APPLIED] * 1000)
    client: Any = commands
    assert 100 <= await client.xlen(STREAM) <= 300


async def test_what_cannot_be_told_now_is_unavailable(commands: Redis) -> None:
    with pytest.raises(Unavailable):
        await outcomes(commands, Away()).tell([APPLIED])
    async with client_of("redis://127.0.0.1:1/0", size=1, timeout_s=2, connect_s=2) as client:
        with pytest.raises(Unavailable):
            await outcomes(client).tell([APPLIED])
        await outcomes(client).tell([])


async def test_an_outcome_that_somebody_puts_on_the_events_stream_is_no_event(commands: Redis) -> None:
    """One key signs both ways; the types keep them apart."""
    await outcomes(commands).tell([APPLIED])
    [fields] = await told(commands)
    reader = OutsideReader(Known(), partitions=PARTITIONS, now_ms=lambda: NOW_MS)
    [meaning] = await reader.read([fields], PARTITION)
    assert getattr(meaning, "reason", None) == "type_unknown"


def test_an_event_that_somebody_puts_on_the_outcomes_stream_is_no_outcome() -> None:
    with pytest.raises(NotStrict):
        decode(GOOD["event"].encode())


def test_an_outcome_of_a_newer_paynode_is_still_understood() -> None:
    raw = encode(REFUSED, outcome_id=OUTCOME_ID, now_ms=NOW_MS)
    newer = raw.replace(b'"code"', b'"balance":7,"code"').replace(b'"source"', b'"sequence":"1","source"')
    assert decode(newer) == decode(raw)


@law(200)
@given(
    st.sampled_from(OutsideType),
    st.sampled_from([Result.APPLIED, Result.REFUSED]),
    st.none() | st.from_regex(r"[a-z_]{1,40}", fullmatch=True),
    st.uuids().map(str),
    st.binary(min_size=32, max_size=32),
    st.integers(0, 2**41),
)
def test_a_verdict_goes_out_and_comes_back(
    event_type: OutsideType, result: Result, code: str | None, merchant_id: str, digest: bytes, now_ms: int
) -> None:
    verdict = Verdict(
        event_id=EVENT.id,
        content_sha256=digest,
        merchant_id=merchant_id,
        publisher="loyalty",
        type=event_type,
        result=result,
        code=code,
    )
    heard = decode(encode(verdict, outcome_id=str(UUID(int=7)), now_ms=now_ms))
    assert heard == Told(
        event_id=EVENT.id,
        content_sha256=digest,
        merchant_id=merchant_id,
        type=event_type,
        result=result,
        code=code,
    )


@law(300)
@given(st.binary(max_size=200) | st.text(max_size=200).map(lambda text: text.encode("utf-8", "replace")))
def test_no_bytes_raise_anything_but_that_they_are_no_outcome(raw: bytes) -> None:
    with pytest.raises(NotStrict):
        decode(raw)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=10), inner, max_size=3),
    max_leaves=6,
)


@law(300)
@given(st.sampled_from(["type", "subject", "causationid", "data", "specversion"]), json_values, st.booleans())
def test_no_values_in_their_places_raise_anything_else(name: str, value: object, is_in_data: bool) -> None:
    content = json.loads(encode(REFUSED, outcome_id=OUTCOME_ID, now_ms=NOW_MS))
    (content["data"] if is_in_data else content)[name] = value
    try:
        decode(json.dumps(content).encode())
    except NotStrict as refusal:
        assert str(refusal).isprintable()  # noqa: PT017 - most are refused, not all


def test_what_paynode_signs_is_a_claim_like_any_other() -> None:
    fields = sign("ü".encode(), "loyalty", SECRET)
    assert authenticate(claim(fields), KEYS["loyalty"]) is KEYS["loyalty"]
