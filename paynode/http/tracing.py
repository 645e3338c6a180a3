"""W3C Trace Context: a caller's trace is continued, a malformed one is replaced by a new one."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import uuid_utils

_TRACEPARENT: Final = re.compile(r"([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?", re.ASCII)
_SAMPLED: Final = 0x01


@dataclass(frozen=True, slots=True, kw_only=True)
class Trace:
    """Where this request stands in a trace; `span_id` is our own."""

    trace_id: str
    span_id: str
    is_sampled: bool

    @property
    def traceparent(self) -> str:
        """The header for whoever comes next, and for the answer."""
        return f"00-{self.trace_id}-{self.span_id}-{_SAMPLED if self.is_sampled else 0:02x}"


def continued(headers: Sequence[str]) -> Trace:
    """The caller's trace with a span of ours; a new trace unless there is exactly one valid `traceparent`."""
    parts = _TRACEPARENT.fullmatch(headers[0].strip(" \t")) if len(headers) == 1 else None
    if parts is None or not _is_valid(parts):
        return Trace(trace_id=uuid_utils.uuid4().hex, span_id=_span_id(), is_sampled=False)
    # Of a later version only what version 00 knows is understood, its flag included.
    return Trace(trace_id=parts[2], span_id=_span_id(), is_sampled=bool(int(parts[4], 16) & _SAMPLED))


def _span_id() -> str:
    # Half of a random UUID, made in user space: `secrets` asks the kernel, for numbers that are no secret.
    return uuid_utils.uuid4().hex[16:]


def _is_valid(parts: re.Match[str]) -> bool:
    version, trace_id, parent_id, _, rest = parts.groups()
    if version == "ff" or (version == "00" and rest is not None):
        return False
    return trace_id != "0" * 32 and parent_id != "0" * 16
