"""The twin of Valkey: streams with groups, pending lists and clients that wait.

Only the commands that paynode uses, with their answers in the shapes of protocol 2. `test_stream_twin` drives it and a
real server with the same commands.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Protocol

from redis.exceptions import ResponseError

from paynode.streams.partition_feed import ACKNOWLEDGE, FETCH
from paynode.streams.publisher import PUBLISH

_NO_KEY: Final = "The XGROUP subcommand requires the key to exist."

Id = tuple[int, int]
Raw = tuple[bytes, dict[bytes, bytes] | None]


def parsed(text: str | bytes, *, number: int = 0) -> Id:
    """An id as numbers; `number` where it has no second part."""
    text = text.decode() if isinstance(text, bytes) else text
    milliseconds, _, rest = text.partition("-")
    return int(milliseconds), int(rest) if rest else number


def shown(entry: Id) -> bytes:
    """An id as it is sent."""
    return b"%d-%d" % entry


@dataclass(slots=True)
class _Pending:
    consumer: str
    delivered_at: float
    times: int = 1


@dataclass(slots=True)
class _Group:
    last: Id
    pending: dict[Id, _Pending] = field(default_factory=dict)
    consumers: set[str] = field(default_factory=set)


@dataclass(slots=True)
class _Stream:
    entries: dict[Id, dict[bytes, bytes]] = field(default_factory=dict)
    unread: set[Id] = field(default_factory=set)  # never delivered to anybody
    last: Id = (0, 0)
    groups: dict[str, _Group] = field(default_factory=dict)


@dataclass(slots=True, eq=False)
class Waiting:
    """A client that is blocked in a read; `is_gone`: nobody is behind the connection, and the server has yet to see."""

    group: str
    consumer: str
    count: int
    arrived: asyncio.Future[None]
    is_gone: bool = False
    answer: list[Raw] | ResponseError | None = None
    answered_on: str = ""


def wake(arrived: asyncio.Future[None]) -> None:
    if not arrived.done():
        arrived.set_result(None)


class Watch(Protocol):
    """Looks for what may never happen."""

    def watch_ack(self, stream: str, ids: Sequence[str]) -> None: ...
    def watch_loss(self, stream: str, entry_id: str, is_read: bool) -> None: ...
    def watch_announcement(self, message: str) -> None: ...


class Valkey:
    """The server. Its methods do one command each, at once."""

    def __init__(
        self,
        clock: Callable[[], int],
        watch: Watch | None = None,
    ) -> None:
        self._clock = clock
        self._watch = watch
        self._streams: dict[str, _Stream] = {}
        self._waiting: dict[str, list[Waiting]] = {}
        self.redelivered = 0

    # -- what the simulation looks at and does -----------------------------------------------------------------------

    def flush(self) -> None:
        """FLUSHALL: all is gone, and whoever waits is told."""
        self._streams.clear()
        for waiting in self._waiting.values():
            for one in waiting:
                one.answer = ResponseError("UNBLOCKED the stream key no longer exists")
                wake(one.arrived)
        self._waiting.clear()

    def is_quiet(self) -> bool:
        """Whether no entry is pending or undelivered anywhere."""
        return not any(
            group.pending or any(entry > group.last for entry in stream.entries)
            for stream in self._streams.values()
            for group in stream.groups.values()
        )

    def passed_over(self) -> list[str]:
        """Entries that nobody has read and nobody will: the group stands behind them."""
        return [
            f"{shown(entry).decode()} on {name}"
            for name, stream in self._streams.items()
            for entry in stream.unread & stream.entries.keys()
            if any(entry <= group.last for group in stream.groups.values())
        ]

    def on_dead_streams(self) -> list[dict[bytes, bytes]]:
        """All that the dead-letter streams show."""
        return [
            fields
            for name, stream in self._streams.items()
            if name.endswith(":dead")
            for fields in stream.entries.values()
        ]

    def count_waiting(self, stream: str, name: bytes, value: bytes) -> int:
        """How many entries with this field are still on their way: undelivered or pending, and there."""
        found = self._streams[stream]
        groups = found.groups.values()
        return sum(
            not groups or any(entry in group.pending or entry > group.last for group in groups)
            for entry, fields in found.entries.items()
            if fields.get(name) == value
        )

    def fields_of(self, stream: str, entry: str) -> Mapping[bytes, bytes]:
        """What an entry says; nothing when it is gone."""
        found = self._streams.get(stream)
        return {} if found is None else found.entries.get(parsed(entry), {})

    # -- commands -----------------------------------------------------------------------------------------------------

    def publish(self, message: str) -> int:
        if self._watch is not None:
            self._watch.watch_announcement(message)
        return 0

    def xadd(self, name: str, fields: Mapping[Any, Any]) -> bytes:
        stream = self._streams.setdefault(name, _Stream())
        now = self._clock()
        stream.last = (now, 0) if now > stream.last[0] else (stream.last[0], stream.last[1] + 1)
        stream.entries[stream.last] = {_bytes(key): _bytes(value) for key, value in fields.items()}
        stream.unread.add(stream.last)
        self._serve(name, stream)
        return shown(stream.last)

    def _serve(self, name: str, stream: _Stream) -> None:
        """Give new entries to whoever waits longest."""
        for one in self._waiting.pop(name, []):
            group = stream.groups.get(one.group)
            answer = self._new(stream, group, one.consumer, one.count) if group is not None else []
            if answer or group is None:
                one.answer, one.answered_on = answer, name
                self.end_waiting(one)
                wake(one.arrived)
            elif not one.is_gone:
                self._waiting.setdefault(name, []).append(one)

    def xgroup_create(self, name: str, group: str, id: str, mkstream: bool) -> bool:  # noqa: A002 - as redis-py has it
        if name not in self._streams and not mkstream:
            raise ResponseError(_NO_KEY)
        stream = self._streams.setdefault(name, _Stream())
        if group in stream.groups:
            raise ResponseError("BUSYGROUP Consumer Group name already exists")
        stream.groups[group] = _Group(last=stream.last if id == "$" else parsed(id))
        return True

    def xgroup_delconsumer(self, name: str, group: str, consumer: str) -> int:
        if name not in self._streams:
            raise ResponseError(_NO_KEY)
        found = self._group(name, group)
        gone = [entry for entry, pending in found.pending.items() if pending.consumer == consumer]
        for entry in gone:
            del found.pending[entry]
        found.consumers.discard(consumer)
        return len(gone)

    def _group(self, name: str, group: str) -> _Group:
        stream = self._streams.get(name)
        found = stream.groups.get(group) if stream is not None else None
        if found is None:
            raise ResponseError(f"NOGROUP No such key '{name}' or consumer group '{group}'")
        return found

    def read_pending(self, name: str, group: str, consumer: str, after: str, count: int) -> list[Raw]:
        """XREADGROUP with an id: the consumer's own pending entries behind it."""
        found, stream, since = self._group(name, group), self._streams[name], parsed(after)
        found.consumers.add(consumer)
        answer: list[Raw] = []
        for entry in sorted(found.pending):
            pending = found.pending[entry]
            if entry <= since or pending.consumer != consumer:
                continue
            fields = stream.entries.get(entry)
            if fields is not None:
                pending.delivered_at, pending.times = self._clock(), pending.times + 1
                self.redelivered += 1
            answer.append((shown(entry), fields))
            if len(answer) == count:
                break
        return answer

    def read_new(self, name: str, group: str, consumer: str, count: int) -> list[Raw]:
        """XREADGROUP with `>`, without waiting."""
        found = self._group(name, group)
        return self._new(self._streams[name], found, consumer, count)

    def _new(self, stream: _Stream, group: _Group, consumer: str, count: int) -> list[Raw]:
        group.consumers.add(consumer)
        if stream.last <= group.last:
            return []
        answer: list[Raw] = []
        for entry, fields in stream.entries.items():
            if entry > group.last:
                answer.append((shown(entry), fields))
                group.pending[entry] = _Pending(consumer, self._clock())
                stream.unread.discard(entry)
                if len(answer) == count:
                    break
        if answer:
            group.last = parsed(answer[-1][0])
        return answer

    def read_any(self, names: Iterable[str], group: str, consumer: str, count: int) -> list[list[Any]]:
        """XREADGROUP with `>` of several streams: each that has something, in their order. One without the group is an
        error for all."""
        for name in names:
            self._group(name, group)
        answers = [(name, self.read_new(name, group, consumer, count)) for name in names]
        return [[name.encode(), found] for name, found in answers if found]

    def begin_waiting(self, names: Iterable[str], waiting: Waiting) -> None:
        for name in names:
            self._waiting.setdefault(name, []).append(waiting)

    def end_waiting(self, waiting: Waiting) -> None:
        for queue in self._waiting.values():
            if waiting in queue:
                queue.remove(waiting)

    def xack(self, name: str, group: str, *ids: str) -> int:
        stream = self._streams.get(name)
        found = stream.groups.get(group) if stream is not None else None
        if found is None:
            return 0
        if self._watch is not None:
            self._watch.watch_ack(name, ids)
        return sum(found.pending.pop(parsed(entry), None) is not None for entry in ids)

    def xdel(self, name: str, *ids: str) -> int:
        stream = self._streams.get(name)
        return 0 if stream is None else sum(stream.entries.pop(parsed(entry), None) is not None for entry in ids)

    def xtrim(self, name: str, minid: str, approximate: bool) -> int:
        assert not approximate
        stream, floor = self._streams.get(name), parsed(minid)
        gone = [] if stream is None else [entry for entry in stream.entries if entry < floor]
        for entry in gone:
            assert stream is not None
            del stream.entries[entry]
            is_pending = any(entry in group.pending for group in stream.groups.values())
            if self._watch is not None and (is_pending or entry in stream.unread):
                self._watch.watch_loss(name, shown(entry).decode(), is_pending)
        return len(gone)

    def xrange(self, name: str, min: str | bytes = "-", max: str | bytes = "+", count: int | None = None) -> list[Raw]:  # noqa: A002 - as redis-py has it
        stream = self._streams.get(name)
        if stream is None:
            return []
        low, high = _low(min), _high(max)
        found: list[Raw] = [(shown(entry), fields) for entry, fields in stream.entries.items() if low <= entry <= high]
        return found if count is None else found[:count]

    def eval(self, script: str, keys: int, name: str, *arguments: str) -> Any:
        """One of paynode's scripts."""
        assert keys == 1
        scripts: Mapping[str, Callable[..., Any]] = {
            FETCH: self.fetch,
            ACKNOWLEDGE: self.acknowledge,
            PUBLISH: self.put_all,
        }
        return scripts[script](name, *arguments)

    def put_all(self, name: str, *pairs: str) -> None:
        """What the publisher's script does."""
        for ref, merchant in zip(pairs[::2], pairs[1::2], strict=True):
            self.xadd(name, {"ref": ref, "merchant": merchant} if merchant else {"ref": ref})

    def fetch(self, name: str, *ids: str) -> list[list[bytes] | None]:
        """What the script of the partitions' feed answers."""
        found = [self.xrange(name, one, one) for one in ids]
        return [[part for pair in (one[0][1] or {}).items() for part in pair] if one else None for one in found]

    def acknowledge(self, name: str, group: str, after: str, *ids: str) -> None:
        """What the other one does."""
        self.xack(name, group, *ids)
        pending = self.xpending(name, group)
        self.xtrim(name, minid=pending["min"].decode() if pending["pending"] else after, approximate=False)

    def xpending(self, name: str, group: str | bytes) -> dict[str, Any]:
        pending = self._group(name, group.decode() if isinstance(group, bytes) else group).pending
        counts: dict[str, int] = {}
        for one in pending.values():
            counts[one.consumer] = counts.get(one.consumer, 0) + 1
        return {
            "pending": len(pending),
            "min": shown(min(pending)) if pending else None,
            "max": shown(max(pending)) if pending else None,
            "consumers": [{"name": name.encode(), "pending": counts[name]} for name in sorted(counts)],
        }

    def xinfo_groups(self, name: str) -> list[dict[str, Any]]:
        stream = self._streams.get(name)
        if stream is None:
            raise ResponseError("no such key")
        return [
            {
                "name": group.encode(),
                "consumers": len(found.consumers),
                "pending": len(found.pending),
                "last-delivered-id": shown(found.last),
            }
            for group, found in sorted(stream.groups.items())
        ]

    def xautoclaim(
        self,
        name: str,
        group: str,
        consumer: str,
        min_idle_time: int,
        start_id: str = "0-0",
        count: int = 100,
    ) -> tuple[bytes, list[Raw], list[bytes]]:
        """Takes over what has been idle; what was deleted meanwhile leaves the pending list and is named last."""
        found, stream = self._group(name, group), self._streams[name]
        found.consumers.add(consumer)
        claimed: list[Raw] = []
        deleted: list[bytes] = []
        since = parsed(start_id)
        waiting = [entry for entry in sorted(found.pending) if entry >= since]
        for looked_at, entry in enumerate(waiting):
            if looked_at == 10 * count or len(claimed) + len(deleted) == count:
                return shown(entry), claimed, deleted
            fields, pending = stream.entries.get(entry), found.pending[entry]
            if fields is None:
                del found.pending[entry]
                deleted.append(shown(entry))
            elif self._clock() - pending.delivered_at >= min_idle_time:
                found.pending[entry] = _Pending(consumer, self._clock(), pending.times + 1)
                self.redelivered += 1
                claimed.append((shown(entry), fields))
        return b"0-0", claimed, deleted


def _low(bound: str | bytes) -> Id:
    text = bound.decode() if isinstance(bound, bytes) else bound
    if text == "-":
        return (0, 0)
    if text.startswith("("):
        milliseconds, number = parsed(text[1:])
        return (milliseconds, number + 1)
    return parsed(text)


def _high(bound: str | bytes) -> Id:
    text = bound.decode() if isinstance(bound, bytes) else bound
    return (2**64, 2**64) if text == "+" else parsed(text, number=2**64)


def _bytes(value: object) -> bytes:
    return value if isinstance(value, bytes) else str(value).encode()
