"""Reading a partition as its only owner, on a real server: nothing skipped, nothing twice, nothing trimmed too soon."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import anyio
import pytest

from paynode.config import Settings
from paynode.domain.road import MERCHANTS_GROUP, entry_on_pos_lane, events_stream, pos_lane
from paynode.streams.client import Redis
from paynode.streams.partition_feed import PartitionFeed, RedisFeeds
from tests.streams import looking
from tests.support.waiting import wait_until

PARTITION = 3
STREAM = events_stream(PARTITION)
POS = pos_lane(STREAM)


class Reader:
    """A feed, and what has been read from it."""

    def __init__(self, feed: PartitionFeed) -> None:
        self.feed = feed
        self.read: list[str] = []

    async def read_until(self, count: int) -> list[str]:
        """Read until so many entries came."""

        async def has_enough() -> bool:
            if len(self.read) < count:
                self.read += [entry.id for entry in await self.feed.read()]
            return len(self.read) >= count

        await wait_until(has_enough, f"{count} entries came, of which {self.read} have")
        return self.read

    async def find_nothing(self) -> None:
        """Look through the pending ones and for new ones in turn, so that the next look is for new ones."""
        for _ in range(7):
            assert await self.feed.read() == []


@pytest.fixture
def feeds(settings: Settings, commands: Redis) -> RedisFeeds:
    return RedisFeeds(settings, commands)


@asynccontextmanager
async def opened(feeds: RedisFeeds) -> AsyncIterator[Reader]:
    async with feeds.open(PARTITION) as feed:
        yield Reader(feed)


async def test_entries_come_in_their_order_from_the_streams_beginning(feeds: RedisFeeds, commands: Redis) -> None:
    added = await looking.add(commands, STREAM, 10)  # before there is a group: one made at `$` would skip them
    async with opened(feeds) as reader:
        assert await reader.read_until(10) == added


async def test_what_was_delivered_before_comes_first(feeds: RedisFeeds, commands: Redis) -> None:
    before = await looking.add(commands, STREAM, 6)
    async with opened(feeds) as reader:
        await reader.read_until(6)
        await reader.feed.acknowledge([before[2]])
    after = await looking.add(commands, STREAM, 3)
    async with opened(feeds) as reader:
        assert await reader.read_until(8) == [*before[:2], *before[3:], *after]


async def test_what_is_in_hand_is_not_read_again(feeds: RedisFeeds, commands: Redis) -> None:
    added = await looking.add(commands, STREAM, 6)
    async with opened(feeds) as reader:
        await reader.read_until(6)
        await reader.find_nothing()
        assert reader.feed.in_hand == 6
        await reader.feed.acknowledge(added)
        assert reader.feed.in_hand == 0
        await reader.find_nothing()


async def test_after_a_flush_the_group_is_made_from_the_beginning(feeds: RedisFeeds, commands: Redis) -> None:
    await looking.add(commands, STREAM, 3)
    async with opened(feeds) as reader:
        await reader.read_until(3)
        await commands.flushdb()
        again = await looking.add(commands, STREAM, 3)
        assert (await reader.read_until(6))[3:] == again


async def test_a_flush_while_a_read_waits_is_survived(feeds: RedisFeeds, commands: Redis) -> None:
    async with opened(feeds) as reader, anyio.create_task_group() as group:
        await reader.find_nothing()
        group.start_soon(reader.read_until, 2)
        await commands.flushdb()
        added = await looking.add(commands, STREAM, 2)
        await wait_until(lambda: reader.read == added, "both entries came")


async def test_an_acknowledged_entry_leaves_and_an_unacknowledged_one_never_does(
    feeds: RedisFeeds, commands: Redis
) -> None:
    added = await looking.add(commands, STREAM, 6)
    async with opened(feeds) as reader:
        await reader.read_until(6)
        await reader.feed.acknowledge([added[0], added[2]])
        assert await looking.ids(commands, STREAM) == added[1:], "one behind an unacknowledged one waits for it"
        assert await looking.pending(commands, STREAM, MERCHANTS_GROUP) == [added[1], *added[3:]]
        await reader.feed.acknowledge([added[1]])
        assert (
            await looking.ids(commands, STREAM) == await looking.pending(commands, STREAM, MERCHANTS_GROUP) == added[3:]
        )


async def test_what_is_not_read_yet_is_never_trimmed(feeds: RedisFeeds, commands: Redis) -> None:
    added = await looking.add(commands, STREAM, 2)
    async with opened(feeds) as reader:
        await reader.read_until(2)
        unread = await looking.add(commands, STREAM, 5)
        await reader.feed.acknowledge(added)
        assert await looking.ids(commands, STREAM) == unread
        assert (await reader.read_until(7))[2:] == unread
        await reader.feed.acknowledge(unread)
    assert await looking.ids(commands, STREAM) == []
    assert await looking.pending(commands, STREAM, MERCHANTS_GROUP) == []


async def test_an_entry_that_an_older_connection_swallowed_is_found_and_keeps_its_place(
    feeds: RedisFeeds, commands: Redis
) -> None:
    """The owner before was waiting in its own read when it lost the partition: it gets the entry, and says nothing."""
    async with opened(feeds) as before, opened(feeds) as after:
        await before.find_nothing()
        await after.find_nothing()
        swallowed: list[str] = []

        async def swallow() -> None:
            while not swallowed:
                swallowed.extend(entry.id for entry in await before.feed.read())

        async with anyio.create_task_group() as group:
            group.start_soon(swallow)
            added = await looking.add(commands, STREAM, 1)
            await wait_until(lambda: swallowed == added, "the older connection has it")
        newer = await looking.add(commands, STREAM, 2)
        assert await after.read_until(3) == [*newer, *added], "found late"
        await after.feed.acknowledge(newer[:1])
        assert await looking.ids(commands, STREAM) == [*added, *newer], (
            "the oldest one keeps its place until it is done"
        )
        await after.feed.acknowledge([*added, newer[1]])
        assert await looking.ids(commands, STREAM) == []


async def test_acknowledging_twice_and_what_is_gone_harms_nothing(feeds: RedisFeeds, commands: Redis) -> None:
    added = await looking.add(commands, STREAM, 3)
    async with opened(feeds) as reader:
        await reader.read_until(3)
        await reader.feed.acknowledge(added[:1])
        await reader.feed.acknowledge(added[:1])
        await reader.feed.acknowledge(["1-1"])
        assert await looking.ids(commands, STREAM) == added[1:]
        assert reader.feed.in_hand == 2


async def test_an_entry_trimmed_away_while_pending_comes_back_without_fields(
    feeds: RedisFeeds, commands: Redis
) -> None:
    added = await looking.add(commands, STREAM, 2)
    async with opened(feeds) as reader:
        await reader.read_until(2)
    await commands.xdel(STREAM, added[0])
    async with opened(feeds) as reader:
        entries = list(await reader.feed.read())
    assert [(entry.id, bool(entry.fields)) for entry in entries] == [(added[0], False), (added[1], True)]


async def test_the_lane_that_is_read_first_overtakes_what_waits_on_the_other(
    feeds: RedisFeeds, commands: Redis
) -> None:
    ordinary = await looking.add(commands, STREAM, 6)
    async with opened(feeds) as reader:
        assert await reader.read_until(4) == ordinary[:4], "a read brings four of each lane"
        first = await looking.add(commands, POS, 2)
        assert await reader.read_until(8) == [*ordinary[:4], *map(entry_on_pos_lane, first), *ordinary[4:]]


async def test_each_lane_is_acknowledged_and_trimmed_for_itself(feeds: RedisFeeds, commands: Redis) -> None:
    ordinary, first = await looking.add(commands, STREAM, 3), await looking.add(commands, POS, 3)
    async with opened(feeds) as reader:
        names = await reader.read_until(6)
        assert names == [*map(entry_on_pos_lane, first), *ordinary]
        assert [entry.id for entry in await reader.feed.fetch(names)] == names
        await reader.feed.acknowledge([names[0], ordinary[1]])
        assert await looking.ids(commands, POS) == first[1:]
        assert await looking.ids(commands, STREAM) == ordinary
        assert reader.feed.in_hand == 4
    async with opened(feeds) as reader:
        assert await reader.read_until(4) == [*map(entry_on_pos_lane, first[1:]), ordinary[0], ordinary[2]]


async def test_equal_ids_on_both_lanes_are_two_entries(feeds: RedisFeeds, commands: Redis) -> None:
    for stream in (STREAM, POS):
        await commands.xadd(stream, {"ref": stream}, id="1700000000000-0")
    async with opened(feeds) as reader:
        assert await reader.read_until(2) == ["pos:1700000000000-0", "1700000000000-0"]
        await reader.feed.acknowledge(["pos:1700000000000-0"])
        assert (await looking.ids(commands, POS), len(await looking.ids(commands, STREAM))) == ([], 1)


async def test_one_lane_that_is_made_anew_leaves_what_is_in_hand_of_the_other(
    feeds: RedisFeeds, commands: Redis
) -> None:
    ordinary = await looking.add(commands, STREAM, 3)
    async with opened(feeds) as reader:
        await reader.read_until(3)
        await commands.delete(POS)
        first = await looking.add(commands, POS, 1)
        assert await reader.read_until(4) == [*ordinary, entry_on_pos_lane(first[0])], "nothing is in hand twice"
        assert reader.feed.in_hand == 4


async def test_without_room_for_others_the_first_lane_alone_is_read(feeds: RedisFeeds, commands: Redis) -> None:
    async with opened(feeds) as reader:
        await reader.find_nothing()
        await looking.add(commands, STREAM, 3)
        first = await looking.add(commands, POS, 2)
        assert [entry.id for entry in await reader.feed.read_pos()] == list(map(entry_on_pos_lane, first))
        assert await reader.feed.read_pos() == []
        assert len(await reader.read_until(3)) == 3


async def test_a_group_that_somebody_else_has_made_anew_is_not_trimmed_by_where_the_old_one_stood(
    feeds: RedisFeeds, commands: Redis
) -> None:
    """All is lost, and before we see it somebody makes one of the groups again; its ids are lower than the old ones."""
    ahead = 4_000_000_000_000
    for number in range(3):
        await commands.xadd(STREAM, {"ref": str(number)}, id=f"{ahead}-{number}")
    async with opened(feeds) as reader:
        await reader.read_until(3)
        await commands.flushdb()
        await commands.xgroup_create(STREAM, MERCHANTS_GROUP, id="0", mkstream=True)
        added = await looking.add(commands, STREAM, 6)
        read = await reader.read_until(7)
        await reader.feed.acknowledge(read[3:5])
        assert await looking.ids(commands, STREAM) == added[2:], "what is not read yet is still there"
        assert (await reader.read_until(9))[3:] == added
