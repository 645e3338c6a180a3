"""Reach: one judgement, believed the second time, and nobody waits for what is away."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import anyio
import pytest

from paynode.runtime.reach import Reach
from tests.support.waiting import wait_until

INTERVAL_S = 0.25


@dataclass
class Server:
    """Answers as the script says, the last word for ever; remembers what was judged."""

    answers: Sequence[bool]
    judged: list[bool] = field(default_factory=list)
    asked: int = 0

    async def probe(self) -> bool:
        answer = self.answers[min(self.asked, len(self.answers) - 1)]
        self.asked += 1
        return answer

    def is_away(self, is_away: bool, /) -> None:
        self.judged.append(is_away)


def reach_of(server: Server) -> Reach:
    return Reach(server.probe, server, interval_s=INTERVAL_S)


async def test_it_is_here_until_it_is_silent_twice() -> None:
    server = Server([True, False, True, False, False])
    reach = reach_of(server)
    for _ in range(2):
        await reach.look()
        assert not reach.is_away
    await reach.look()
    assert reach.is_away
    assert server.judged == [True]


async def test_what_is_away_is_asked_once_each_time_and_told_once() -> None:
    server = Server([False, False, False, False, True])
    reach = reach_of(server)
    for _ in range(3):
        await reach.look()
    assert server.asked == 4
    assert server.judged == [True]
    assert reach.here_for_s == 0
    await reach.look()
    assert server.judged == [True, False]
    assert reach.here_for_s < 60


async def test_it_was_always_here_if_it_never_left() -> None:
    assert reach_of(Server([True])).here_for_s == float("inf")


async def test_who_waits_for_it_is_let_go_when_it_leaves() -> None:
    reach, ended = reach_of(Server([False])), []

    async def wait(number: int) -> None:
        with reach.needed():
            await anyio.sleep_forever()
        ended.append(number)

    with anyio.fail_after(10):
        async with anyio.create_task_group() as group:
            for number in range(3):
                group.start_soon(wait, number)
            await anyio.wait_all_tasks_blocked()
            await reach.look()
        await wait(3)  # and who comes later does not begin to wait
    assert sorted(ended) == [0, 1, 2, 3]


async def test_what_ends_by_itself_ends_as_ever() -> None:
    reach = reach_of(Server([True]))
    with reach.needed():
        result = 1
    with pytest.raises(ValueError, match="its own"), reach.needed():
        raise ValueError("its own")
    await reach.look()
    assert result == 1


async def test_it_asks_again_and_again() -> None:
    server = Server([False, False, True])
    reach = Reach(server.probe, server, interval_s=0.001)
    async with anyio.create_task_group() as group:
        group.start_soon(reach.run)
        await wait_until(lambda: server.judged == [True, False], "it left and came back")
        group.cancel_scope.cancel()
