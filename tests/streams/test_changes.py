"""Announcements of changes: lost ones cost a poll, nonsense costs nothing."""

from __future__ import annotations

import anyio
import pytest
from hypothesis import given
from hypothesis import strategies as st

from paynode.config import Settings
from paynode.domain.road import CHANGES_CHANNEL, Change
from paynode.streams.changes import changes, parse
from paynode.streams.client import Redis, reader_client
from paynode.streams.publisher import RedisPublisher
from tests.streams import looking
from tests.support.properties import law
from tests.support.waiting import wait_until


@pytest.mark.parametrize(
    ("data", "parsed"),
    [
        (b"p:2", [("p", 2)]),
        (b"p:2 q:3", [("p", 2), ("q", 3)]),
        (b"", []),
        (b"p", []),
        (b"p:", []),
        (b"p:x q:3", [("q", 3)]),
        (b"p:-1", []),
        (b"p:1.5", []),
        (b"p:\xc2\xb2", []),  # a superscript two is a digit to Python, and no number
        (b"p:" + b"9" * 19, []),
        (b"p:" + b"9" * 18, [("p", 10**18 - 1)]),
        (b"\xff\xfe:7", [("\ufffd\ufffd", 7)]),
    ],
)
def test_what_is_no_change_is_passed_over(data: bytes, parsed: list[tuple[str, int]]) -> None:
    assert parse(data) == [Change(payment_id=payment_id, version=version) for payment_id, version in parsed]


@law(300)
@given(st.binary(max_size=200))
def test_no_announcement_whatsoever_breaks_the_listener(data: bytes) -> None:
    for change in parse(data):
        assert 0 <= change.version < 10**18


async def test_a_change_is_heard_by_whoever_listens(settings: Settings, commands: Redis) -> None:
    heard: list[Change] = []
    publisher = RedisPublisher(commands)

    async def listen() -> None:
        async with reader_client(settings) as client:
            async for change in changes(client):
                heard.append(change)  # noqa: PERF401 - one by one, as they come

    async def is_listening() -> bool:
        return await looking.listeners(commands, CHANGES_CHANNEL) > 0

    async with anyio.create_task_group() as group:
        group.start_soon(listen)
        await wait_until(is_listening, "the listener has subscribed")
        await commands.publish(CHANGES_CHANNEL, b"nonsense \xff")
        wanted = [Change(payment_id="p", version=2), Change(payment_id="q", version=9)]
        await publisher.announce(wanted)
        await wait_until(lambda: heard == wanted, "both changes were heard, and nothing else")
        group.cancel_scope.cancel()
