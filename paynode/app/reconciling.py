"""Reconciliation, put together: for the scheduler, which looks again and again, and for an operator, who looks once."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from paynode.app.parts import new_id, now_ms
from paynode.app.psps import PspAdapter, adapters_of
from paynode.config import Settings
from paynode.domain.errors import Unavailable
from paynode.domain.psp import SettlementLine
from paynode.domain.reconciling import Area, RunReport, Window
from paynode.observability.reconciling import ReconciliationLog
from paynode.psp.errors import Unavailable as PspUnavailable
from paynode.recon.laws import BreakCensus, LawWatch
from paynode.recon.payments import PaymentReconciliation
from paynode.recon.register import RunObserver, Runs
from paynode.recon.schedule import Schedule, ScheduleRules, Settled
from paynode.recon.settlement import SettlementReconciliation, SettlementRules
from paynode.recon.wallets import WalletReconciliation
from paynode.storage.laws import PgLaws
from paynode.storage.leases import PgSingleton
from paynode.storage.postgres import Pool, Role, pool
from paynode.storage.recon_breaks import PgBreaks
from paynode.storage.recon_payments import PgMending, PgOpenOperations
from paynode.storage.recon_runs import PgRegister
from paynode.storage.recon_settlement import PgLineKeeping, PgReports
from paynode.storage.recon_wallets import PgWalletLooks, PgWalletRepairs

# Seconds that a message may have been due without being processed, as `paynode doctor` has it.
_DUE_MAX_S: Final = 300.0
_NAME: Final = "paynode reconcile"


class ReportUnknown(Exception):
    """There is no account of this name at a PSP, or it has no report that could be asked for."""


async def schedule_of(
    settings: Settings, reading: Pool, database: Pool, observer: ReconciliationLog, stack: AsyncExitStack, *, owner: str
) -> Schedule:
    """All rounds; `reading` as the reader's role, `database` as the gateway's. Adapters are closed by `stack`."""
    chosen = settings.reconciliation
    adapters = {name: one for name, one in adapters_of(settings).items() if one.capabilities.has_report}
    for adapter in adapters.values():
        await stack.enter_async_context(adapter)

    def singleton(name: str) -> PgSingleton:
        return PgSingleton(database, name=name, owner=owner, lease_s=chosen.lease_s)

    parts = _Parts(settings, reading, database, observer)
    return Schedule(
        parts.wallets,
        parts.payments,
        {
            name: Settled(reconciliation=parts.settlement(name, one), settle_s=one.capabilities.settle_s)
            for name, one in adapters.items()
        },
        PgBreaks(reading),
        singleton,
        observer,
        ScheduleRules(
            wallets_s=chosen.wallets_s,
            payments_s=chosen.payments_s,
            settlement_s=chosen.settlement_s,
            full_every_s=chosen.full_every_s,
            payments_after_s=chosen.payments_after_s,
            overlap_s=chosen.settlement_overlap_s,
            look_back_s=chosen.settlement_look_back_s,
        ),
        now_ms=now_ms,
    )


def law_watch_of(settings: Settings, database: Pool, observer: ReconciliationLog, *, owner: str) -> LawWatch:
    """Whoever holds the lease looks at the laws; `database` as the gateway's role."""
    chosen = settings.reconciliation
    return LawWatch(
        PgLaws(settings, name=owner, due_max_s=_DUE_MAX_S),
        # So long that the others do not look in between.
        PgSingleton(database, name="laws", owner=owner, lease_s=chosen.laws_s + chosen.lease_s),
        observer,
        interval_s=chosen.laws_s,
    )


def break_census_of(settings: Settings, reading: Pool, observer: ReconciliationLog) -> BreakCensus:
    """Counts for the metrics; `reading` as the reader's role."""
    return BreakCensus(PgBreaks(reading), observer, interval_s=settings.census.interval_s)


@dataclass(frozen=True, slots=True)
class PspReport:
    """A PSP's report as reconciliation knows it: a PSP that is away is, like a server, met again later."""

    adapter: PspAdapter

    async def settlement(self, since: datetime, until: datetime) -> AsyncIterator[SettlementLine]:
        """The lines, as the adapter tells them. Raises: Unavailable."""
        try:
            async for line in self.adapter.settlement(since, until):
                yield line
        except PspUnavailable as error:
            raise Unavailable(f"the report of {self.adapter.name}: {error}") from error


@dataclass(frozen=True, slots=True)
class _Parts:
    """What reconciliation is made of."""

    settings: Settings
    reading: Pool
    database: Pool
    observer: RunObserver

    @property
    def wallets(self) -> WalletReconciliation:
        """Wallets against the ledger."""
        return WalletReconciliation(
            PgWalletLooks(self.reading, page_size=self._page_size),
            PgWalletRepairs(self.database),
            self._runs,
        )

    @property
    def payments(self) -> PaymentReconciliation:
        """Payments against what is under way for them."""
        return PaymentReconciliation(
            PgOpenOperations(self.reading, page_size=self._page_size),
            PgMending(self.database),
            self._runs,
            partitions=self.settings.streams.partitions,
            new_id=new_id,
        )

    def settlement(self, psp: str, adapter: PspAdapter) -> SettlementReconciliation:
        """A PSP's report against the books."""
        return SettlementReconciliation(
            psp,
            PspReport(adapter),
            PgReports(self.reading, page_size=self._page_size),
            PgLineKeeping(self.database),
            self._runs,
            SettlementRules(page_size=self._page_size, partitions=self.settings.streams.partitions),
        )

    @property
    def _runs(self) -> Runs:
        return Runs(PgRegister(self.database, new_id=new_id), self.observer, new_id=new_id)

    @property
    def _page_size(self) -> int:
        return self.settings.reconciliation.page_size


class _Silence:
    """Whoever looks once reads the report itself."""

    def reconciled(self, report: RunReport) -> None:
        """Nothing to tell."""

    def reconciliation_failed(self, area: Area, error: Exception) -> None:
        """It is raised."""


@asynccontextmanager
async def looking_once(settings: Settings) -> AsyncIterator[Looks]:
    """What an operator looks with."""
    async with (
        pool(settings, Role.READER, application_name=_NAME, size=1) as reading,
        pool(settings, Role.GATEWAY, application_name=_NAME, size=1) as database,
    ):
        yield Looks(settings, _Parts(settings, reading, database, _Silence()), adapters_of(settings))


@dataclass(frozen=True, slots=True)
class Looks:
    """One look at each area. Instants in milliseconds since 1970; None: as the scheduler would choose. All of it raises
    Unavailable, Conflict."""

    settings: Settings
    parts: _Parts
    adapters: Mapping[str, PspAdapter]

    async def at_wallets(self, *, is_full: bool, is_dry: bool) -> RunReport:
        """All wallets, from where they last agreed or from the beginning."""
        return await self.parts.wallets.run_once(is_full=is_full, is_dry=is_dry)

    async def at_payments(self, since_ms: int | None, until_ms: int | None, *, is_dry: bool) -> RunReport:
        """What was made within a time and has not ended."""
        after_ms = round(self.settings.reconciliation.payments_after_s * 1000)
        window = Window(since_ms=since_ms or 0, until_ms=now_ms() - after_ms if until_ms is None else until_ms)
        # What is looked at by hand is no place from which the scheduler goes on.
        return await self.parts.payments.run_once(window, is_full=True, is_dry=is_dry)

    async def at_report(self, psp: str, since_ms: int | None, until_ms: int | None, *, is_dry: bool) -> RunReport:
        """A PSP's report of a time. Raises: ReportUnknown."""
        adapter = self.adapters.get(psp)
        if adapter is None or not adapter.capabilities.has_report:
            raise ReportUnknown(f"{psp} has no settlement report")
        settle_ms = round(adapter.capabilities.settle_s * 1000)
        last_ms = now_ms() - settle_ms
        back_ms = round(self.settings.reconciliation.settlement_look_back_s * 1000)
        window = Window(
            since_ms=last_ms - back_ms if since_ms is None else since_ms,
            until_ms=last_ms if until_ms is None else min(until_ms, last_ms),
        )
        async with adapter:
            # As above.
            return await self.parts.settlement(psp, adapter).run_once(
                window, settle_ms=settle_ms, is_full=True, is_dry=is_dry
            )
