"""A PSP comes back after an outage: what has waited does not throw it down again, and all of it gets there."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from random import Random

import anyio
import pytest

from paynode.domain.attempts import Turn
from paynode.domain.payment import OperationKind
from paynode.domain.psp import Answer, Outcome
from paynode.psp.budget import RetryBudget
from paynode.psp.guard import GuardedPsp
from tests.guards.clock import at_once, now
from tests.guards.psp import APPROVED, ORDER, REFUSED, REQUEST, SILENT, Observer, Psp, order
from tests.guards.rules import RULES

STEADY_PER_S = 50
BEFORE_S, OUTAGE_S, AFTER_S = 60.0, 60.0, 60.0
FULL, A_FIFTH = (0.0, 1.0), (0.8, 1.2)


@dataclass
class Shop:
    """Payments at an even pace, and an actor that tries again what was not sent: doubled pauses, each between these two
    shares of it."""

    guards: GuardedPsp
    chance: Random
    jitter: tuple[float, float] = FULL
    approved: int = 0
    in_doubt: int = 0
    begun: int = 0
    waiting: set[int] = field(default_factory=set)

    async def sell(self, seconds: float) -> None:
        """As many as come in so many seconds, each to its end."""
        async with anyio.create_task_group() as payments:
            for number in range(round(seconds * STEADY_PER_S)):
                payments.start_soon(self._pay, self.begun + number)
                await anyio.sleep(1 / STEADY_PER_S)
            self.begun += round(seconds * STEADY_PER_S)

    async def _pay(self, number: int) -> None:
        tries = 0
        self.waiting.add(number)
        while True:
            end = await self._try(is_retry=tries > 0)
            match end:
                case Turn(pause_s=float(pause_s)):
                    await anyio.sleep(pause_s)
                    continue
                case Turn() | Answer(outcome=Outcome.NOT_SENT):
                    tries += 1
                    await anyio.sleep(min(2 ** (tries - 1), 60) * self.chance.uniform(*self.jitter))
                case Answer(outcome=Outcome.UNKNOWN):
                    self.in_doubt += 1
                    break
                case _:
                    self.approved += 1
                    break
        self.waiting.remove(number)

    async def _try(self, *, is_retry: bool) -> Answer | Turn:
        async with self.guards.turn_to_send(ORDER, is_retry=is_retry, is_urgent=False) as turn:
            if turn != Turn():
                return turn
            return await self.guards.send(ORDER, REQUEST, send_by=0, deadline=0)


def shop_at(psp: Psp, seed: int, jitter: tuple[float, float] = FULL) -> Shop:
    """All chance is the seed's."""
    chance = Random(seed)
    return Shop(GuardedPsp("sim", psp, Observer(), RULES, clock=now, chance=chance.random), chance, jitter)


def calls_per_s(psp: Psp, since: float, seconds: int) -> list[int]:
    """In each second from `since` on."""
    counts = Counter(int(at - since) for at in psp.called_at if at >= since)
    return [counts[second] for second in range(seconds)]


@pytest.mark.parametrize("jitter", [FULL, A_FIFTH], ids=["full jitter", "a fifth"])
@pytest.mark.parametrize(("how", "seed"), [(REFUSED, 1), (SILENT, 2)], ids=["refuses", "hangs"])
def test_no_storm_when_it_returns(how: Answer, seed: int, jitter: tuple[float, float]) -> None:
    """What spreads the retries is the budget, and its pauses: the jitter of the actor's own hardly matters."""

    async def main() -> None:
        psp = Psp()
        shop = shop_at(psp, seed, jitter)
        async with anyio.create_task_group() as group:
            group.start_soon(shop.sell, BEFORE_S + OUTAGE_S + AFTER_S)
            await anyio.sleep(BEFORE_S)
            psp.answer, psp.seconds = how, 0.0 if how is REFUSED else 10.0
            await anyio.sleep(OUTAGE_S)
            assert len(shop.waiting) > 0.8 * OUTAGE_S * STEADY_PER_S, "the outage bit"
            psp.answer, psp.seconds = APPROVED, 0.1
            back_at = now()
        # It is noticed by the first probe after it.
        first = min(at for at in psp.called_at if at >= back_at)
        after = calls_per_s(psp, first + 0.2, 50)
        assert sum(after[:5]) >= 5 * STEADY_PER_S, "and it is back at work at once"
        assert max(after) <= 1.2 * STEADY_PER_S
        assert shop.waiting == set()
        assert shop.approved + shop.in_doubt == shop.begun, "nothing is lost"
        assert shop.in_doubt <= 100, "what hung when nobody knew yet"

    at_once(main, seed=seed)


def test_what_has_piled_up_on_the_way_is_no_storm_either() -> None:
    """New payments that a stopped process had in its hands come all at once, when the PSP has just come back."""

    async def main() -> None:
        psp, refunded = Psp(), list[float]()
        shop = shop_at(psp, seed=3)
        async with anyio.create_task_group() as group:
            group.start_soon(shop.sell, BEFORE_S + 15 + 30)
            await anyio.sleep(BEFORE_S)
            psp.answer = REFUSED
            await anyio.sleep(15)
            psp.answer, back_at = APPROVED, now()
            await anyio.sleep(6)
            for number in range(500):
                group.start_soon(shop._pay, 1_000_000 + number)
            for _ in range(20):
                await anyio.sleep(0.5)
                refund, began = order(OperationKind.REFUND), now()
                async with shop.guards.turn_to_send(refund, is_retry=False, is_urgent=False) as turn:
                    assert turn == Turn()
                    refunded.append(now() - began)
        assert max(calls_per_s(psp, back_at, 60)) <= 1.2 * STEADY_PER_S + 1
        assert max(refunded) <= 0.1, "and a refund does not wait behind them"
        assert shop.waiting == set()

    at_once(main)


def test_what_waits_is_done_at_the_old_rate_when_nothing_new_comes() -> None:
    async def main() -> None:
        psp = Psp()
        shop = shop_at(psp, seed=1)
        await shop.sell(BEFORE_S)
        psp.answer = REFUSED
        async with anyio.create_task_group() as group:
            group.start_soon(shop.sell, OUTAGE_S)
            await anyio.sleep(OUTAGE_S + 15)
            psp.answer = APPROVED
            back_at = now()
        assert shop.approved == shop.begun
        assert max(calls_per_s(psp, back_at, 300)) <= 1.2 * STEADY_PER_S
        assert now() - back_at <= 120, "some 3,000 at up to 50 a second, and the pauses between"

    at_once(main)


@pytest.mark.parametrize("seed", range(3))
def test_a_few_retries_are_always_granted(seed: int) -> None:
    """A PSP that is called once a minute has no tenth to give."""

    async def main() -> None:
        psp = Psp(answer=REFUSED)
        shop = shop_at(psp, seed)
        async with anyio.create_task_group() as group:
            for number in range(5):
                group.start_soon(shop._pay, number)
            await anyio.sleep(3)
            psp.answer = APPROVED
        assert shop.approved == 5
        assert now() <= 120

    at_once(main, seed=seed)


def test_a_refund_takes_the_last_retry_and_does_not_wait_behind_a_minute_of_charges() -> None:
    async def main() -> None:
        budget, charges, waited = RetryBudget(RULES.budget, clock=now), 0, list[float]()
        for second in range(60):
            for _ in range(50):
                charges += budget.take(is_reserved=False) is None
                await anyio.sleep(0.02)
            if second % 5 == 4:
                began = now()
                for _ in range(50):
                    if budget.take(is_reserved=True) is None:
                        break
                    await anyio.sleep(0.1)
                waited.append(now() - began)
        assert max(waited) <= 1.0, "one a second is granted, and the next one is his"
        assert 40 <= charges <= 62

    at_once(main)


def test_of_many_that_find_the_budget_spent_each_asks_the_more_seldom() -> None:
    async def main() -> None:
        chances = Random(1)
        budget = RetryBudget(RULES.budget, clock=now, chance=chances.random)
        asked = Counter[int]()

        async def wait() -> None:
            while (pause_s := budget.take(is_reserved=False)) is not None:
                asked[int(now() // 10)] += 1
                assert 0 <= pause_s <= RULES.budget.pause_max_s
                await anyio.sleep(pause_s)

        with anyio.move_on_after(60):
            async with anyio.create_task_group() as group:
                for _ in range(1000):
                    group.start_soon(wait)
        assert asked[0] >= 1000
        assert asked[5] <= 600, "1,000 wait, and one a second may go: they do not ask sixty times a second"

    at_once(main)
