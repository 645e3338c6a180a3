"""The sweep for payments that nobody waits for any more."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime

import anyio

from paynode.actors.reversing import Reversing, ReversingRules
from paynode.domain import ids
from paynode.domain.errors import PaynodeError, Unavailable
from paynode.domain.point_of_sale import Mark, Marked, Marking, Overdue
from paynode.domain.road import Pointer
from paynode.runtime.stopping import Stop
from tests.support.waiting import wait_until

MERCHANT = "01890a5d-ac96-774b-bcce-b302099a8057"


@dataclass
class World:
    """A desk with overdue payments, of which others decide some; a road; a lease; and what was observed."""

    waiting: list[str] = field(default_factory=list)
    by_others: set[str] = field(default_factory=set)
    fails: list[PaynodeError] = field(default_factory=list)
    said: list[str] = field(default_factory=list)

    async def overdue(self, *, grace_s: float, count: int) -> Sequence[Overdue]:
        if self.fails:
            raise self.fails.pop()
        return [Overdue(payment_id=one, merchant_id=MERCHANT) for one in self.waiting[:count]]

    async def reverse(self, marking: Marking) -> Marked:
        self.waiting.remove(marking.payment_id)
        return Marked(mark=Mark.REVERSED, is_new=marking.payment_id not in self.by_others, left_s=0)

    async def publish(self, pointers: Sequence[Pointer]) -> None:
        assert all(one.merchant == ids.public(ids.MERCHANT, MERCHANT) for one in pointers)
        self.said += [f"{one.ref} on {one.stream}" for one in pointers]

    async def hold(self) -> bool:
        return True

    async def drop(self) -> None:
        self.said.append("dropped")

    def reversed_overdue(self, count: int) -> None:
        self.said.append(f"{count} reversed")

    def reversing_failed(self, error: Exception) -> None:
        self.said.append(f"failed: {error}")


def mark(overdue: Overdue) -> Marking:
    name = overdue.payment_id
    return Marking(
        payment_id=name, merchant_id=MERCHANT, event_id="e", request_id=f"r-{name}", stream="s", at=datetime.now(UTC)
    )


def sweep(world: World) -> Reversing:
    rules = ReversingRules(interval_s=0.001, grace_s=1, sweep_size=2)
    return Reversing(world, world, world, world, rules, mark=mark)


async def test_what_is_overdue_is_reversed_and_what_follows_is_published() -> None:
    world = World(waiting=["1", "2", "3"])
    await sweep(world).run_once()
    assert (world.waiting, world.said) == (["3"], ["r-1 on s", "r-2 on s", "2 reversed"])


async def test_what_somebody_else_has_decided_is_left_to_him() -> None:
    world = World(waiting=["1"], by_others={"1"})
    await sweep(world).run_once()
    assert world.said == []


async def test_it_sweeps_until_it_is_stopped_whatever_fails_meanwhile() -> None:
    world, stop = World(waiting=["1"], fails=[Unavailable("away")]), Stop()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(sweep(world).run, stop)
        await wait_until(lambda: "1 reversed" in world.said, "it is reversed")
        stop.set()
    assert world.said == ["failed: away", "r-1 on s", "1 reversed", "dropped"]
