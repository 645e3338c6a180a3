"""Events of outside publishers: CloudEvents 1.0 in structured JSON, read strictly.

Nothing of an event is looked at before it is known whose it is (`signing`); then it is read to the last value here, and
all that follows handles typed values only.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache
from hashlib import sha256
from typing import Final

import orjson

from paynode.domain.errors import Poison
from paynode.domain.ids import MERCHANT, parse, public
from paynode.domain.partition import partition_of
from paynode.domain.publishing import OutsideEvent, OutsideType, PublisherKey
from paynode.streams.event_data import decode_data, encode_data
from paynode.streams.members import NotStrict, matching, matching_or_none, only, read_object, text
from paynode.streams.signing import Claim, sign

# An event has two levels, itself and its data.
_DEPTH_MAX: Final = 4
# An id's time orders it among the ids of years. A day allows for any clock; beyond it, it was not made from one.
_AHEAD_MS_MAX: Final = 24 * 60 * 60 * 1000
# Merchants whose ids are remembered in both forms: some 300 bytes each, and a tenth of the time of reading an event.
_MERCHANTS: Final = 10_000

UUID7: Final = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}", re.ASCII)
_TIME: Final = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,9})?(Z|[+-]\d\d:\d\d)", re.ASCII)
_TRACEPARENT: Final = re.compile(r"[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}", re.ASCII)
_URI_REFERENCE: Final = re.compile(r"[\x21-\x7e]{1,500}", re.ASCII)
_TYPE: Final = re.compile(r"[a-z0-9._-]{1,100}", re.ASCII)
_TOKEN: Final = re.compile(r"[\x21-\x7e]{1,200}", re.ASCII)

_TYPES: Final = {event_type.value: event_type for event_type in OutsideType}

_REQUIRED: Final = frozenset({"specversion", "id", "source", "type", "time", "subject", "datacontenttype", "data"})
_OPTIONAL: Final = frozenset({"traceparent", "correlationid", "causationid"})


def encode(event: OutsideEvent, publisher: str, secret: bytes) -> dict[str, str]:
    """The fields of a stream entry that carries the event."""
    merchant = public(MERCHANT, event.merchant_id)
    attributes = {
        "specversion": "1.0",
        "id": event.id,
        "source": event.source,
        "type": event.type,
        "time": event.at.astimezone(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z"),
        "subject": merchant,
        "datacontenttype": "application/json",
        "traceparent": event.traceparent,
        "correlationid": event.correlation_id,
        "causationid": event.causation_id,
        "data": {"merchant_id": merchant, **encode_data(event.data)},
    }
    raw = orjson.dumps({name: value for name, value in attributes.items() if value is not None})
    return sign(raw, publisher, secret)


@dataclass(frozen=True, slots=True, kw_only=True)
class About:
    """What an event that is refused was about, as far as that could be read."""

    event_id: str | None = None
    type: str | None = None
    merchant_id: str | None = None


def decode(claim: Claim, key: PublisherKey, *, now_ms: int, partition: int, partitions: int) -> OutsideEvent:
    """The event of an authenticated claim that an entry of this partition made.

    Raises: Poison, with the first of these reasons that applies: `shape_invalid` (not JSON, or not these attributes),
    `type_unknown`, `type_not_allowed`, `event_id_invalid`, `wrong_partition`, `merchant_mismatch`, `shape_invalid` (its
    values).
    """
    try:
        attributes = read_object(claim.raw, depth_max=_DEPTH_MAX)
        only(attributes, required=_REQUIRED, optional=_OPTIONAL)
        return _event(claim, attributes, key, now_ms=now_ms, partition=partition, partitions=partitions)
    except NotStrict as error:
        raise Poison("shape_invalid", str(error)) from error


def about(claim: Claim) -> About:
    """What can be told of an authenticated event that nothing can be done with."""
    try:
        attributes = read_object(claim.raw, depth_max=_DEPTH_MAX)
    except NotStrict:
        return About()
    event_id, event_type, subject = (attributes.get(name) for name in ("id", "type", "subject"))
    return About(
        event_id=event_id if isinstance(event_id, str) and UUID7.fullmatch(event_id) else None,
        type=event_type if isinstance(event_type, str) and _TYPE.fullmatch(event_type) else None,
        merchant_id=parse(MERCHANT, subject) if isinstance(subject, str) else None,
    )


def _event(
    claim: Claim, attributes: Mapping[str, object], key: PublisherKey, *, now_ms: int, partition: int, partitions: int
) -> OutsideEvent:
    _expect(attributes, "specversion", "1.0")
    _expect(attributes, "datacontenttype", "application/json")
    event_type = _type(attributes, key)
    event_id = _event_id(attributes, now_ms)
    merchant_id = _merchant_id(attributes, partition, partitions)
    data = attributes["data"]
    if not isinstance(data, dict):
        raise NotStrict("data is not an object")
    if data.get("merchant_id") != attributes["subject"]:
        raise Poison("merchant_mismatch", "data.merchant_id is not the subject")
    has_more = len(attributes) > len(_REQUIRED)
    return OutsideEvent(
        id=event_id,
        publisher=claim.publisher,
        source=matching(attributes, "source", _URI_REFERENCE),
        type=event_type,
        at=_time(attributes),
        merchant_id=merchant_id,
        data=decode_data(data, event_type),
        traceparent=matching_or_none(attributes, "traceparent", _TRACEPARENT) if has_more else None,
        correlation_id=matching_or_none(attributes, "correlationid", _TOKEN) if has_more else None,
        causation_id=matching_or_none(attributes, "causationid", _TOKEN) if has_more else None,
        content=claim.text,
        content_sha256=sha256(claim.raw).digest(),
    )


def _expect(attributes: Mapping[str, object], name: str, value: str) -> None:
    if attributes[name] != value:
        raise NotStrict(f"{name} is not {value}")


def _type(attributes: Mapping[str, object], key: PublisherKey) -> OutsideType:
    event_type = _TYPES.get(text(attributes, "type"))
    if event_type is None:
        raise Poison("type_unknown", "not a type that others may publish")
    if event_type not in key.types:
        raise Poison("type_not_allowed", f"{event_type} is not among the types of this publisher's key")
    return event_type


def _event_id(attributes: Mapping[str, object], now_ms: int) -> str:
    event_id = text(attributes, "id")
    if UUID7.fullmatch(event_id) is None:
        raise Poison("event_id_invalid", "not a UUIDv7 in its canonical form")
    made_at_ms = int(event_id[:8] + event_id[9:13], 16)
    if made_at_ms > now_ms + _AHEAD_MS_MAX:
        raise Poison("event_id_invalid", "made more than a day ahead of now")
    return event_id


def _merchant_id(attributes: Mapping[str, object], partition: int, partitions: int) -> str:
    merchant_id, its_own = _place_of(text(attributes, "subject"), partitions)
    if merchant_id is None:
        raise NotStrict("subject is not mer_…")
    if its_own != partition:
        raise Poison("wrong_partition", f"the subject belongs to partition {its_own}, not {partition}")
    return merchant_id


@lru_cache(maxsize=_MERCHANTS)
def _place_of(subject: str, partitions: int) -> tuple[str | None, int]:
    """The merchant of a subject and its partition; who publishes about one publishes about it again."""
    merchant_id = parse(MERCHANT, subject)
    return merchant_id, -1 if merchant_id is None else partition_of(subject, partitions)


def _time(attributes: Mapping[str, object]) -> datetime:
    word = matching(attributes, "time", _TIME)
    try:
        return datetime.fromisoformat(word).astimezone(UTC)
    except (ValueError, OverflowError) as error:
        raise NotStrict("time is no instant") from error
