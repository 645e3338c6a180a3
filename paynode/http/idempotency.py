"""The Idempotency-Key header (draft-ietf-httpapi-idempotency-key-header-07) and the fingerprint of a body."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from typing import Final

import http_sf
import orjson

from paynode.http.problem import Problem

_BARE: Final = re.compile(r"[A-Za-z0-9_.:-]{1,255}", re.ASCII)
_LENGTH_MAX: Final = 255


def key_of(headers: Sequence[str]) -> str:
    """The key in the one header there must be; `abc` and `"abc"` are the same key.

    Raises: Problem.
    """
    if not headers:
        raise Problem(
            status=400, code="idempotency_key_missing", detail="every request that moves money needs an Idempotency-Key"
        )
    if len(headers) > 1:
        raise _invalid("exactly one Idempotency-Key header is allowed")
    value = headers[0].strip(" \t")
    if _BARE.fullmatch(value) is not None:
        return value
    return _quoted(value)


def fingerprint(body: object) -> bytes:
    """sha256 over the canonical JSON of a parsed body: blanks and the order of members do not matter."""
    return hashlib.sha256(orjson.dumps(body, option=orjson.OPT_SORT_KEYS)).digest()


def _quoted(value: str) -> str:
    try:
        item = http_sf.parse(value.encode("ascii"), tltype="item")
    except (http_sf.StructuredFieldError, UnicodeEncodeError) as error:
        raise _invalid(f'a quoted string, or 1 to {_LENGTH_MAX} of A-Z a-z 0-9 "_", ".", ":", "-"') from error
    key = item[0] if isinstance(item, tuple) else None
    # `type(...) is str`: a token is a str to isinstance, and a bare form with other characters is no string.
    if type(key) is not str or not 1 <= len(key) <= _LENGTH_MAX:
        raise _invalid(f"the string must have 1 to {_LENGTH_MAX} characters")
    return key


def _invalid(detail: str) -> Problem:
    return Problem(status=400, code="idempotency_key_invalid", detail=detail)
