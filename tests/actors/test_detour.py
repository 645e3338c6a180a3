"""The way round while Redis is away: in order, nothing twice in hand, and back when nothing is left behind."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

import anyio
import anyio.lowlevel
import pytest

from paynode.actors.ahead import Feed
from paynode.actors.command_detour import DetourCommandFeed
from paynode.actors.detour import DetourFeed, DetourFeeds, PassableRoad
from paynode.domain.detour import DueRow, TakenRow
from paynode.domain.errors import Unavailable
from paynode.domain.message import DeadLetter, Unreadable
from paynode.domain.road import Change, Entry, Pointer

LETTER = DeadLetter(id="d", stream="s", entry_id="1-1", what=Unreadable(ref=None, reason="r", detail=""))


@dataclass
class Redis:
    """Is away as the test says; `needed` gives everything up at once while it is."""

    is_away: bool = True
    here_for_s: float = 0.0

    def come_back(self, seconds_ago: float) -> None:
        self.is_away, self.here_for_s = False, seconds_ago

    @contextmanager
    def needed(self) -> Iterator[None]:
        with anyio.CancelScope() as scope:
            if self.is_away:
                scope.cancel()
            yield


@dataclass
class Rows:
    """The outbox: one stream's rows in order, and what of them was taken."""

    rows: list[DueRow] = field(default_factory=list)
    taken: set[str] = field(default_factory=set)
    renewed: list[str] = field(default_factory=list)

    def add(self, *numbers: int) -> None:
        start = datetime(2026, 3, 1, tzinfo=UTC)
        self.rows += [DueRow(id=f"{n:08d}", merchant="m", at=start + timedelta(seconds=n)) for n in numbers]
        self.rows.sort(key=lambda row: row.at)

    async def page(self, stream: str, after: DueRow | None, count: int) -> Sequence[DueRow]:
        await anyio.lowlevel.checkpoint()
        return [row for row in self.rows if after is None or row.at > after.at][:count]

    async def take(self, stream: str, count: int) -> Sequence[TakenRow]:
        free = [row.id for row in self.rows if row.id not in self.taken][:count]
        self.taken |= {*free}
        return [TakenRow(id=ref, times=1) for ref in free]

    async def renew(self, refs: Sequence[str]) -> None:
        self.renewed += refs

    async def release(self, refs: Sequence[str]) -> None:
        self.taken -= {*refs}


@dataclass
class Stream:
    """What Redis does when it is there: as a road, a partition's feed, and a PSP's."""

    said: list[str] = field(default_factory=list)
    stream: str = "commands"
    in_hand: int = 0
    is_behind: bool = False

    async def read(self, count: int = 1) -> Sequence[Entry]:
        await anyio.lowlevel.checkpoint()
        self.said.append("read")
        return [Entry(id="1-1", fields={})]

    async def read_pos(self) -> Sequence[Entry]:
        return await self.read()

    async def fetch(self, ids: Sequence[str]) -> Sequence[Entry]:
        return []

    async def acknowledge(self, ids: Sequence[str]) -> None:
        await anyio.lowlevel.checkpoint()
        self.said.append(f"ack {' '.join(ids)}")

    async def reclaim(self, *, idle_ms: int, count: int) -> Sequence[Entry]:
        self.said.append("reclaim")
        return []

    async def renew(self, ids: Sequence[str], *, idle_ms: int) -> None:
        self.said.append(f"renew {' '.join(ids)}")

    async def clear_out(self, *, idle_ms: int) -> Sequence[str]:
        return ["gone"]

    async def leave(self) -> None:
        await anyio.lowlevel.checkpoint()
        self.said.append("leave")

    async def publish(self, pointers: Sequence[Pointer]) -> None:
        self.said.append("publish")

    async def announce(self, changes: Sequence[Change]) -> None:
        self.said.append("announce")

    async def bury(self, letters: Sequence[DeadLetter]) -> None:
        await anyio.lowlevel.checkpoint()
        self.said.append("bury")

    def open(self, partition: int) -> AbstractAsyncContextManager[Feed]:
        @asynccontextmanager
        async def one() -> AsyncIterator[Feed]:
            yield self

        return one()


def refs(entries: Sequence[Entry]) -> list[int]:
    return [int(entry.fields["ref"]) for entry in entries]


# -- a partition ------------------------------------------------------------------------------------------------------


def feed_of(rows: Rows, redis: Redis) -> DetourFeed:
    return DetourFeed(rows, redis, 7, count=2, poll_s=0.001)


async def read_all(feed: DetourFeed, reads: int) -> list[Entry]:
    return [entry for _ in range(reads) for entry in await feed.read()]


async def test_rows_come_in_their_order_and_once_while_they_are_in_hand() -> None:
    rows = Rows()
    rows.add(1, 2, 3, 4, 5)
    feed = feed_of(rows, Redis())
    assert feed.is_behind
    assert refs(await read_all(feed, 9)) == [1, 2, 3, 4, 5]
    assert feed.in_hand == 5
    assert not feed.is_behind


async def test_one_that_comes_late_is_found_in_the_next_pass() -> None:
    rows = Rows()
    rows.add(10, 20, 30)
    feed = feed_of(rows, Redis())
    assert refs(await read_all(feed, 2)) == [10, 20, 30]
    rows.add(15)
    assert refs(await read_all(feed, 4)) == [15]


async def test_entries_in_hand_are_given_once_more_when_they_are_fetched() -> None:
    rows = Rows()
    rows.add(1, 2)
    feed = feed_of(rows, Redis())
    one, two = await read_all(feed, 1)
    await feed.acknowledge([one.id])
    assert list(await feed.fetch([one.id, two.id])) == [two]


async def test_it_goes_back_when_redis_is_there_and_nothing_is_left_and_in_hand() -> None:
    rows, redis = Rows(), Redis()
    rows.add(1, 2)
    feed = feed_of(rows, redis)
    entries = await read_all(feed, 1)
    redis.come_back(1.0)
    with anyio.move_on_after(0.05) as waiting:
        await read_all(feed, 2)
    assert waiting.cancelled_caught, "what is in hand comes first: it would be thrown away"
    await feed.acknowledge([entry.id for entry in entries])
    rows.rows.clear()
    with pytest.raises(Unavailable, match="back"):
        await read_all(feed, 2)


async def test_what_others_still_leave_in_the_outbox_is_taken_first_but_not_for_ever() -> None:
    rows, redis = Rows(), Redis()
    rows.add(1)
    feed = feed_of(rows, redis)
    redis.come_back(1.0)
    [entry] = await read_all(feed, 1)
    await feed.acknowledge([entry.id])
    redis.come_back(100.0)
    with pytest.raises(Unavailable, match="back"):
        await feed.read()


async def test_a_feed_is_that_of_redis_while_it_is_there_and_fails_when_it_leaves() -> None:
    redis, stream = Redis(is_away=False), Stream()
    feeds = DetourFeeds(stream, Rows(), redis, count=2, poll_s=0.001)
    async with feeds.open(7) as feed:
        assert [entry.id for entry in await feed.read()] == ["1-1"]
        await feed.acknowledge(["1-1"])
        redis.is_away = True
        for call in (feed.read(), feed.acknowledge(["1-2"])):
            with pytest.raises(Unavailable):
                await call
    assert stream.said == ["read", "ack 1-1"]
    async with feeds.open(7) as feed:
        assert isinstance(feed, DetourFeed)


# -- the road ---------------------------------------------------------------------------------------------------------


async def test_nothing_is_told_while_redis_is_away_and_only_letters_are_missed() -> None:
    redis, stream = Redis(), Stream()
    road = PassableRoad(stream, redis)
    await road.publish([Pointer(stream="s", ref="r")])
    await road.announce([Change(payment_id="p", version=1)])
    await road.bury([])
    with pytest.raises(Unavailable):
        await road.bury([LETTER])
    assert stream.said == []
    redis.come_back(1.0)
    await road.publish([Pointer(stream="s", ref="r")])
    await road.announce([Change(payment_id="p", version=1)])
    await road.bury([LETTER])
    assert stream.said == ["publish", "announce", "bury"]


# -- commands ---------------------------------------------------------------------------------------------------------


def command_feed(stream: Stream, rows: Rows, redis: Redis) -> DetourCommandFeed:
    return DetourCommandFeed(stream, stream, rows, redis, poll_s=0.001)


async def test_commands_come_by_the_way_that_is_open() -> None:
    stream, rows, redis = Stream(), Rows(), Redis(is_away=False)
    rows.add(1, 2, 3)
    feed = command_feed(stream, rows, redis)
    assert [entry.id for entry in await feed.read(2)] == ["1-1"]
    redis.is_away = True
    assert refs(await feed.read(2)) == [1, 2]
    assert await feed.reclaim(idle_ms=1, count=1) == []
    redis.come_back(1.0)
    assert refs(await feed.read(2)) == [3], "what nobody put on the stream first"
    assert await feed.read(2) == []
    assert [entry.id for entry in await feed.read(2)] == ["1-1"]


async def test_what_redis_could_not_hear_is_acknowledged_before_anything_else_when_it_is_back() -> None:
    stream, rows, redis = Stream(), Rows(), Redis()
    feed = command_feed(stream, rows, redis)
    await feed.acknowledge(["5-1", "outbox:7"])
    await feed.acknowledge(["5-2"])
    await feed.read(1)
    assert stream.said == []
    redis.come_back(1.0)
    await feed.read(1)
    await feed.read(1)
    assert stream.said == ["ack 5-1 5-2", "read"]
    await feed.acknowledge(["outbox:8"])
    assert len(stream.said) == 2, "a row has no entry"


async def test_what_is_in_hand_is_renewed_where_it_came_from() -> None:
    stream, rows, redis = Stream(), Rows(), Redis()
    feed = command_feed(stream, rows, redis)
    await feed.renew(["5-1", "outbox:7"], idle_ms=10)
    assert (rows.renewed, stream.said) == (["7"], [])
    assert await feed.clear_out(idle_ms=1) == []
    redis.come_back(1.0)
    await feed.renew(["5-1", "outbox:7"], idle_ms=10)
    assert (rows.renewed, stream.said) == (["7", "7"], ["renew 5-1"])
    assert await feed.clear_out(idle_ms=1) == ["gone"]


async def test_who_leaves_lets_go_of_what_it_has_not_finished() -> None:
    stream, rows, redis = Stream(), Rows(), Redis()
    rows.add(1, 2, 3)
    feed = command_feed(stream, rows, redis)
    first, *_ = await feed.read(2)
    await feed.acknowledge([first.id])
    await feed.leave()
    assert rows.taken == {row.id for row in rows.rows[:1]}
    assert stream.said == [], "others clear us out when Redis is back"
    redis.come_back(1.0)
    await feed.leave()
    assert stream.said == ["leave"]
