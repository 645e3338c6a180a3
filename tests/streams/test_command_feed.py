"""A PSP's commands among competing processes, on a real server."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack

import pytest

from paynode.config import Settings
from paynode.domain.errors import Unavailable
from paynode.domain.message import DeadLetter, Unreadable
from paynode.domain.road import GATEWAY_GROUP, PARTITIONS_KEY, Pointer, commands_stream
from paynode.streams.client import Redis, reader_client
from paynode.streams.command_feed import CommandFeed
from paynode.streams.publisher import RedisPublisher
from tests.streams import looking
from tests.support.waiting import wait_until

STREAM = commands_stream("sim")


@pytest.fixture
async def two(settings: Settings, commands: Redis) -> AsyncIterator[tuple[CommandFeed, CommandFeed]]:
    """Two processes' feeds; both have seen the group."""
    async with AsyncExitStack() as stack:
        one, other = [
            CommandFeed(
                await stack.enter_async_context(reader_client(settings)), commands, "sim", consumer=name, block_ms=20
            )
            for name in ("one", "other")
        ]
        for feed in (one, one, other):  # whoever comes first makes the group, and reads only the next time
            assert await feed.read(1) == []
        yield one, other


async def take(feed: CommandFeed, count: int) -> list[str]:
    """Read so many, however many reads it takes."""
    taken: list[str] = []

    async def has_all() -> bool:
        taken.extend(entry.id for entry in await feed.read(count - len(taken)))
        return len(taken) == count

    await wait_until(has_all, f"{count} commands were taken")
    return taken


async def test_each_command_goes_to_one_of_them(two: tuple[CommandFeed, CommandFeed], commands: Redis) -> None:
    one, other = two
    added = await looking.add(commands, STREAM, 10)
    taken = await take(one, 4) + await take(other, 6)
    assert taken == added
    assert list(await one.read(10)) == list(await other.read(10)) == []


async def test_the_group_is_made_from_the_streams_beginning(
    two: tuple[CommandFeed, CommandFeed], commands: Redis
) -> None:
    one, _ = two
    await commands.flushdb()
    added = await looking.add(commands, STREAM, 3)
    assert await take(one, 3) == added
    assert list(await one.reclaim(idle_ms=60_000, count=10)) == []


async def test_what_a_process_never_finished_is_taken_over_when_it_was_idle_long_enough(
    two: tuple[CommandFeed, CommandFeed], commands: Redis
) -> None:
    one, other = two
    added = await looking.add(commands, STREAM, 3)
    await take(one, 3)
    assert list(await other.reclaim(idle_ms=60_000, count=10)) == []
    assert [entry.id for entry in await other.reclaim(idle_ms=0, count=10)] == added
    assert list(await one.reclaim(idle_ms=60_000, count=10)) == [], "and now they are in other hands, just taken"


async def test_reclaiming_goes_through_all_of_them_page_by_page(
    two: tuple[CommandFeed, CommandFeed], commands: Redis
) -> None:
    one, other = two
    added = await looking.add(commands, STREAM, 7)
    await take(one, 7)
    pages = [[entry.id for entry in await other.reclaim(idle_ms=0, count=3)] for _ in range(3)]
    assert pages == [added[:3], added[3:6], added[6:]]


async def test_a_reclaim_without_a_group_finds_nothing(two: tuple[CommandFeed, CommandFeed], commands: Redis) -> None:
    one, _ = two
    await commands.flushdb()
    assert list(await one.reclaim(idle_ms=0, count=3)) == []


async def test_a_finished_command_is_gone_for_all(two: tuple[CommandFeed, CommandFeed], commands: Redis) -> None:
    one, other = two
    added = await looking.add(commands, STREAM, 3)
    await take(one, 3)
    await one.acknowledge([added[1]])
    assert await looking.ids(commands, STREAM) == [added[0], added[2]]
    assert [entry.id for entry in await other.reclaim(idle_ms=0, count=10)] == [added[0], added[2]]


async def test_who_leaves_is_no_consumer_any_more(two: tuple[CommandFeed, CommandFeed], commands: Redis) -> None:
    one, other = two
    assert await looking.consumers(commands, STREAM, GATEWAY_GROUP) == {"one", "other"}
    await one.leave()
    assert await looking.consumers(commands, STREAM, GATEWAY_GROUP) == {"other"}
    await other.leave()
    assert await looking.consumers(commands, STREAM, GATEWAY_GROUP) == set()


async def test_leaving_a_group_that_is_gone_says_so(two: tuple[CommandFeed, CommandFeed], commands: Redis) -> None:
    one, _ = two
    await commands.flushdb()
    with pytest.raises(Unavailable):
        await one.leave()


async def test_pointers_are_put_in_order_and_the_first_ones_time_is_known(commands: Redis) -> None:
    publisher = RedisPublisher(commands)
    assert await publisher.first_entry_ms(STREAM) is None
    await publisher.publish([])
    await publisher.publish([Pointer(stream=STREAM, ref=ref) for ref in ("a", "b")])
    assert await looking.fields(commands, STREAM) == [{b"ref": b"a"}, {b"ref": b"b"}]
    first, _ = await looking.ids(commands, STREAM)
    assert await publisher.first_entry_ms(STREAM) == int(first.split("-")[0])
    await publisher.mark_out(32)
    assert await commands.get(PARTITIONS_KEY) == b"32"


async def test_a_dead_letter_is_the_original_with_its_reason(commands: Redis) -> None:
    what = Unreadable(ref=None, reason="too_large", detail="70000 bytes", fields={"event": "{}", "reason": "forged"})
    letter = DeadLetter(id="d", stream="paynode:{p03}:events", entry_id="5-1", what=what)
    await RedisPublisher(commands).bury([letter])
    (fields,) = await looking.fields(commands, "paynode:{p03}:dead")
    assert fields == {
        b"event": b"{}",
        b"reason": b"too_large",
        b"error": b"70000 bytes",
        b"attempts": b"1",
        b"stream": b"paynode:{p03}:events",
        b"entry_id": b"5-1",
    }
