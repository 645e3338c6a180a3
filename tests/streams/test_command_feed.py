"""A PSP's commands among competing processes, on a real server."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from typing import Any

import anyio
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
                await stack.enter_async_context(reader_client(settings)), commands, STREAM, consumer=name, block_ms=20
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


async def test_who_leaves_stays_while_it_has_something_pending(
    two: tuple[CommandFeed, CommandFeed], commands: Redis
) -> None:
    one, _ = two
    added = await looking.add(commands, STREAM, 1)
    await take(one, 1)
    await one.leave()
    assert await looking.pending(commands, STREAM, GATEWAY_GROUP) == added


async def test_what_is_renewed_is_not_idle_and_counts_as_no_delivery(
    two: tuple[CommandFeed, CommandFeed], commands: Redis
) -> None:
    one, other = two
    added = await looking.add(commands, STREAM, 3)
    await take(one, 3)
    await anyio.sleep(0.3)
    await one.renew(added[:2], idle_ms=100)
    fresh = [entry.id for entry in await other.reclaim(idle_ms=250, count=10)]
    assert added[2] in fresh
    if len(fresh) == 1:  # unless this machine stood still for longer than that just now
        assert await deliveries(commands) == {added[0]: 1, added[1]: 1, added[2]: 2}
    assert [entry.times for entry in await other.reclaim(idle_ms=0, count=10)][2] == 3


async def test_what_somebody_else_has_taken_meanwhile_stays_his(
    two: tuple[CommandFeed, CommandFeed], commands: Redis
) -> None:
    one, other = two
    added = await looking.add(commands, STREAM, 1)
    await take(one, 1)
    assert [entry.id for entry in await other.reclaim(idle_ms=0, count=10)] == added
    await one.renew(added, idle_ms=60_000)
    await other.acknowledge(added)
    await one.renew(added, idle_ms=0)
    assert await looking.pending(commands, STREAM, GATEWAY_GROUP) == [], "what is concluded does not come back"
    await commands.flushdb()
    await one.renew(added, idle_ms=0)


async def test_consumers_that_were_left_behind_are_removed_and_what_they_have_pending_never(
    two: tuple[CommandFeed, CommandFeed], commands: Redis
) -> None:
    one, other = two
    await commands.xgroup_createconsumer(STREAM, GATEWAY_GROUP, "dead")
    added = await looking.add(commands, STREAM, 1)
    await take(other, 1)
    assert list(await one.clear_out(idle_ms=60_000)) == [], "it may only be starting"
    assert list(await one.clear_out(idle_ms=0)) == ["dead"]
    assert await looking.consumers(commands, STREAM, GATEWAY_GROUP) == {"one", "other"}
    assert await looking.pending(commands, STREAM, GATEWAY_GROUP) == added
    await one.reclaim(idle_ms=0, count=1)
    assert list(await one.clear_out(idle_ms=0)) == ["other"], "now that somebody else has it"
    assert await looking.pending(commands, STREAM, GATEWAY_GROUP) == added
    await commands.flushdb()
    assert list(await one.clear_out(idle_ms=0)) == []


async def deliveries(commands: Redis) -> dict[str, int]:
    client: Any = commands  # its types cover answers of three protocols at once
    pending = await client.xpending_range(STREAM, GATEWAY_GROUP, "-", "+", 100)
    return {one["message_id"].decode(): one["times_delivered"] for one in pending}


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
        b"first_failed_at": b"1970-01-01T00:00:00.000Z",
        b"letter": b"d",
    }
