"""Whom a scenario measures beside paynode, in words, and which of them are rivals."""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import Enum
from typing import Final


class Kind(Enum):
    """What a baseline is: used instead of paynode, the most that a server gives, or paynode in other circumstances."""

    RIVAL = "rival"
    CEILING = "ceiling"
    SELF = "self"


@dataclass(frozen=True, slots=True, kw_only=True)
class Contender:
    """What a reader calls it."""

    words: str
    kind: Kind


_COUNTED: Final = re.compile(r"(?P<name>.+)_(?P<count>\d+)")
# By the name in the report, without the number of connections.
_KNOWN: Final = {
    "row_lock": ("row lock", "connection", Kind.RIVAL),
    "one_statement": ("one statement each", "connection", Kind.RIVAL),
    "function": ("one SQL function each", "connection", Kind.RIVAL),
    "per_message": ("worker, a transaction each", "task", Kind.RIVAL),
    "batch_loop": ("the forty-line batch loop", "", Kind.RIVAL),
    "transaction": ("a transaction for each request", "connection", Kind.RIVAL),
    "copy": ("COPY of the same rows", "", Kind.CEILING),
    "commits": ("bare commits", "connection", Kind.CEILING),
    "xadd": ("XADD alone, pipelined", "", Kind.CEILING),
    "xreadgroup": ("XREADGROUP and XACK alone", "", Kind.CEILING),
    "noop": ("a server that does nothing", "connection", Kind.CEILING),
    "paynode": ("paynode", "connection", Kind.SELF),
    "hot": ("paynode, one merchant alone", "", Kind.SELF),
    "none": ("paynode, nothing said twice", "", Kind.SELF),
    "zipf_1_worker": ("paynode, 10,000 merchants, one worker", "", Kind.SELF),
    "zipf_2_workers": ("paynode, 10,000 merchants, two workers", "", Kind.SELF),
}


def contender(name: str) -> Contender:
    """Who `row_lock_8` is; one that nobody has named here is a rival called by its own name."""
    counted = _COUNTED.fullmatch(name)
    stem = counted["name"] if counted is not None and name not in _KNOWN else name
    words, unit, kind = _KNOWN.get(stem, (stem.replace("_", " "), "", Kind.RIVAL))
    if counted is None or name in _KNOWN:
        return Contender(words=words, kind=kind)
    plural = "" if counted["count"] == "1" else "s"
    return Contender(words=f"{words}, {counted['count']} {unit or 'time'}{plural}", kind=kind)


# What a ratio compares paynode with.
RATIOS: Final = {
    "row_lock_best": "the best row-lock loop",
    "one_statement_best": "the best single statement or function",
    "per_message_worker": "a worker with a transaction for each message",
    "batch_loop": "the forty-line batch loop",
    "copy_ceiling": "the bare COPY of the same rows",
    "hot": "one hot merchant",
    "none": "nothing said twice",
    "two_workers": "one worker, by two",
    "p99_vs_quiet": "p99 without the backlog",
    "transaction_per_request": "a transaction for each request",
    "transaction_per_request_p99": "its p99",
    "transaction_per_request_1_p50": "its p50, at one connection",
    "noop": "a server that does nothing",
}
