"""Who a publisher is: its name, and its secret as people and programs hand it on, `pubsec_` and base64 of its bytes."""

from __future__ import annotations

import base64
import binascii
from typing import Final

from paynode.streams.signing import is_publisher_name

# By its prefix a secret that has got into a repository or a log is found by those who look for such things.
_PREFIX: Final = "pubsec_"
_BYTES_MIN: Final = 32


class InvalidCredentials(ValueError):
    """Not a name or not a secret; the message does not show what was given."""


def text_of(secret: bytes) -> str:
    """The secret as it is shown once."""
    return _PREFIX + base64.b64encode(secret).decode()


def secret_of(text: str) -> bytes:
    """The bytes to sign with.

    Raises: InvalidCredentials.
    """
    try:
        secret = base64.b64decode(text.strip().removeprefix(_PREFIX), validate=True)
    except (binascii.Error, ValueError) as error:
        raise InvalidCredentials("a publisher's secret is pubsec_ and base64") from error
    if len(secret) < _BYTES_MIN:
        raise InvalidCredentials(f"a publisher's secret has at least {_BYTES_MIN} bytes")
    return secret


def name_of(text: str) -> str:
    """The same, if a publisher can be called so.

    Raises: InvalidCredentials.
    """
    if not is_publisher_name(text):
        raise InvalidCredentials("a publisher's name is a-z, 0-9, - and _, at most 64, and does not begin with - or _")
    return text
