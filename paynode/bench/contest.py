"""paynode and its rivals in turns, on the same servers."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final, Protocol

from paynode.bench.backlogs import Town, found, heap_up
from paynode.bench.figures import Rounds, machine
from paynode.bench.rivals import ceilings, one_by_one, workers
from paynode.bench.rivals.shop import Shop, open_shop
from paynode.bench.working import drain, measure_idle_mb
from paynode.config import Settings
from paynode.streams.client import Redis, commands_client

# Events of one round of a worker that writes every message by itself, and of the loop.
_FEW: Final = 3000
_MANY: Final = 60_000
_CONNECTIONS: Final = {"row_lock": (1, 2, 8, 32), "one_statement": (1, 8), "function": (1, 8)}


class Progress(Protocol):
    """Hears what is being done, and how far it is."""

    def doing(self, what: str) -> None: ...
    def done(self, count: int, of: int) -> None: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """Events of a round, merchants, rounds, and seconds of each rival in a round."""

    events: int
    merchants: int = 1
    rounds: int = 3
    seconds: float = 2.0
    repeated: float = 0.0


async def hot(settings: Settings, plan: Plan, progress: Progress) -> dict[str, object]:
    """One merchant's events, or many merchants', against all that somebody would use instead."""
    rounds = Rounds()
    async with commands_client(settings) as redis:
        for number in range(plan.rounds):
            progress.doing(f"round {number + 1} of {plan.rounds}")
            rounds.add("paynode", await _paynode(settings, redis, plan, progress))
            async with open_shop(settings.database.url) as shop:
                await _contend(redis, shop, plan, rounds, progress)
    return _report("hot" if plan.merchants == 1 else "zipf", plan, rounds)


async def zipf(settings: Settings, plan: Plan, progress: Progress) -> dict[str, object]:
    """Many merchants, some far more often than others, against one, and against the loop."""
    rounds, alone = Rounds(), Plan(events=plan.events, rounds=plan.rounds)
    async with commands_client(settings) as redis:
        for number in range(plan.rounds):
            progress.doing(f"round {number + 1} of {plan.rounds}")
            rounds.add("paynode", await _paynode(settings, redis, plan, progress))
            rounds.add("hot", await _paynode(settings, redis, alone, progress))
            async with open_shop(settings.database.url, merchants=plan.merchants) as shop:
                rounds.add("batch_loop", await workers.batch_loop(redis, shop, events=_MANY))
    report = _report("zipf", plan, rounds)
    return report | {"ratios": rounds.ratios | {"hot": round(rounds.median("paynode") / rounds.median("hot"), 3)}}


async def duplicates(settings: Settings, plan: Plan, progress: Progress) -> dict[str, object]:
    """A tenth of the events said twice, against none."""
    rounds, once = Rounds(), Plan(events=plan.events, rounds=plan.rounds)
    async with commands_client(settings) as redis:
        for number in range(plan.rounds):
            progress.doing(f"round {number + 1} of {plan.rounds}")
            rounds.add("paynode", await _paynode(settings, redis, plan, progress))
            rounds.add("none", await _paynode(settings, redis, once, progress))
    report = _report("duplicates", plan, rounds)
    return report | {"ratios": {"none": round(rounds.median("paynode") / rounds.median("none"), 3)}}


async def backlog(settings: Settings, plan: Plan, progress: Progress) -> dict[str, object]:
    """A long backlog, drained by one worker and by two, against a short one; and what a worker's memory grows by."""
    rounds, short = Rounds(), Plan(events=max(plan.events // 10, 1))
    idle_mb = await measure_idle_mb(settings)
    grown: dict[str, float] = {}
    async with commands_client(settings) as redis:
        rounds.add("hot", await _paynode(settings, redis, short, progress))
        for name, merchants, count in (("paynode", 1, 1), ("zipf_1_worker", 10_000, 1), ("zipf_2_workers", 10_000, 2)):
            progress.doing(name)
            town = await _publish(settings, redis, plan.events, merchants, 0.0, progress)
            drained = await drain(
                settings, town.merchants, plan.events, count=count, tell=_teller(progress, plan.events)
            )
            rounds.add(name, drained.events_per_s)
            grown[name] = round(drained.peak_mb - idle_mb, 1)
    report = _report("backlog", plan, rounds)
    ratios = {name: round(rounds.median("paynode") / rounds.median(name), 3) for name in ("hot",)}
    ratios["two_workers"] = round(rounds.median("zipf_2_workers") / rounds.median("zipf_1_worker"), 3)
    return report | {"ratios": ratios, "idle_mb": round(idle_mb, 1), "grown_mb": grown}


async def _paynode(settings: Settings, redis: Redis, plan: Plan, progress: Progress) -> float:
    town = await _publish(settings, redis, plan.events, plan.merchants, plan.repeated, progress)
    drained = await drain(settings, town.merchants, plan.events, tell=_teller(progress, plan.events))
    return drained.events_per_s


async def _publish(
    settings: Settings, redis: Redis, events: int, merchants: int, repeated: float, progress: Progress
) -> Town:
    progress.doing(f"publishing {events:,} events")
    town = await found(settings, merchants)
    await heap_up(redis, town, events, repeated=repeated)
    progress.doing("paynode")
    return town


def _teller(progress: Progress, events: int) -> Callable[[int], None]:
    return lambda count: progress.done(count, events)


async def _contend(redis: Redis, shop: Shop, plan: Plan, rounds: Rounds, progress: Progress) -> None:
    """One round of everybody else."""
    for name, counts in _CONNECTIONS.items():
        contender: Callable[..., Awaitable[float]] = getattr(one_by_one, name)
        for count in counts:
            progress.doing(f"{name}, {count} connections")
            rounds.add(f"{name}_{count}", await contender(shop, connections=count, seconds=plan.seconds))
    for tasks in (1, 8, 32):
        progress.doing(f"a transaction for each message, {tasks} tasks")
        rounds.add(f"per_message_{tasks}", await workers.per_message(redis, shop, tasks=tasks, events=_FEW))
    progress.doing("the loop")
    rounds.add("batch_loop", await workers.batch_loop(redis, shop, events=_MANY))
    progress.doing("ceilings")
    rounds.add("copy", await ceilings.copy(shop, events=_MANY))
    for count in (1, 32):
        rounds.add(f"commits_{count}", await ceilings.commits(shop, connections=count, seconds=plan.seconds))
    added, read = await ceilings.streams(redis, events=_MANY)
    rounds.add("xadd", added)
    rounds.add("xreadgroup", read)


def _report(scenario: str, plan: Plan, rounds: Rounds) -> dict[str, object]:
    rate = rounds.median("paynode")
    return {
        "scenario": scenario,
        "events": plan.events,
        "merchants": plan.merchants,
        "rounds": len(rounds.rates["paynode"]),
        "seconds": round(plan.events / rate, 3),
        "events_per_s": round(rate, 1),
        "baselines": rounds.baselines,
        "ratios": rounds.ratios,
        "spread": rounds.spread,
        "machine": machine(),
    }
