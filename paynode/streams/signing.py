"""Whose words an entry carries: field `event` is the text, `sig` is `<publisher>.<base64 of HMAC-SHA256 over it>`.

The signature is over the bytes as they stand, so that nobody needs to agree on how JSON is written. Publishers sign
their events, paynode signs its answers to them, each time with the publisher's own key.
"""

from __future__ import annotations

import base64
import hmac
import re
from collections.abc import Mapping
from typing import Final

from paynode.domain.errors import Poison
from paynode.domain.publishing import PublisherKey
from paynode.domain.record import record

EVENT_FIELD: Final = "event"
SIGNATURE_FIELD: Final = "sig"
EVENT_BYTES_MAX: Final = 64 * 1024

_NAME: Final = r"[a-z0-9][a-z0-9_-]{0,63}"
_SIGNATURE: Final = re.compile(rf"({_NAME})\.([A-Za-z0-9+/]{{43}}=)", re.ASCII)


@record
class Claim:
    """What an entry says it is: the event, as text and bytes, and whose signature it shows. Nothing is proved yet."""

    text: str
    raw: bytes
    publisher: str
    signature: str


def is_publisher_name(text: str) -> bool:
    """Whether a publisher may be called so: the name stands before the point of every signature."""
    return re.fullmatch(_NAME, text, re.ASCII) is not None


def sign(raw: bytes, publisher: str, secret: bytes) -> dict[str, str]:
    """The fields of an entry that carries these bytes of UTF-8."""
    return {EVENT_FIELD: raw.decode(), SIGNATURE_FIELD: f"{publisher}.{_signature(raw, secret)}"}


def claim(fields: Mapping[str, str]) -> Claim:
    """What the fields of an entry claim.

    Raises: Poison, with the first of these reasons that applies: `event_missing`, `too_large`, `signature_missing`,
    `signature_invalid` (not of its form).
    """
    event = fields.get(EVENT_FIELD)
    if event is None:
        raise Poison("event_missing", f"no field `{EVENT_FIELD}`")
    # An entry's fields are text: one that was not UTF-8 was changed by that, and is not what was signed.
    raw = event.encode("utf-8", "surrogatepass")
    if len(raw) > EVENT_BYTES_MAX:
        raise Poison("too_large", f"{len(raw)} bytes, of at most {EVENT_BYTES_MAX}")
    signature = fields.get(SIGNATURE_FIELD)
    if not signature:
        raise Poison("signature_missing", f"no field `{SIGNATURE_FIELD}`")
    match = _SIGNATURE.fullmatch(signature)
    if match is None:
        raise Poison("signature_invalid", "not <publisher>.<base64 of 32 bytes>")
    return Claim(text=event, raw=raw, publisher=match[1], signature=match[2])


def authenticate(claim: Claim, key: PublisherKey | None) -> PublisherKey:
    """The key, if the claim is true; `key` is that of the publisher it names, if there is such a publisher.

    Raises: Poison, `publisher_unknown` or `signature_invalid`.
    """
    if key is None:
        raise Poison("publisher_unknown", "no key of this publisher")
    # In constant time: how long a comparison takes would tell how much of a guess is right.
    if not hmac.compare_digest(_signature(claim.raw, key.secret), claim.signature):
        raise Poison("signature_invalid", "not this publisher's signature of these bytes")
    return key


def _signature(raw: bytes, secret: bytes) -> str:
    return base64.b64encode(hmac.digest(secret, raw, "sha256")).decode()
