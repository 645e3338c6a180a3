"""Every contender books what it says that it books, and a scenario reports in the form that others read."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import pytest

from paynode.bench import contest, ingress, live
from paynode.bench.rivals import ceilings, one_by_one, workers
from paynode.bench.rivals.shop import open_shop
from paynode.config import Settings
from paynode.storage.invariants import check
from paynode.storage.postgres import Role, session
from paynode.streams.client import commands_client

EVENTS = 1200
SHORT_S = 0.3


class Silent:
    """Nobody looks."""

    def doing(self, what: str) -> None: ...
    def done(self, count: int, of: int) -> None: ...


@pytest.fixture
def where(settings: Settings, redis_url: str) -> Settings:
    return settings.model_copy(update={"redis": settings.redis.model_copy(update={"url": redis_url})})


@pytest.mark.parametrize("contender", [one_by_one.row_lock, one_by_one.one_statement, one_by_one.function])
async def test_one_by_one_every_line_is_in_the_wallet(
    where: Settings, contender: Callable[..., Awaitable[float]]
) -> None:
    async with open_shop(where.database.url) as shop:
        rate = await contender(shop, connections=4, seconds=SHORT_S)
        lines, balance = await shop.count()
    assert lines == balance > 0
    assert lines >= rate * SHORT_S > 0, "what it says is what it did"


async def test_workers_on_a_stream_book_each_event_once(where: Settings) -> None:
    async with commands_client(where) as redis:
        async with open_shop(where.database.url) as shop:
            await workers.per_message(redis, shop, tasks=4, events=200)
            assert await shop.count() == (200, 200)
        async with open_shop(where.database.url, merchants=7) as shop:
            await workers.batch_loop(redis, shop, events=EVENTS)
            assert await shop.count() == (EVENTS, EVENTS)


async def test_a_shop_leaves_nothing_behind(where: Settings) -> None:
    async with open_shop(where.database.url):
        pass
    assert not await _fetch(where, "SELECT FROM information_schema.schemata WHERE schema_name = 'rivals'")


async def test_the_hot_scenario_reports_in_the_form_that_others_read(
    where: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(contest, "_FEW", 100)
    monkeypatch.setattr(contest, "_MANY", 1000)
    report = await contest.hot(where, contest.Plan(events=EVENTS, rounds=1, seconds=0.1), Silent())
    assert {"scenario", "events", "seconds", "events_per_s", "baselines", "ratios", "machine"} <= report.keys()
    assert _keys(report, "ratios") == {
        "row_lock_best", "one_statement_best", "per_message_worker", "batch_loop", "copy_ceiling",
    }  # fmt: skip
    assert {"row_lock_32", "function_8", "copy", "commits_1", "xadd", "xreadgroup"} <= _keys(report, "baselines")
    assert await _fetch(where, "SELECT sum(available) FROM wallets") == [(EVENTS,)]
    async with session(where, Role.READER, application_name="test") as reader:
        assert [one.law for one in await check(reader, due_max_s=60) if one.breaches.total] == []


@pytest.mark.long
async def test_an_event_that_is_said_twice_is_booked_once(where: Settings) -> None:
    plan = contest.Plan(events=EVENTS, rounds=1, repeated=0.5)
    report = await contest.duplicates(where, plan, Silent())
    assert _keys(report, "ratios") == {"none"}
    assert await _fetch(where, "SELECT sum(available) FROM wallets") == [(2 * EVENTS,)], "of both measurements"


@pytest.mark.long
async def test_live_latencies_count_from_when_each_was_due(where: Settings) -> None:
    report: Any = await live.run(where, live.Plan(rate=200, seconds=1))
    assert 0 < report["latency_ms"]["p50"] <= report["latency_ms"]["p99"]
    assert report["events"] == 200 * 4, "the first three seconds do not count, but are published"


async def test_the_ingress_scenario_measures_all_three_servers(where: Settings) -> None:
    plan = ingress.Plan(rounds=1, seconds=0.5, connections=4, processes=1, rates=[20])
    report: Any = await ingress.run(where, plan, Silent())
    assert _keys(report, "baselines") == {"paynode_1", "transaction_1", "transaction_4", "noop_1", "noop_4"}
    assert [point["rate"] for point in report["points"]] == [20]
    booked = await _fetch(where, "SELECT count(*) >= $1 FROM payments", 20)
    assert booked == [(True,)]


def _keys(report: Mapping[str, object], name: str) -> set[str]:
    found = report[name]
    assert isinstance(found, dict)
    return set(found)


async def _fetch(settings: Settings, statement: str, *arguments: object) -> list[tuple[object, ...]]:
    async with session(settings, Role.OWNER, application_name="test") as owner:
        return [tuple(row) for row in await owner.fetch(statement, *arguments)]


@pytest.mark.long
async def test_ceilings_copy_the_rows_that_paynode_wrote(where: Settings) -> None:
    async with commands_client(where) as redis:
        await contest._paynode(where, redis, contest.Plan(events=EVENTS), Silent())
    async with open_shop(where.database.url) as shop:
        assert await ceilings.copy(shop, events=EVENTS) > 0
        assert await _fetch(where, "SELECT count(*) FROM rivals.ledger_entries") == [(EVENTS,)]
