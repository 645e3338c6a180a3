"""Dispatcher: what it takes in hand, in which order, and which tries of a suspect count."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import count
from uuid import NAMESPACE_OID, UUID, uuid5

import anyio

from paynode.actors.dispatch import Dispatcher
from paynode.actors.gateway import PspActor
from paynode.actors.suspicion import Suspicion, SuspicionRules
from paynode.domain.attempts import Attempt, Claim, Conclusion, GatewayCommand, Postponed, Suspect
from paynode.domain.deciding import CommandKind
from paynode.domain.errors import Unavailable
from paynode.domain.message import DeadLetter, Unreadable
from paynode.domain.money import Money
from paynode.domain.payment import Method, OperationKind, PspOrder
from paynode.domain.road import Entry, Pointer
from paynode.runtime.backoff import Backoff
from paynode.runtime.stopping import Stop
from tests.support.waiting import wait_until

ORDER = PspOrder(
    operation_id="op-1",
    payment_id="pay-1",
    merchant_id="mer-1",
    psp="sim",
    money=Money(amount=1000, currency="EUR"),
    method=Method.TOKEN,
    token="tok",
)


def ref_of(name: str) -> str:
    return str(uuid5(NAMESPACE_OID, name))


def entry_of(ref: str) -> str:
    return f"{UUID(ref).int % 10**12}-0"


@dataclass
class World:
    """The stream, the rows and what is kept about suspects; `away`: clearings that fail from now on."""

    pages: list[list[Entry]] = field(default_factory=list)
    commands: dict[str, GatewayCommand] = field(default_factory=dict)
    acknowledged: list[str] = field(default_factory=list)
    counted: dict[str, int] = field(default_factory=dict)
    away: int = 0
    buried: int = 0
    stream: str = "commands"

    def page(self, *orders: PspOrder, times: int = 1) -> None:
        page = []
        for order in orders:
            ref = order.operation_id
            self.commands[ref] = GatewayCommand(ref=ref, kind=CommandKind.SUBMIT, order=order)
            page.append(Entry(id=entry_of(ref), fields={"ref": ref}, times=times))
        self.pages.append(page)

    # -- the feed --
    async def read(self, count: int) -> Sequence[Entry]:
        await anyio.sleep(0.001)
        return self.pages.pop(0) if self.pages else []

    async def reclaim(self, *, idle_ms: int, count: int) -> Sequence[Entry]:
        return []

    async def acknowledge(self, ids: Sequence[str]) -> None:
        self.acknowledged += ids

    async def leave(self) -> None: ...

    # -- the road, the attempts and the observers --
    async def publish(self, pointers: Sequence[Pointer]) -> None: ...
    async def claim(self, claims: Sequence[Claim]) -> Sequence[bool]:
        raise NotImplementedError

    async def submit(self, claim: Claim, /) -> bool:
        raise NotImplementedError

    async def find(self, operation_id: str) -> Attempt | None:
        return None

    async def claim_resend(self, attempt_id: str, *, idempotent_for_s: float) -> bool:
        raise NotImplementedError

    async def conclude(self, conclusions: Sequence[Conclusion]) -> Sequence[Pointer]:
        return []

    def concluded(self, psp: str, conclusion: Conclusion) -> None: ...
    def dispatch_failed(self, psp: str, error: Exception) -> None: ...


@dataclass
class Rows:
    """The commands themselves, and what is kept about bad ones."""

    world: World

    async def read(self, stream: str, refs: Sequence[str]) -> Mapping[str, GatewayCommand | Unreadable]:
        return {ref: self.world.commands[ref] for ref in refs}

    async def postpone(self, ref: str, pause_s: float) -> None: ...

    async def bury(self, letters: Sequence[DeadLetter]) -> frozenset[str]:
        self.world.buried += len(letters)
        return frozenset(letter.id for letter in letters)

    async def count(self, stream: str, ref: str) -> Suspect:
        self.world.counted[ref] = self.world.counted.get(ref, 0) + 1
        return Suspect(attempts=self.world.counted[ref], first_failed_at_ms=0)

    async def clear(self, stream: str, ref: str) -> None:
        if self.world.away:
            self.world.away -= 1
            raise Unavailable("postgres")
        self.world.counted.pop(ref, None)


class Graves:
    """Shows nothing."""

    async def bury(self, letters: Sequence[DeadLetter]) -> None: ...
    def buried(self, letters: Sequence[DeadLetter]) -> None: ...
    def suspected(self, ref: str, attempts: int) -> None: ...
    def telling_failed(self, error: Exception) -> None: ...


class Actor(PspActor):
    """Performs nothing: notes what it is given, and waits while `gate` is shut."""

    def __init__(self) -> None:
        self.begun: list[str] = []
        self.gate = anyio.Event()
        self.is_away = False

    def has_begun(self, times: int) -> bool:
        return len(self.begun) == times

    async def perform(self, command: GatewayCommand) -> Conclusion | Postponed | None:
        self.begun.append(command.ref)
        await self.gate.wait()
        if self.is_away:
            raise Unavailable("postgres")
        return Conclusion(command=command, evidence_id="e")


@asynccontextmanager
async def dispatching(world: World, actor: Actor) -> AsyncIterator[Dispatcher]:
    ids, kept, graves, stop = count(), Rows(world), Graves(), Stop()
    rules = SuspicionRules(deliveries=3, attempts_max=3)
    suspicion = Suspicion(kept, graves, graves, rules, new_id=lambda: f"id-{next(ids)}", now_ms=lambda: 0)
    backoff = Backoff(min_ms=1, max_ms=2)
    dispatcher = Dispatcher(
        "sim",
        world,
        kept,
        world,
        actor,
        world,
        suspicion,
        world,
        hands=2,
        queue_size=2,
        reclaim_idle_ms=20_000,
        backoff=backoff,
    )
    async with anyio.create_task_group() as group:
        group.start_soon(dispatcher.run, stop)
        yield dispatcher
        actor.gate.set()
        stop.set()


def charge(name: str) -> PspOrder:
    return replace(ORDER, operation_id=ref_of(name))


def refund(name: str) -> PspOrder:
    return replace(ORDER, operation_id=ref_of(name), kind=OperationKind.REFUND, charge_id="op-0")


async def test_a_try_that_could_not_be_taken_back_is_taken_back_later() -> None:
    """The database was away: nobody has died, and three such tries would make a dead letter of a good command."""
    world, actor = World(), Actor()
    actor.gate.set()
    actor.is_away = True
    async with dispatching(world, actor):
        for number in range(1, 8):
            world.away = 3
            world.page(charge("a"), times=3)
            await wait_until(partial(actor.has_begun, number), "it is tried")
            await wait_until(lambda: world.counted == {}, "and the try is taken back")
    assert world.buried == 0


async def test_a_try_under_way_is_not_taken_back() -> None:
    """Whoever dies over it has been counted."""
    world, actor = World(), Actor()
    async with dispatching(world, actor):
        world.away = 1
        world.page(charge("a"), times=3)
        await wait_until(lambda: actor.begun == [ref_of("a")], "it is tried")
        for number in range(5):
            world.page(refund(f"r{number}"))
            await wait_until(lambda: not world.pages, "the reader goes on")
        assert world.counted == {ref_of("a"): 1}
    assert world.counted == {}


async def test_all_of_a_page_is_in_hand_however_little_of_it_is_begun() -> None:
    """What is not in hand is not renewed: another process would take it, and a third, and it would be a suspect."""
    world, actor = World(), Actor()
    world.page(*(charge(f"c{number}") for number in range(10)))  # two hands, and two may wait: the reader is held up
    async with dispatching(world, actor) as dispatcher:
        await wait_until(partial(actor.has_begun, 2), "all hands are full")
        assert sorted(dispatcher.in_hand()) == sorted(map(entry_of, world.commands))


async def test_a_second_pointer_to_a_row_of_the_same_page_is_acknowledged_and_performed_once() -> None:
    world, actor = World(), Actor()
    world.page(charge("a"))
    world.pages[0].append(replace(world.pages[0][0], id="1-1"))
    async with dispatching(world, actor):
        await wait_until(lambda: world.acknowledged == ["1-1"], "the second one is done with")
        actor.gate.set()
        await wait_until(lambda: world.acknowledged == ["1-1", entry_of(ref_of("a"))], "and then the first")
    assert actor.begun == [ref_of("a")]
