"""The names of the streams, and what a message on them is.

paynode's own entries are pointers: they carry the id of an outbox row, whose content is read from the database, so
that a forged entry can say nothing. The braces are Redis Cluster's hash tag: all keys of one partition live together.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, TypeAlias

from paynode.domain.record import record

MERCHANTS_GROUP: Final = "merchants"
GATEWAY_GROUP: Final = "gateway"
PARTITIONS_KEY: Final = "paynode:partitions"
# Payment ids and versions, for whoever waits for a result. Lost messages cost a poll, nothing else.
CHANGES_CHANNEL: Final = "paynode:changes"

# What is added to a stream's name for its lane that is read first: for payments at a point of sale, where people wait.
_POS: Final = ":pos"
# The same for what follows a charge: it is about money that has moved already, and new charges come in any number.
_FOLLOW_UP: Final = ":follow-up"
_COMMANDS: Final = ":commands"
# Before the id of an entry that came by that lane: two streams may well give the same id.
_POS_MARK: Final = "pos:"

# A stream, and the outbox row that a pointer on it leads to.
Place: TypeAlias = tuple[str, str]

_SUBJECT: Final = re.compile(r'"subject" ?: ?"(mer_[0-9a-z]{26})"', re.ASCII)
_UUID: Final = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.ASCII)


def events_stream(partition: int) -> str:
    """Where everything about the merchants of a partition arrives."""
    return f"paynode:{{p{partition:02d}}}:events"


def commands_stream(psp: str) -> str:
    """Where the gateway of a PSP takes its commands from: new charges."""
    return f"paynode:{{psp-{psp}}}{_COMMANDS}"


def pos_lane(stream: str) -> str:
    """The lane of a stream that is read before it."""
    return stream + _POS


def follow_up_lane(stream: str) -> str:
    """The lane of a PSP's commands for all that is no new charge: captures, voids, refunds, inquiries."""
    return stream + _FOLLOW_UP


def lanes(stream: str) -> tuple[str, ...]:
    """A stream's lanes, the one that is read first foremost. Commands have one for what follows a charge."""
    if stream.endswith(_COMMANDS):
        return pos_lane(stream), follow_up_lane(stream), stream
    return pos_lane(stream), stream


def entry_on_pos_lane(entry_id: str) -> str:
    """How an entry of that lane is called wherever both lanes are in hand."""
    return _POS_MARK + entry_id


def is_on_pos_lane(entry_id: str) -> bool:
    """Whether an entry came by the lane that is read first. Each is asked several times."""
    return entry_id.startswith(_POS_MARK)


def place_of(entry_id: str) -> tuple[bool, str]:
    """Whether an entry came by the lane that is read first, and its id on its own stream."""
    return (True, entry_id[len(_POS_MARK) :]) if entry_id.startswith(_POS_MARK) else (False, entry_id)


def outcomes_stream(partition: int) -> str:
    """Where publishers hear what became of their events."""
    return f"paynode:{{p{partition:02d}}}:outcomes"


def dead_stream(stream: str) -> str:
    """Where the dead letters of a stream go, by whichever lane they came."""
    return stream.removesuffix(_POS).removesuffix(_FOLLOW_UP).rsplit(":", 1)[0] + ":dead"


@dataclass(frozen=True, slots=True, kw_only=True)
class Pointer:
    """One entry to be put on a stream: `ref` is the outbox row's id.

    `merchant` (TypeID) lets a partition's reader give every merchant its turn before it looks into the row.
    """

    stream: str
    ref: str
    merchant: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """A payment has a new version: what waiters are told."""

    payment_id: str
    version: int


@record
class Entry:
    """One entry of a stream. A field that is not UTF-8 is not what it was any more, and refused for that later.

    `times` is how often it was delivered, as far as the road knows: a hint, for those who look after killers.
    """

    id: str
    fields: Mapping[str, str]
    times: int = 1

    @property
    def is_pos(self) -> bool:
        """Whether it came by the lane that is read first."""
        return is_on_pos_lane(self.id)

    @property
    def ref(self) -> str | None:
        """The outbox row that a pointer leads to; None for an entry that is none."""
        ref = self.fields.get("ref")
        return ref if ref is not None and _UUID.fullmatch(ref) else None

    @property
    def is_from_outside(self) -> bool:
        """Whether a publisher outside paynode has put it here, or somebody in that form."""
        return "event" in self.fields or "sig" in self.fields

    @property
    def merchant(self) -> str:
        """The merchant that it says it is about, or nothing. Unproven: it decides whose turn it is, and no more."""
        if "event" in self.fields:
            match = _SUBJECT.search(self.fields["event"])
            return match[1] if match else ""
        return self.fields.get("merchant", "")
