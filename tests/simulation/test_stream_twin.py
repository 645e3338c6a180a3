"""The twin of the streams against a real server: the same commands, the same answers, the same errors."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import count
from typing import Any, cast

import pytest
import redis
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, rule, run_state_machine_as_test
from redis.exceptions import ResponseError

from paynode.streams.partition_feed import ACKNOWLEDGE, FETCH
from tests.simulation.valkey import Valkey
from tests.support.properties import law

GROUP, CONSUMERS, STREAMS = "merchants", ("owner", "other"), ("one", "two")

streams = st.sampled_from(STREAMS)
consumers = st.sampled_from(CONSUMERS)
counts = st.integers(1, 3)


class Streams(RuleBasedStateMachine):
    """Everything that feeds, publisher and relay say to a server, in any order."""

    real: redis.Redis

    def __init__(self) -> None:
        super().__init__()
        self.real.flushdb()
        clock = count(1_700_000_000_000)
        self.twin = Valkey(lambda: next(clock))
        self.ids: list[str] = ["0-1"]

    def both(self, twin: Callable[[], Any], real: Callable[[], Any]) -> Any:
        """The answer of both, or the first word of the error of both."""
        answers = [_answer(one) for one in (twin, real)]
        assert answers[0] == answers[1]
        return answers[0]

    def an_id(self, data: st.DataObject) -> str:
        return data.draw(st.sampled_from(self.ids))

    @rule(stream=streams)
    def add(self, stream: str) -> None:
        fields: Any = {"ref": str(len(self.ids))}
        added = self.twin.xadd(stream, fields).decode()
        assert self.real.xadd(stream, fields, id=added) == added.encode()
        self.ids.append(added)

    @rule(stream=streams, data=st.data())
    def fetch(self, stream: str, data: st.DataObject) -> None:
        ids = data.draw(st.lists(st.sampled_from(self.ids), min_size=1, max_size=4))
        self.both(lambda: self.twin.fetch(stream, *ids), lambda: self.real.eval(FETCH, 1, stream, *ids))

    @rule(stream=streams, data=st.data())
    def acknowledge_and_trim(self, stream: str, data: st.DataObject) -> None:
        ids = data.draw(st.lists(st.sampled_from(self.ids), min_size=1, max_size=4))
        after = self.an_id(data)
        self.both(
            lambda: self.twin.acknowledge(stream, GROUP, after, *ids),
            lambda: self.real.eval(ACKNOWLEDGE, 1, stream, GROUP, after, *ids),
        )

    @rule(stream=streams, at=st.sampled_from(("0", "$")))
    def make_group(self, stream: str, at: str) -> None:
        self.both(
            lambda: self.twin.xgroup_create(stream, GROUP, at, True),
            lambda: self.real.xgroup_create(stream, GROUP, at, mkstream=True),
        )

    @rule(stream=streams, consumer=consumers, size=counts)
    def read_new(self, stream: str, consumer: str, size: int) -> None:
        self.both(
            lambda: self.twin.read_new(stream, GROUP, consumer, size),
            lambda: _entries(self.real.xreadgroup(GROUP, consumer, {stream: ">"}, count=size)),
        )

    @rule(names=st.permutations(STREAMS), consumer=consumers, size=counts)
    def read_both(self, names: list[str], consumer: str, size: int) -> None:
        self.both(
            lambda: self.twin.read_any(names, GROUP, consumer, size),
            lambda: self.real.xreadgroup(GROUP, consumer, dict.fromkeys(names, ">"), count=size),
        )

    @rule(stream=streams, consumer=consumers, size=counts, data=st.data())
    def read_pending(self, stream: str, consumer: str, size: int, data: st.DataObject) -> None:
        after = data.draw(st.sampled_from(["0", *self.ids]))
        self.both(
            lambda: self.twin.read_pending(stream, GROUP, consumer, after, size),
            lambda: _entries(self.real.xreadgroup(GROUP, consumer, {stream: after}, count=size)),
        )

    @rule(stream=streams, data=st.data())
    def acknowledge(self, stream: str, data: st.DataObject) -> None:
        ids = data.draw(st.lists(st.sampled_from(self.ids), min_size=1, max_size=3, unique=True))
        self.both(lambda: self.twin.xack(stream, GROUP, *ids), lambda: self.real.xack(stream, GROUP, *ids))

    @rule(stream=streams, data=st.data())
    def delete(self, stream: str, data: st.DataObject) -> None:
        number = self.an_id(data)
        self.both(lambda: self.twin.xdel(stream, number), lambda: self.real.xdel(stream, number))

    @rule(stream=streams, data=st.data())
    def trim(self, stream: str, data: st.DataObject) -> None:
        floor = self.an_id(data)
        self.both(
            lambda: self.twin.xtrim(stream, minid=floor, approximate=False),
            lambda: self.real.xtrim(stream, minid=floor, approximate=False),
        )

    @rule(stream=streams)
    def count_pending(self, stream: str) -> None:
        self.both(lambda: self.twin.xpending(stream, GROUP), lambda: self.real.xpending(stream, GROUP))

    @rule(stream=streams, size=counts, data=st.data())
    def look(self, stream: str, size: int, data: st.DataObject) -> None:
        number = self.an_id(data)
        self._look_between(stream, min=f"({number}", count=size)
        self._look_between(stream, min=number, max=number)
        self._look_between(stream, count=size)

    def _look_between(self, stream: str, **bounds: Any) -> None:
        self.both(lambda: self.twin.xrange(stream, **bounds), lambda: self.real.xrange(stream, **bounds))

    @rule(stream=streams, consumer=consumers, size=counts, data=st.data())
    def reclaim(self, stream: str, consumer: str, size: int, data: st.DataObject) -> None:
        begin = data.draw(st.sampled_from(["0-0", *self.ids]))
        self.both(
            lambda: self.twin.xautoclaim(stream, GROUP, consumer, 0, start_id=begin, count=size),
            lambda: tuple(self.real.xautoclaim(stream, GROUP, consumer, 0, start_id=begin, count=size)),
        )

    @rule(stream=streams)
    def groups(self, stream: str) -> None:
        self.both(
            lambda: self.twin.xinfo_groups(stream),
            lambda: [{key: group[key] for key in _SHOWN} for group in self.real.xinfo_groups(stream)],
        )

    @rule(stream=streams, consumer=consumers)
    def leave(self, stream: str, consumer: str) -> None:
        self.both(
            lambda: self.twin.xgroup_delconsumer(stream, GROUP, consumer),
            lambda: self.real.xgroup_delconsumer(stream, GROUP, consumer),
        )

    @rule(is_meant=st.integers(0, 9))
    def flush(self, is_meant: int) -> None:
        if is_meant == 0:  # seldom: everything else needs something to be there
            self.twin.flush()
            self.real.flushdb()


_SHOWN = ("name", "consumers", "pending", "last-delivered-id")


def _answer(command: Callable[[], Any]) -> Any:
    try:
        return command()
    except ResponseError as error:
        return str(error).split(" ", 1)[0]


def _entries(answer: Any) -> Any:
    """Without the stream's name; a deleted one has no fields, which the client shows as an empty mapping."""
    return [(number, fields or None) for number, fields in answer[0][1]] if answer else []


@pytest.fixture
def real(redis_url: str) -> Iterator[redis.Redis]:
    with redis.Redis.from_url(redis_url, protocol=2) as client:
        yield client


async def test_the_twin_of_the_streams_answers_as_the_server_does(real: redis.Redis) -> None:
    Streams.real = real
    # Fewer steps would seldom come to a claim of what was deleted while pending.
    run_state_machine_as_test(Streams, settings=settings(cast(settings, law(60)), stateful_step_count=60))
