"""Events of outside publishers, as they stand on a stream: CloudEvents 1.0 in structured JSON, signed.

Field `event` is the JSON text, field `sig` is `<publisher>.<base64 of HMAC-SHA256 over the event's bytes>`. The
signature is checked first, on the bytes as they came: nothing of an event is looked at before it is known whose it is.
"""

from __future__ import annotations

import base64
import hmac
import re
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from hashlib import sha256
from typing import Final

import orjson

from paynode.domain.errors import Poison
from paynode.domain.ids import MERCHANT, parse, public
from paynode.domain.partition import partition_of
from paynode.domain.publishing import OutsideEvent, OutsideType, PublisherKey
from paynode.streams.event_data import decode_data, encode_data
from paynode.streams.strict_json import NotStrict, matching, matching_or_none, only, read_object, text

EVENT_FIELD: Final = "event"
SIGNATURE_FIELD: Final = "sig"
EVENT_BYTES_MAX: Final = 64 * 1024
# An event has two levels, itself and its data.
_DEPTH_MAX: Final = 4
# An id's time orders it among the ids of years. A day allows for any clock; beyond it, it was not made from one.
_AHEAD_MS_MAX: Final = 24 * 60 * 60 * 1000

_SIGNATURE: Final = re.compile(r"([a-z0-9][a-z0-9_-]{0,63})\.([A-Za-z0-9+/]{43}=)", re.ASCII)
_UUID7: Final = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}", re.ASCII)
_TIME: Final = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,9})?(Z|[+-]\d\d:\d\d)", re.ASCII)
_TRACEPARENT: Final = re.compile(r"[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}", re.ASCII)
_URI_REFERENCE: Final = re.compile(r"[\x21-\x7e]{1,500}", re.ASCII)
_TOKEN: Final = re.compile(r"[\x21-\x7e]{1,200}", re.ASCII)

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
    return {EVENT_FIELD: raw.decode(), SIGNATURE_FIELD: f"{publisher}.{_signature(raw, secret)}"}


def decode(
    fields: Mapping[str, str],
    keys: Callable[[str], PublisherKey | None],
    *,
    now_ms: int,
    partition: int,
    partitions: int,
) -> OutsideEvent:
    """The event that an entry of this partition carries; `keys` gives a publisher's key, if there is such a publisher.

    Raises: Poison, with the first of these reasons that applies: `event_missing`, `too_large`, `signature_missing`,
    `signature_invalid`, `publisher_unknown`, `shape_invalid` (not JSON, or not these attributes), `type_unknown`,
    `type_not_allowed`, `event_id_invalid`, `wrong_partition`, `merchant_mismatch`, `shape_invalid` (its values).
    """
    raw = _raw(fields)
    key = _authenticate(raw, fields, keys)
    try:
        attributes = read_object(raw, depth_max=_DEPTH_MAX)
        only(attributes, required=_REQUIRED, optional=_OPTIONAL)
        return _event(raw, attributes, key, now_ms=now_ms, partition=partition, partitions=partitions)
    except NotStrict as error:
        raise Poison("shape_invalid", str(error)) from error


def _raw(fields: Mapping[str, str]) -> bytes:
    """The event's bytes. An entry's fields are text: one that was not UTF-8 was changed by that, and is not signed."""
    event = fields.get(EVENT_FIELD)
    if event is None:
        raise Poison("event_missing", f"no field `{EVENT_FIELD}`")
    raw = event.encode("utf-8", "surrogatepass")
    if len(raw) > EVENT_BYTES_MAX:
        raise Poison("too_large", f"{len(raw)} bytes, of at most {EVENT_BYTES_MAX}")
    return raw


def _authenticate(raw: bytes, fields: Mapping[str, str], keys: Callable[[str], PublisherKey | None]) -> PublisherKey:
    claim = fields.get(SIGNATURE_FIELD)
    if not claim:
        raise Poison("signature_missing", f"no field `{SIGNATURE_FIELD}`")
    match = _SIGNATURE.fullmatch(claim)
    if match is None:
        raise Poison("signature_invalid", "not <publisher>.<base64 of 32 bytes>")
    key = keys(match[1])
    if key is None:
        raise Poison("publisher_unknown", "no key of this publisher")
    # In constant time: how long a comparison takes would tell how much of a guess is right.
    if not hmac.compare_digest(_signature(raw, key.secret), match[2]):
        raise Poison("signature_invalid", "not this publisher's signature of these bytes")
    return key


def _signature(raw: bytes, secret: bytes) -> str:
    return base64.b64encode(hmac.digest(secret, raw, "sha256")).decode()


def _event(
    raw: bytes, attributes: Mapping[str, object], key: PublisherKey, *, now_ms: int, partition: int, partitions: int
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
    return OutsideEvent(
        id=event_id,
        source=matching(attributes, "source", _URI_REFERENCE),
        type=event_type,
        at=_time(attributes),
        merchant_id=merchant_id,
        data=decode_data(data, event_type),
        traceparent=matching_or_none(attributes, "traceparent", _TRACEPARENT),
        correlation_id=matching_or_none(attributes, "correlationid", _TOKEN),
        causation_id=matching_or_none(attributes, "causationid", _TOKEN),
        content_sha256=sha256(raw).digest(),
    )


def _expect(attributes: Mapping[str, object], name: str, value: str) -> None:
    if attributes[name] != value:
        raise NotStrict(f"{name} is not {value}")


def _type(attributes: Mapping[str, object], key: PublisherKey) -> OutsideType:
    word = text(attributes, "type")
    if word not in frozenset(OutsideType):
        raise Poison("type_unknown", "not a type that others may publish")
    event_type = OutsideType(word)
    if event_type not in key.types:
        raise Poison("type_not_allowed", f"{event_type} is not among the types of this publisher's key")
    return event_type


def _event_id(attributes: Mapping[str, object], now_ms: int) -> str:
    event_id = text(attributes, "id")
    if _UUID7.fullmatch(event_id) is None:
        raise Poison("event_id_invalid", "not a UUIDv7 in its canonical form")
    made_at_ms = int(event_id[:8] + event_id[9:13], 16)
    if made_at_ms > now_ms + _AHEAD_MS_MAX:
        raise Poison("event_id_invalid", "made more than a day ahead of now")
    return event_id


def _merchant_id(attributes: Mapping[str, object], partition: int, partitions: int) -> str:
    subject = text(attributes, "subject")
    merchant_id = parse(MERCHANT, subject)
    if merchant_id is None:
        raise NotStrict("subject is not mer_…")
    its_own = partition_of(subject, partitions)
    if its_own != partition:
        raise Poison("wrong_partition", f"the subject belongs to partition {its_own}, not {partition}")
    return merchant_id


def _time(attributes: Mapping[str, object]) -> datetime:
    word = matching(attributes, "time", _TIME)
    try:
        return datetime.fromisoformat(word).astimezone(UTC)
    except (ValueError, OverflowError) as error:
        raise NotStrict("time is no instant") from error
