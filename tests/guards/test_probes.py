"""One probe at a time, of all processes that call a PSP; and none when nobody can say whose it is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import anyio
import pytest

from paynode.domain.attempts import Turn
from paynode.domain.errors import Unavailable
from paynode.domain.guarding import BreakerAction, BreakerOrder, Company
from paynode.domain.payment import OperationKind, PspOrder
from paynode.domain.psp import Answer, PspRequest
from paynode.psp.guard import GuardedPsp
from paynode.psp.probes import OwnProbes, Probes
from tests.guards.clock import at_once, now
from tests.guards.psp import APPROVED, ORDER, REFUSED, REQUEST, SILENT, Observer, Psp
from tests.guards.rules import RULES

SALE, OPEN_S = OperationKind.SALE, RULES.breaker.open_s


async def send(guards: GuardedPsp) -> Answer | Turn:
    """As the actor does it: the answer, or the turn that was no leave."""
    async with guards.turn_to_send(ORDER, is_retry=False, is_urgent=False) as turn:
        return turn if turn != Turn() else await guards.send(ORDER, REQUEST, send_by=0, deadline=0)


async def ask(guards: GuardedPsp) -> Answer | Turn | None:
    async with guards.turn_to_ask() as turn:
        return turn if turn != Turn() else await guards.find(ORDER, deadline=0)


def processes(psp: Psp, probes: Probes, count: int = 2) -> list[GuardedPsp]:
    """The guards of so many, each with breakers of its own."""
    return [GuardedPsp("sim", psp, Observer(), RULES, clock=now, probes=probes) for _ in range(count)]


async def down(psp: Psp, guards: Sequence[GuardedPsp], answer: Answer = REFUSED) -> None:
    """All have seen that nothing works, and each may probe by its own breaker."""
    psp.answer = answer
    for one in guards:
        for _ in range(10):
            await send(one)
            await ask(one)
    await anyio.sleep(OPEN_S)
    psp.called_at.clear()
    psp.busiest = 0


def state(guards: GuardedPsp, kind: str = SALE) -> str:
    return guards.vitals.breakers[kind].state


@pytest.mark.parametrize("kind", ["sale", "inquiry"])
@pytest.mark.parametrize("seed", range(10))
def test_of_all_processes_one_probes_in_each_window(seed: int, kind: str) -> None:
    async def main() -> None:
        psp = Psp()
        guards = processes(psp, OwnProbes(clock=now), 3)
        await down(psp, guards)
        psp.answer, psp.seconds = SILENT, 3.0
        async with anyio.create_task_group() as group:
            for number in range(600):
                group.start_soon(send if kind == "sale" else ask, guards[number % 3])
                await anyio.sleep(0.1)
        assert psp.busiest == 1
        assert 6 <= len(psp.called_at) <= 9, "one for each window of 4 to 5 s and its own 3 s, in a minute"

    at_once(main, seed=seed)


def test_a_success_lets_the_others_find_out_at_once() -> None:
    """Each by a probe of its own: that one machine reaches the PSP says nothing of the others."""

    async def main() -> None:
        psp = Psp()
        guards = processes(psp, OwnProbes(clock=now), 3)
        await down(psp, guards)
        psp.answer = APPROVED
        async with anyio.create_task_group() as group:
            for number in range(60):
                group.start_soon(send, guards[number % 3])
                await anyio.sleep(0.05)
        assert {state(one) for one in guards} == {"closed"}, "after 3 s"

    at_once(main)


def test_a_process_that_cannot_reach_the_psp_does_not_hold_up_one_that_can() -> None:
    async def main() -> None:
        probes, cut, whole = OwnProbes(clock=now), Psp(), Psp()
        [lonely], [well] = processes(cut, probes, 1), processes(whole, probes, 1)
        await down(cut, [lonely])
        await down(whole, [well])
        whole.answer = APPROVED
        with anyio.fail_after(60):
            async with anyio.create_task_group() as group:
                while state(well) != "closed":
                    group.start_soon(send, lonely)
                    await anyio.sleep(0.03)
                    group.start_soon(send, well)
                    await anyio.sleep(0.03)

    at_once(main)


def test_who_died_probing_is_waited_for_until_his_lease_ends() -> None:
    async def main() -> None:
        probes, psp = OwnProbes(clock=now), Psp()
        [guards] = processes(psp, probes, 1)
        await down(psp, [guards])
        assert await probes.take(SALE, for_s=RULES.probe_s) is not None
        psp.answer, began = APPROVED, now()
        while state(guards) != "closed":
            await send(guards)
            await anyio.sleep(0.1)
        assert now() - began == pytest.approx(RULES.probe_s, abs=0.3)

    at_once(main)


def test_a_turn_of_which_nothing_came_leaves_the_probe_to_another_process() -> None:
    async def main() -> None:
        psp = Psp()
        one, other = processes(psp, OwnProbes(clock=now))
        await down(psp, [one, other])
        psp.answer = APPROVED
        async with one.turn_to_send(ORDER, is_retry=False, is_urgent=False) as turn:
            assert turn == Turn(), "and now somebody else has claimed the sending"
        assert await send(other) == APPROVED

    at_once(main)


def test_a_call_that_was_cut_off_may_still_be_under_way_and_keeps_its_lease() -> None:
    async def main() -> None:
        psp = Psp()
        one, other = processes(psp, OwnProbes(clock=now))
        await down(psp, [one, other])
        psp.answer, psp.seconds = APPROVED, 10.0
        with anyio.move_on_after(1):
            await send(one)
        assert await send(other) == Turn(refusal="breaker_open")
        await anyio.sleep(RULES.probe_s)
        assert await send(other) == APPROVED

    at_once(main)


def test_who_is_cut_off_while_asking_keeps_no_probe_back() -> None:
    class Slow(OwnProbes):
        async def take(self, operation: str, *, for_s: float) -> int | None:
            await anyio.sleep(1)
            return await super().take(operation, for_s=for_s)

    async def main() -> None:
        psp = Psp()
        [guards] = processes(psp, Slow(clock=now), 1)
        await down(psp, [guards])
        with anyio.move_on_after(0.5):
            await send(guards)
        psp.answer = APPROVED
        assert await send(guards) == APPROVED

    at_once(main)


@dataclass
class LatePsp(Psp):
    """Remembers until when each call may last."""

    deadlines: list[float] = field(default_factory=list)

    async def send(self, order: PspOrder, request: PspRequest, *, send_by: float, deadline: float) -> Answer:
        self.deadlines += [send_by, deadline]
        return await super().send(order, request, send_by=send_by, deadline=deadline)

    async def find(self, order: PspOrder, *, deadline: float) -> Answer | None:
        self.deadlines.append(deadline)
        return await super().find(order, deadline=deadline)


def test_no_probe_outlasts_its_lease_however_long_its_deadline() -> None:
    async def main() -> None:
        psp = LatePsp()
        [guards] = processes(psp, OwnProbes(clock=now), 1)
        await down(psp, [guards])
        psp.deadlines.clear()
        ends = now() + RULES.probe_s
        await guards.send(ORDER, REQUEST, send_by=ends + 60, deadline=ends + 60)
        await guards.find(ORDER, deadline=ends + 60)
        assert psp.deadlines == [ends, ends, pytest.approx(ends + psp.seconds)]

    at_once(main)


@dataclass
class Away:
    """PostgreSQL, not to be reached while `is_away`; counts who asks."""

    probes: Probes
    is_away: bool = True
    asked: int = 0

    async def take(self, operation: str, *, for_s: float) -> int | None:
        self._reach()
        return await self.probes.take(operation, for_s=for_s)

    async def end(self, operation: str, number: int, *, pause_s: float) -> None:
        self._reach()
        await self.probes.end(operation, number, pause_s=pause_s)

    def _reach(self) -> None:
        self.asked += 1
        if self.is_away:
            raise Unavailable("away")


def test_nobody_probes_while_nobody_can_say_who_may() -> None:
    async def main() -> None:
        psp, away = Psp(), Away(OwnProbes(clock=now))
        [guards] = processes(psp, away, 1)
        await down(psp, [guards])
        for _ in range(600):
            assert await send(guards) == Turn(refusal="breaker_open")
            await anyio.sleep(0.1)
        assert psp.called_at == []
        assert away.asked <= 121, "twice a second, and not by each who is refused"
        psp.answer, away.is_away = APPROVED, False
        await anyio.sleep(1)
        assert await send(guards) == APPROVED

    at_once(main)


def test_a_probe_whose_end_could_not_be_told_is_answered_all_the_same() -> None:
    async def main() -> None:
        psp, away = Psp(), Away(OwnProbes(clock=now), is_away=False)
        [guards] = processes(psp, away, 1)
        await down(psp, [guards])
        psp.answer, answers = APPROVED, list[Answer | Turn]()

        async def probe() -> None:
            answers.append(await send(guards))

        async with anyio.create_task_group() as group:
            group.start_soon(probe)
            await anyio.sleep(psp.seconds / 2)
            away.is_away = True
        assert answers == [APPROVED]
        assert state(guards) == "closed"

    at_once(main)


def test_of_a_closed_one_nobody_is_asked_nobody_is_asked() -> None:
    async def main() -> None:
        psp, away = Psp(), Away(OwnProbes(clock=now))
        [guards] = processes(psp, away, 1)
        for _ in range(50):
            assert await send(guards) == APPROVED
            assert await ask(guards) == APPROVED
        assert away.asked == 0

    at_once(main)


def test_a_reset_by_hand_waits_for_nobodys_probe() -> None:
    async def main() -> None:
        psp, probes = Psp(), OwnProbes(clock=now)
        [guards] = processes(psp, probes, 1)
        guards.obey(Company(live=1, orders=[]))
        await down(psp, [guards])
        assert await probes.take(SALE, for_s=RULES.probe_s) is not None
        assert await send(guards) == Turn(refusal="breaker_open")
        psp.answer = APPROVED
        guards.obey(Company(live=1, orders=[BreakerOrder(operation=SALE, action=BreakerAction.RESET, number=1)]))
        assert await send(guards) == APPROVED

    at_once(main)
