"""Callbacks that come together."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime

import anyio
import pytest

from paynode.domain.accepting import Heard, Operated, Received, Spoken
from paynode.domain.errors import Poison, Unavailable
from paynode.domain.payment import Fact, Source
from paynode.domain.psp import Outcome
from paynode.domain.road import Pointer
from paynode.http.inbox import SharedInbox

OPERATED = Operated(operation_id="op", payment_id="pay", merchant_id="mer")


class Kept:
    """Keeps whatever is no poison; the first call waits until it is let go."""

    def __init__(self) -> None:
        self.groups: list[list[str]] = []
        self.may_go_on = anyio.Event()
        self.has_come = anyio.Event()

    async def operations(self, spoken: Sequence[Spoken]) -> Sequence[Operated | None]:
        return [OPERATED if one.operation_id == "op" else None for one in spoken]

    async def store(self, received: Received) -> None: ...

    async def store_question(self, received: Received, operated: Operated) -> Pointer | None: ...

    async def store_evidence(self, heard: Sequence[Heard]) -> Sequence[Pointer | None]:
        self.groups.append([one.received.event_id for one in heard])
        self.has_come.set()
        await self.may_go_on.wait()
        if any(one.received.event_id == "bad" for one in heard):
            raise Poison("refused_by_database", "22P02")
        return [Pointer(stream="s", ref=one.received.event_id) for one in heard]


def heard(event_id: str) -> Heard:
    fact = Fact(
        event_id=event_id, payment_id="pay", operation_id="op", outcome=Outcome.APPROVED, source=Source.CALLBACK
    )
    received = Received(
        inbox_id="i", psp="sim", event_id=event_id, our_reference="op", raw=b"", claim="{}", at=datetime.now(UTC)
    )
    return Heard(received=received, operated=OPERATED, fact=fact, stream="s")


def shared(kept: Kept) -> SharedInbox:
    return SharedInbox(kept, group_size_max=10, waiting_max=10)


async def test_those_that_come_during_a_commit_are_the_next_group_and_a_bad_one_is_bad_alone() -> None:
    kept, told = Kept(), dict[str, object]()
    inbox = shared(kept)

    async def tell(event_id: str) -> None:
        try:
            told[event_id] = await inbox.store_evidence(heard(event_id))
        except Poison as poison:
            told[event_id] = poison.reason

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(inbox.run)
        async with anyio.create_task_group() as telling:
            telling.start_soon(tell, "first")
            await kept.has_come.wait()
            for event_id in ("a", "bad", "b"):
                telling.start_soon(tell, event_id)
            await anyio.wait_all_tasks_blocked()
            kept.may_go_on.set()
        tasks.cancel_scope.cancel()
    assert kept.groups == [["first"], ["a", "bad", "b"], ["a"], ["bad"], ["b"]]
    pointers = {name: Pointer(stream="s", ref=name) for name in ("first", "a", "b")}
    assert told == pointers | {"bad": "refused_by_database"}


async def test_each_hears_of_its_own_operation() -> None:
    inbox = shared(Kept())
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(inbox.run)
        found = [await inbox.operation(Spoken(operation_id=name, psp="sim", kinds=["sale"])) for name in ("none", "op")]
        tasks.cancel_scope.cancel()
    assert found == [None, OPERATED]


async def test_where_nobody_stores_any_more_the_psp_is_told_to_come_again() -> None:
    inbox = shared(Kept())
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(inbox.run)
        await anyio.wait_all_tasks_blocked()
        tasks.cancel_scope.cancel()
    with pytest.raises(Unavailable):
        await inbox.store_evidence(heard("late"))
    with pytest.raises(Unavailable):
        await inbox.operation(Spoken(operation_id="op", psp="sim", kinds=["sale"]))
