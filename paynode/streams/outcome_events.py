"""What became of an outside event, as its publisher is told: CloudEvents 1.0, signed with the publisher's own key.

Anybody who may write to Redis may put an entry on a stream of outcomes. By the signature the publisher tells what
paynode says from a forgery; by the hash it tells the outcome of its event from that of another under the same id.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache
from typing import Final

import orjson

from paynode.domain.ids import MERCHANT, parse, public
from paynode.domain.publishing import OutsideType, Result, Verdict
from paynode.streams.members import NotStrict, matching, matching_or_none, read_object, text

SOURCE: Final = "paynode"
_DEPTH_MAX: Final = 4
_REQUIRED: Final = frozenset(
    {"specversion", "id", "source", "type", "time", "subject", "datacontenttype", "causationid", "data"}
)
_DATA: Final = frozenset({"merchant_id", "event_id", "content_sha256"})
_CODE: Final = re.compile(r"[a-z0-9_]{1,100}", re.ASCII)
_SHA256: Final = re.compile(r"[0-9a-f]{64}", re.ASCII)
_TOLD: Final = (Result.APPLIED, Result.REFUSED)


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """An outcome as its publisher reads it; `code` says why an event was refused."""

    event_id: str
    content_sha256: bytes
    merchant_id: str
    type: OutsideType
    result: Result
    code: str | None


@lru_cache(maxsize=64)
def type_of(event_type: str, result: Result) -> str:
    """`paynode.wallet.credit.v1` that was applied is told as `paynode.wallet.credit.applied.v1`."""
    subject, _, version = event_type.rpartition(".")
    return f"{subject}.{result}.{version}"


_MEANINGS: Final = {type_of(event_type, result): (event_type, result) for event_type in OutsideType for result in _TOLD}


def encode(verdict: Verdict, *, outcome_id: str, now_ms: int) -> bytes:
    """The outcome as JSON; `outcome_id` is a fresh UUIDv7, `now_ms` the time of telling."""
    assert verdict.result in _TOLD, "a dead letter is a matter for operators"
    merchant = _merchant(verdict.merchant_id)
    data = {
        "merchant_id": merchant,
        "event_id": verdict.event_id,
        "content_sha256": verdict.content_sha256.hex(),
    }
    return orjson.dumps(
        {
            "specversion": "1.0",
            "id": outcome_id,
            "source": SOURCE,
            "type": type_of(verdict.type, verdict.result),
            "time": _instant(now_ms),
            "subject": merchant,
            "datacontenttype": "application/json",
            "causationid": verdict.event_id,
            "data": data if verdict.code is None else data | {"code": verdict.code},
        }
    )


@lru_cache(maxsize=10_000)
def _merchant(merchant_id: str) -> str:
    return public(MERCHANT, merchant_id)


@lru_cache(maxsize=1)  # of the many that are told at once
def _instant(at_ms: int) -> str:
    return datetime.fromtimestamp(at_ms / 1000, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def decode(raw: bytes) -> Told:
    """The outcome in these bytes, of which the signature has been seen to be right.

    Raises: NotStrict.
    """
    attributes = read_object(raw, depth_max=_DEPTH_MAX)
    # An attribute that is new is no reason to miss the outcome: here we are the reader of what may be a newer paynode.
    _complete(attributes, _REQUIRED)
    meaning = _MEANINGS.get(text(attributes, "type"))
    data = attributes["data"]
    merchant_id = parse(MERCHANT, text(attributes, "subject"))
    if meaning is None or merchant_id is None or not isinstance(data, dict):
        raise NotStrict("not an outcome")
    _complete(data, _DATA)
    return Told(
        event_id=text(attributes, "causationid"),
        content_sha256=bytes.fromhex(matching(data, "content_sha256", _SHA256)),
        merchant_id=merchant_id,
        type=meaning[0],
        result=meaning[1],
        code=matching_or_none(data, "code", _CODE),
    )


def _complete(fields: Mapping[str, object], required: frozenset[str]) -> None:
    if missing := required - fields.keys():
        raise NotStrict(f"missing {', '.join(sorted(missing))}")
