"""API keys: `pk_` and 12 characters to find the row by, `_`, and 256 random bits that prove who calls.

A plain sha256 is stored. Slow hashes defend passwords that somebody might guess; nobody guesses 256 bits, and the
ingress checks a key in every request.
"""

from __future__ import annotations

import re
import secrets
from dataclasses import dataclass
from hashlib import sha256
from hmac import compare_digest
from typing import Final

_ALPHABET: Final = "0123456789abcdefghjkmnpqrstvwxyz"  # no i, l, o, u: a prefix is read aloud on the telephone
_PREFIX_LENGTH: Final = 12
_SECRET_BYTES: Final = 32
_KEY: Final = re.compile(rf"(pk_[{_ALPHABET}]{{{_PREFIX_LENGTH}}})_[A-Za-z0-9_-]{{43}}", re.ASCII)


@dataclass(frozen=True, slots=True, kw_only=True)
class ApiKey:
    """A new key. `text` is shown to its owner once; `secret_sha256` is what is kept."""

    prefix: str
    text: str

    @property
    def secret_sha256(self) -> bytes:
        """The hash of the whole key."""
        return _digest(self.text)


def new_key() -> ApiKey:
    """A fresh key. 60 random bits in the prefix: the unique index never refuses one."""
    prefix = "pk_" + "".join(secrets.choice(_ALPHABET) for _ in range(_PREFIX_LENGTH))
    return ApiKey(prefix=prefix, text=f"{prefix}_{secrets.token_urlsafe(_SECRET_BYTES)}")


def prefix_of(presented: str) -> str | None:
    """What to look a presented key up by; None when it has not the form of a key."""
    found = _KEY.fullmatch(presented)
    return found[1] if found else None


def verify(presented: str, stored: bytes) -> bool:
    """Whether a presented key is the stored one, in a time that does not tell how much of it was right."""
    return compare_digest(_digest(presented), stored)


def _digest(key: str) -> bytes:
    # surrogatepass: a header may hold what UTF-8 cannot, and a wrong key is refused, not an error.
    return sha256(key.encode("utf-8", "surrogatepass")).digest()
