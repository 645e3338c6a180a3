"""When what is looked at, and what is told of it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime

import anyio
import pytest
from prometheus_client import REGISTRY

from paynode.app.parts import new_id, now_ms
from paynode.config import Settings
from paynode.domain.breaks import BreakTotal
from paynode.domain.errors import Unavailable
from paynode.domain.psp import SettlementLine
from paynode.observability.reconciling import ReconciliationLog
from paynode.recon.laws import BreakCensus, LawWatch
from paynode.recon.payments import PaymentReconciliation
from paynode.recon.schedule import Schedule, ScheduleRules, Settled
from paynode.recon.settlement import SettlementReconciliation, SettlementRules
from paynode.recon.wallets import WalletReconciliation
from paynode.runtime.rounds import ANYBODY
from paynode.runtime.stopping import Stop
from paynode.storage.laws import PgLaws
from paynode.storage.postgres import Pool, Session
from paynode.storage.recon_breaks import PgBreaks
from paynode.storage.recon_payments import PgMending, PgOpenOperations
from paynode.storage.recon_settlement import PgLineKeeping, PgReports
from paynode.storage.recon_wallets import PgWalletLooks, PgWalletRepairs
from tests.recon.hands import Heard, run_rows, runs, tamper
from tests.storage import world
from tests.support.waiting import wait_until

_SETTLE_MS = 60_000


@dataclass
class Asked:
    """A PSP that remembers which windows it was asked for, and fails when told to."""

    windows: list[tuple[int, int]] = field(default_factory=list)
    is_away: bool = False

    async def settlement(self, since: datetime, until: datetime) -> AsyncIterator[SettlementLine]:
        if self.is_away:
            raise Unavailable("timeout")
        self.windows.append((round(since.timestamp() * 1000), round(until.timestamp() * 1000)))
        for line in tuple[SettlementLine, ...]():
            yield line


@dataclass
class Bench:
    """A schedule with what it hears and asks."""

    schedule: Schedule
    psp: Asked
    heard: Heard


@pytest.fixture
def bench(reading: Pool, writing: Pool) -> Bench:
    heard, psp = Heard(), Asked()
    register = runs(writing, heard)
    schedule = Schedule(
        WalletReconciliation(PgWalletLooks(reading, page_size=10), PgWalletRepairs(writing), register),
        PaymentReconciliation(
            PgOpenOperations(reading, page_size=10), PgMending(writing), register, partitions=32, new_id=new_id
        ),
        {
            "sim": Settled(
                reconciliation=SettlementReconciliation(
                    "sim",
                    psp,
                    PgReports(reading, page_size=10),
                    PgLineKeeping(writing),
                    register,
                    SettlementRules(page_size=10, partitions=32),
                ),
                settle_s=_SETTLE_MS / 1000,
            )
        },
        PgBreaks(reading),
        lambda _: ANYBODY,
        heard,
        ScheduleRules(
            wallets_s=0.01,
            payments_s=0.01,
            settlement_s=60,
            full_every_s=3600,
            payments_after_s=900,
            overlap_s=600,
            look_back_s=7200,
        ),
        now_ms=now_ms,
    )
    return Bench(schedule, psp, heard)


async def test_all_areas_are_looked_at_until_the_stop(owner: Session, bench: Bench) -> None:
    await world.capture(owner, await world.open_shop(owner))
    stop = Stop()
    async with anyio.create_task_group() as work:
        work.start_soon(bench.schedule.run, stop)
        await wait_until(
            lambda: {report.area for report in bench.heard.reports} == {"wallets", "payments", "settlement"},
            "each area was looked at",
        )
        await wait_until(lambda: len(bench.heard.reports) > 12, "again and again")
        stop.set()
    full = [row for row in await run_rows(owner) if row["is_full"]]
    assert sorted(row["area"] for row in full) == ["payments", "wallets"], "from the beginning, but not again and again"


async def test_a_report_is_read_from_where_it_was_read_with_an_overlap(bench: Bench) -> None:
    for _ in range(2):
        await bench.schedule.look_at_report("sim")
    first, second = bench.psp.windows
    assert abs(now_ms() - _SETTLE_MS - first[1]) < 60_000
    assert abs(first[1] - (7200_000 - _SETTLE_MS) - first[0]) < 60_000
    assert second[0] == first[1] - 600_000
    assert second[1] > first[1]


async def test_a_report_that_was_read_just_now_is_not_read_again(bench: Bench, owner: Session) -> None:
    await bench.schedule.look_at_report_when_due("sim")
    await bench.schedule.look_at_report_when_due("sim")
    assert len(bench.psp.windows) == 1
    await owner.execute("UPDATE reconciliation_runs SET ended_at = ended_at - interval '1 hour'")
    await bench.schedule.look_at_report_when_due("sim")
    assert len(bench.psp.windows) == 2


async def test_what_was_read_by_hand_is_no_place_to_go_on_from(bench: Bench, owner: Session) -> None:
    await bench.schedule.look_at_report("sim")
    await owner.execute("UPDATE reconciliation_runs SET is_full = true")
    await bench.schedule.look_at_report("sim")
    first, second = bench.psp.windows
    assert second[0] >= first[0]
    assert second[0] - first[0] < 60_000, "as far back as the first time"


async def test_a_psp_that_is_away_is_told_and_loses_nothing(bench: Bench, owner: Session) -> None:
    await bench.schedule.look_at_report("sim")
    await owner.execute("UPDATE reconciliation_runs SET ended_at = ended_at - interval '1 hour'")
    bench.psp.is_away = True
    stop = Stop()
    async with anyio.create_task_group() as work:
        work.start_soon(bench.schedule.run, stop)
        await wait_until(lambda: "settlement: timeout" in bench.heard.failures, "it was told")
        stop.set()
    bench.psp.is_away = False
    await bench.schedule.look_at_report("sim")
    first, last = bench.psp.windows[0], bench.psp.windows[-1]
    assert last[0] == first[1] - 600_000, "it goes on from the last run that ended"


async def test_an_operation_is_looked_at_when_it_comes_of_age(bench: Bench, owner: Session) -> None:
    await bench.schedule.look_at_payments()
    await bench.schedule.look_at_payments()
    [row] = await run_rows(owner)
    assert row["rounds"] == 2
    assert row["inputs"]["since_ms"] > 0, "from where the first look had ended"


@dataclass
class Told:
    """Hears of laws."""

    stood: list[Mapping[str, int]] = field(default_factory=list)
    changed: list[tuple[str, int]] = field(default_factory=list)
    totals: list[Sequence[BreakTotal]] = field(default_factory=list)

    def laws_stand(self, breaches: Mapping[str, int]) -> None:
        self.stood.append(breaches)

    def law_changed(self, law: str, breaches: int) -> None:
        self.changed.append((law, breaches))

    def breaks_stand(self, totals: Sequence[BreakTotal]) -> None:
        self.totals.append(totals)

    def laws_failed(self, error: Exception) -> None:
        raise error


async def test_a_broken_law_is_told_once_and_once_more_when_it_holds_again(settings: Settings, owner: Session) -> None:
    told = Told()
    watch = LawWatch(PgLaws(settings, name="test", due_max_s=300), ANYBODY, told, interval_s=60)
    await world.capture(owner, await world.open_shop(owner))
    await watch.run_once()
    assert told.changed == []
    await owner.execute("UPDATE wallets SET held = held + 1")
    await watch.run_once()
    await watch.run_once()
    broken = {"books_balance", "wallets_fold_the_ledger", "wallets_sum_the_adjustments"}
    assert {law for law, count in told.changed if count} == broken
    assert len(told.changed) == 3
    await owner.execute("UPDATE wallets SET held = held - 1")
    await watch.run_once()
    assert {law for law, count in told.changed[3:] if not count} == broken
    assert len(told.stood) == 4


async def test_what_is_not_over_is_a_metric(reading: Pool, writing: Pool, owner: Session) -> None:
    shop = await world.open_shop(owner)
    await world.capture(owner, shop)
    await owner.execute("UPDATE wallets SET held = 3")
    await tamper(owner, "UPDATE ledger_entries SET type = 'gift' WHERE seq = 1")  # so that nothing repairs it
    wallets = WalletReconciliation(PgWalletLooks(reading, page_size=10), PgWalletRepairs(writing), runs(writing))
    await wallets.run_once()
    census = BreakCensus(PgBreaks(reading), ReconciliationLog(), interval_s=60)
    await census.run_once()
    labels = {"kind": "wallet_differs", "currency": "EUR"}
    assert REGISTRY.get_sample_value("paynode_drift_minor", labels) == 3
    assert REGISTRY.get_sample_value("paynode_reconciliation_backlog") == 1
    await owner.execute("UPDATE wallets SET held = 0")
    await wallets.run_once()
    await census.run_once()
    assert REGISTRY.get_sample_value("paynode_drift_minor", labels) is None
    assert REGISTRY.get_sample_value("paynode_reconciliation_backlog") == 0
