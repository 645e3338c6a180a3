"""The If-Match header (RFC 9110, 13.1.1), as the version of the payment that the client has seen."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final

from paynode.http.problem import Problem

_TAGS: Final = re.compile(r'(?:W/)?"[\x21\x23-\x7e\x80-\xff]*"(?:[ \t]*,[ \t]*(?:W/)?"[\x21\x23-\x7e\x80-\xff]*")*')
_TAG: Final = re.compile(r'(W/)?"([\x21\x23-\x7e\x80-\xff]*)"')
_VERSION: Final = re.compile(r"[1-9][0-9]{0,17}", re.ASCII)
# What no payment has: a tag that is not of ours, or a weak one, matches nothing.
_NO_VERSION: Final = 0


def expected_version(headers: Sequence[str], *, current: int) -> int | None:
    """The version that must still be the payment's; None: any. Of several the `current` one, if it is among them.

    The actor compares, and not we: by the time it decides the payment may have changed. And a retry of what was done
    must be answered as before, though the payment has a new version since.

    Raises: Problem.
    """
    listed = ", ".join(headers).strip(" \t")
    if not headers or listed == "*":
        return None
    if _TAGS.fullmatch(listed) is None:
        raise Problem(status=400, code="if_match_invalid", detail='If-Match must be * or entity tags such as "3"')
    versions = [int(tag) for weak, tag in _TAG.findall(listed) if not weak and _VERSION.fullmatch(tag)]
    return current if current in versions else max(versions, default=_NO_VERSION)
