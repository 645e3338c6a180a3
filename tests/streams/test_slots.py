"""Which node a command goes to, and what is known of a cluster's map while it changes."""

from __future__ import annotations

from typing import Any

import anyio
import pytest
from redis.crc import key_slot
from redis.exceptions import ConnectionError as NotConnected

from paynode.streams.places import Address
from paynode.streams.slots import SlotMap, key_of

A, B = Address("a", 1), Address("b", 2)


@pytest.mark.parametrize(
    ("command", "key"),
    [
        (("XADD", "s", "*", "a", "b"), "s"),
        (("XINFO GROUPS", "s"), "s"),
        (("XREADGROUP", "GROUP", b"STREAMS", "c", "COUNT", 1, b"STREAMS", "s", ">"), "s"),
        (("XREAD", b"STREAMS", b"s", "0"), b"s"),
        (("EVAL", "return 1", 1, "s", "a"), "s"),
        (("PUBLISH", "channel", "message"), None),
        (("CONFIG SET", "maxmemory", "0"), None),
        (("PING",), None),
    ],
)
def test_the_key_of_a_command_decides_where_it_goes(command: tuple[Any, ...], key: str | bytes | None) -> None:
    assert key_of(command) == key


async def test_the_map_is_read_once_by_all_who_doubt_it_at_once() -> None:
    readings = 0

    async def read(_: Address) -> Any:
        nonlocal readings
        readings += 1
        await anyio.sleep(0.01)
        return [[0, 16383, [b"b", 2, b"id"]]]

    slots = SlotMap([A], read)
    for expected in (1, 2):
        owners: list[Address] = []

        async def look() -> None:
            owners.append(await slots.owner("x"))  # noqa: B023 - awaited below

        async with anyio.create_task_group() as group:
            for _ in range(20):
                group.start_soon(look)
        assert owners == [B] * 20
        assert readings == expected
        slots.forget()


async def test_a_map_that_nobody_tells_fails_all_who_wait_for_it_together() -> None:
    readings, failures = 0, 0

    async def read(_: Address) -> Any:
        nonlocal readings
        readings += 1
        await anyio.sleep(0.01)
        raise NotConnected

    slots = SlotMap([A, B], read)

    async def look() -> None:
        nonlocal failures
        with pytest.raises(NotConnected):
            await slots.owner("x")
        failures += 1

    async with anyio.create_task_group() as group:
        for _ in range(20):
            group.start_soon(look)
    assert (readings, failures) == (2, 20)


async def test_what_a_node_says_of_a_slot_counts_until_the_map_says_more() -> None:
    told = [[0, 99, [b"", 1, b"id"]], [100, 16383, [b"b", 2, b"id"]]]

    async def read(_: Address) -> Any:
        return told

    slots, slot = SlotMap([A], read), key_slot(b"x")
    assert slot >= 100
    assert await slots.owner("x") == B
    assert await slots.owners() == [A, B], "a node that does not know its name is where it was asked"
    slots.move(slot, A)
    told = [[0, 16383, [b"a", 1, b"id"]]]
    assert await slots.owner("x") == A
    told = [[0, 99, [b"a", 1, b"id"]]]
    slots.forget()
    with pytest.raises(NotConnected, match="nobody owns slot"):
        await slots.owner("x")
