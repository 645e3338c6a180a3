"""Ids: a UUIDv7 inside, a TypeID (`pay_01h…`) outside.

TypeID 0.3: the prefix, `_`, and the 128 bits in Crockford's base32 without i, l, o, u: 26 characters, the first
at most 7. Inside paynode an id is the canonical text of its UUID: asyncpg takes it as it is, and building a UUID
object for every row would cost more than the row.
"""

from __future__ import annotations

import re
from typing import Final
from uuid import UUID

PAYMENT: Final = "pay"
OPERATION: Final = "op"
REFUND: Final = "ref"
EVENT: Final = "evt"
MERCHANT: Final = "mer"
WEBHOOK_ENDPOINT: Final = "whe"

# The merchant whose ledger has the facts that are no merchant's: lines of a report that nobody can explain.
HOUSE: Final = "00000000-0000-7000-8000-000000000000"

_ALPHABET: Final = "0123456789abcdefghjkmnpqrstvwxyz"
# Two characters at a time: ids are made public several times in a request, and this halves what it costs.
_PAIRS: Final = tuple(first + second for first in _ALPHABET for second in _ALPHABET)
_VALUE: Final = {character: value for value, character in enumerate(_ALPHABET)}
_SUFFIX: Final = re.compile(r"[0-7][0-9a-hjkmnp-tv-z]{25}", re.ASCII)


def public(prefix: str, uuid: str) -> str:
    """The TypeID of a UUID given as text."""
    number = int(uuid.replace("-", ""), 16)
    return f"{prefix}_" + "".join([_PAIRS[(number >> shift) & 1023] for shift in range(120, -1, -10)])


def uuid_of(content: bytes) -> str:
    """A UUID that follows from at least 16 bytes of a hash: a UUIDv8, whose bits are for whoever makes it to choose."""
    number = int.from_bytes(content[:16], "big")
    return str(UUID(int=(number & ~(0xF << 76) & ~(0x3 << 62)) | 0x8 << 76 | 0x2 << 62))


def parse(prefix: str, text: str) -> str | None:
    """The UUID, as text, behind a TypeID with this prefix; None when it is not one."""
    head, _, suffix = text.rpartition("_")
    if head != prefix or _SUFFIX.fullmatch(suffix) is None:
        return None
    number = 0
    for character in suffix:
        number = number << 5 | _VALUE[character]
    return str(UUID(int=number))
