"""All guards together, around one PSP."""

from __future__ import annotations

from dataclasses import replace

import anyio
import pytest

from paynode.domain.attempts import Turn
from paynode.domain.guarding import CALL_KINDS, BreakerAction, BreakerOrder, Company
from paynode.domain.payment import OperationKind
from paynode.domain.psp import Answer, Outcome
from paynode.psp.guard import GuardedPsp, GuardRules
from tests.guards.clock import at_once, now
from tests.guards.psp import APPROVED, DECLINED, ORDER, REFUSED, REQUEST, SILENT, Observer, Psp, order
from tests.guards.rules import RULES

SALE, CAPTURE, REFUND = OperationKind.SALE, OperationKind.CAPTURE, OperationKind.REFUND
NO_BREAKER = replace(RULES.breaker, calls_min=1_000_000, in_a_row=None)


def guarded(psp: Psp, rules: GuardRules = RULES, observer: Observer | None = None) -> GuardedPsp:
    return GuardedPsp("sim", psp, observer or Observer(), rules, clock=now)


async def send(
    guards: GuardedPsp, kind: OperationKind = SALE, *, is_retry: bool = False, is_urgent: bool = False
) -> Answer | Turn:
    """As the actor does it: the answer, or the turn that was no leave."""
    asked = order(kind)
    async with guards.turn_to_send(asked, is_retry=is_retry, is_urgent=is_urgent) as turn:
        if turn != Turn():
            return turn
        return await guards.send(asked, REQUEST, send_by=0, deadline=0)


async def ask(guards: GuardedPsp) -> Answer | Turn | None:
    async with guards.turn_to_ask() as turn:
        return turn if turn != Turn() else await guards.find(ORDER, deadline=0)


def states(guards: GuardedPsp) -> dict[str, str]:
    return {kind: one.state for kind, one in guards.vitals.breakers.items()}


@pytest.mark.parametrize("answer", [REFUSED, SILENT])
def test_failures_of_one_kind_stop_that_kind_alone(answer: Answer) -> None:
    async def main() -> None:
        psp = Psp(answer=answer)
        guards = guarded(psp)
        for _ in range(10):
            assert await send(guards, CAPTURE) == answer
        refused = await send(guards, CAPTURE)
        assert isinstance(refused, Turn)
        assert refused.refusal == "", "no other PSP could take it: it waits"
        assert refused.pause_s is not None
        assert len(psp.called_at) == 10, "what is refused never reaches the PSP"
        psp.answer = APPROVED
        assert await send(guards, SALE) == APPROVED
        assert await ask(guards) == APPROVED
        assert {kind for kind, state in states(guards).items() if state != "closed"} == {CAPTURE}

    at_once(main)


def test_declines_are_no_failures() -> None:
    async def main() -> None:
        guards = guarded(Psp(answer=DECLINED))
        for _ in range(200):
            assert await send(guards) == DECLINED
        assert guards.vitals.breakers[SALE].calls == 200
        assert guards.vitals.breakers[SALE].failures == 0

    at_once(main)


def test_an_inquiry_that_finds_nothing_is_no_failure() -> None:
    async def main() -> None:
        guards = guarded(Psp(answer=None))
        for _ in range(50):
            assert await ask(guards) is None
        assert set(states(guards).values()) == {"closed"}

    at_once(main)


@pytest.mark.parametrize("seed", range(20))
def test_never_more_than_one_probe_at_once(seed: int) -> None:
    """Whatever comes while it is half open, and for how long the probe takes."""

    async def main() -> None:
        psp = Psp(answer=SILENT)
        guards = guarded(psp)
        for _ in range(10):
            await send(guards)
        probes = Psp(answer=SILENT, seconds=3.0)
        psp.called_at.clear()
        psp.busiest, psp.seconds = 0, 3.0
        async with anyio.create_task_group() as group:
            for _ in range(600):
                group.start_soon(send, guards)
                await anyio.sleep(0.1)
        assert psp.busiest == 1
        assert 6 <= len(psp.called_at) <= 8, "one for each window of 5 s and its own 3 s, in a minute"
        assert probes.called_at == []

    at_once(main, seed=seed)


def test_a_refusal_of_our_own_is_no_failure_of_the_psp() -> None:
    async def main() -> None:
        observer, psp = Observer(), Psp(seconds=60)
        guards = guarded(psp, replace(RULES, places=4, reserved=1, waiting_max=2), observer)
        ends: list[Answer | Turn] = []

        async def charge() -> None:
            ends.append(await send(guards))

        async with anyio.create_task_group() as group:
            for _ in range(20):
                group.start_soon(charge)
            await anyio.sleep(30)
            assert ends == [Turn(refusal="bulkhead_full")] * 17, "15 at once, two after their time"
            assert await_free(guards) == (3, 0)
        assert ends[17:] == [APPROVED] * 3
        assert guards.vitals.breakers[SALE].failures == 0
        assert set(observer.reasons) == {"bulkhead_full"}

    at_once(main)


def await_free(guards: GuardedPsp) -> tuple[int, int]:
    """Calls under way, and those that wait."""
    return guards.vitals.in_flight, guards.vitals.waiting


@pytest.mark.parametrize("seed", range(5))
def test_a_flood_of_charges_at_a_slow_psp_lets_the_others_through(seed: int) -> None:
    async def main() -> None:
        guards = guarded(Psp(seconds=10.0), replace(RULES, places=8, reserved=2, breaker=NO_BREAKER))
        waited: list[float] = []

        async def timed(kind: OperationKind, *, is_urgent: bool = False) -> None:
            began = now()
            assert await send(guards, kind, is_urgent=is_urgent) == APPROVED
            waited.append(now() - began - 10.0)

        async with anyio.create_task_group() as group:
            for number in range(300):
                group.start_soon(send, guards)
                if number % 75 == 50:
                    group.start_soon(timed, REFUND)
                if number % 75 == 0:
                    async with anyio.create_task_group() as till:
                        till.start_soon(lambda: timed(SALE, is_urgent=True))
                        await anyio.sleep(0.1)
                await anyio.sleep(0.1)
        assert len(waited) == 8
        assert max(waited) == pytest.approx(0, abs=1e-5)

    at_once(main, seed=seed)


def test_the_pace_is_kept_and_what_waits_too_long_for_it_is_not_sent() -> None:
    async def main() -> None:
        psp, ends = Psp(), list[Answer | Turn]()
        guards = guarded(psp, replace(RULES, per_s_max=10.0, wait_max_s=2.1))
        guards.obey(Company(live=2, orders=[]))
        assert guards.vitals.pace_per_s == 5.0

        async def charge() -> None:
            ends.append(await send(guards))

        async with anyio.create_task_group() as group:
            for _ in range(40):
                group.start_soon(charge)
        assert psp.called_at == pytest.approx([number / 5 for number in range(11)], abs=1e-5)
        assert ends.count(Turn(refusal="pace")) == 29

    at_once(main)


NOT_CHARGES = [kind for kind in OperationKind if kind not in (SALE, OperationKind.AUTHORIZE)]


@pytest.mark.parametrize("kind", NOT_CHARGES)
def test_what_no_other_psp_could_take_waits_and_makes_no_facts(kind: OperationKind) -> None:
    """Of many that come while one probe is under way, none is claimed: each would be a fact, for a whole day."""

    async def main() -> None:
        psp, ends = Psp(answer=REFUSED), list[Answer | Turn]()
        guards = guarded(psp)
        for _ in range(10):
            await send(guards, kind)
        await anyio.sleep(RULES.breaker.open_s)
        psp.called_at.clear()

        async def try_again() -> None:
            ends.append(await send(guards, kind))

        async with anyio.create_task_group() as group:
            for _ in range(30):
                group.start_soon(try_again)
        pauses = [end.pause_s for end in ends if isinstance(end, Turn) and end.pause_s is not None]
        assert len(psp.called_at) == 1
        assert [end for end in ends if isinstance(end, Answer)] == [REFUSED]
        assert len(pauses) == 29
        assert len(set(pauses)) > 1

    at_once(main)


def test_of_many_inquiries_at_a_half_open_breaker_one_asks_and_the_others_wait() -> None:
    async def main() -> None:
        psp, ends = Psp(answer=SILENT), list[Answer | Turn | None]()
        guards = guarded(psp)
        for _ in range(10):
            await ask(guards)
        await anyio.sleep(RULES.breaker.open_s)
        psp.called_at.clear()

        async def ask_again() -> None:
            ends.append(await ask(guards))

        async with anyio.create_task_group() as group:
            for _ in range(30):
                group.start_soon(ask_again)
        assert len(psp.called_at) == 1
        assert [end for end in ends if isinstance(end, Answer)] == [SILENT]
        assert sum(isinstance(end, Turn) and end.pause_s is not None for end in ends) == 29

    at_once(main)


OF_OUR_OWN = Answer(outcome=Outcome.NOT_SENT, reason="pool_wait")


def test_what_did_not_leave_for_reasons_of_our_own_closes_no_breaker_and_counts_for_nothing() -> None:
    async def main() -> None:
        psp = Psp(answer=REFUSED)
        guards = guarded(psp)
        for _ in range(9):
            await send(guards)
        psp.answer = OF_OUR_OWN
        assert await send(guards) == OF_OUR_OWN
        assert guards.vitals.breakers[SALE].calls == 9
        psp.answer = REFUSED
        await send(guards)
        assert states(guards)[SALE] == "open", "ten failures in a row: nothing good came between"
        await anyio.sleep(RULES.breaker.open_s)
        psp.answer = OF_OUR_OWN
        assert await send(guards) == OF_OUR_OWN
        assert states(guards)[SALE] == "half_open", "nothing is known of the PSP"
        psp.answer = APPROVED
        assert await send(guards) == APPROVED
        assert states(guards)[SALE] == "closed"

    at_once(main)


def test_a_turn_of_which_nothing_came_keeps_no_probe_back() -> None:
    """Another has claimed the sending: whoever is next may probe."""

    async def main() -> None:
        psp = Psp(answer=REFUSED)
        guards = guarded(psp)
        for _ in range(10):
            await send(guards)
        await anyio.sleep(RULES.breaker.open_s)
        async with guards.turn_to_send(ORDER, is_retry=False, is_urgent=False) as turn:
            assert turn == Turn()
            assert await send(guards) == Turn(refusal="breaker_open")
        psp.answer = APPROVED
        assert await send(guards) == APPROVED

    at_once(main)


# -- the word of an operator ------------------------------------------------------------------------------------------


def trip(kind: str, number: int = 1) -> BreakerOrder:
    return BreakerOrder(operation=kind, action=BreakerAction.TRIP, number=number)


def reset(kind: str, number: int = 1) -> BreakerOrder:
    return BreakerOrder(operation=kind, action=BreakerAction.RESET, number=number)


def test_what_an_operator_trips_stays_open_until_he_resets_it() -> None:
    async def main() -> None:
        psp = Psp()
        guards = guarded(psp)
        guards.obey(Company(live=1, orders=[trip(SALE)]))
        for _ in range(10):
            await anyio.sleep(60)
            guards.obey(Company(live=1, orders=[trip(SALE)]))
            assert await send(guards) == Turn(refusal="breaker_open")
        assert psp.called_at == []
        guards.obey(Company(live=1, orders=[reset(SALE, 2)]))
        assert await send(guards) == APPROVED

    at_once(main)


def test_a_new_process_holds_open_what_is_held_and_resets_nothing() -> None:
    async def main() -> None:
        psp = Psp(answer=SILENT)
        guards = guarded(psp)
        for _ in range(10):
            await send(guards)
        guards.obey(Company(live=1, orders=[reset(SALE, 7), trip(REFUND, 3)]))
        assert states(guards)[SALE] == "open", "that reset was said before our time"
        assert guards.vitals.breakers[REFUND].is_held
        guards.obey(Company(live=1, orders=[reset(SALE, 8), trip(REFUND, 3)]))
        assert states(guards)[SALE] == "closed"

    at_once(main)


def test_an_order_is_obeyed_once() -> None:
    async def main() -> None:
        guards = guarded(Psp(answer=SILENT))
        guards.obey(Company(live=1, orders=[]))
        guards.obey(Company(live=1, orders=[reset(SALE)]))
        for _ in range(10):
            await send(guards)
        guards.obey(Company(live=1, orders=[reset(SALE)]))
        assert states(guards)[SALE] == "open"

    at_once(main)


def test_an_order_about_a_kind_that_this_version_does_not_know_does_no_harm() -> None:
    async def main() -> None:
        guards = guarded(Psp())
        guards.obey(Company(live=1, orders=[trip("topup"), trip(SALE)]))
        assert tuple(states(guards)) == CALL_KINDS
        assert states(guards)[SALE] == "open"

    at_once(main)


@pytest.mark.parametrize("kind", OperationKind)
def test_an_inquiry_that_is_refused_a_turn_comes_later_and_says_nothing(kind: OperationKind) -> None:
    async def main() -> None:
        guards = guarded(Psp())
        guards.obey(Company(live=1, orders=[trip("inquiry")]))
        turns = [await ask(guards) for _ in range(20)]
        pauses = [turn.pause_s for turn in turns if isinstance(turn, Turn) and turn.pause_s is not None]
        assert len(pauses) == 20
        assert len(set(pauses)) > 1, "they do not come back together"
        assert (await send(guards, kind)) == APPROVED

    at_once(main)


def test_nothing_is_ever_called_not_sent_by_an_inquiry() -> None:
    async def main() -> None:
        guards = guarded(Psp())
        guards.obey(Company(live=1, orders=[trip("inquiry")]))
        answer = await guards.find(ORDER, deadline=0)
        assert isinstance(answer, Turn)
        assert answer.pause_s is not None, "nothing is known: it is asked later"

    at_once(main)
