"""When what is looked at: each area in rounds of its own, one process at a time."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Protocol

import anyio

from paynode.domain.errors import Transient
from paynode.domain.reconciling import Area, Past, Window
from paynode.recon.payments import PaymentReconciliation
from paynode.recon.register import RunObserver
from paynode.recon.settlement import SettlementReconciliation
from paynode.recon.wallets import WalletReconciliation
from paynode.runtime.rounds import Rounds, Singleton
from paynode.runtime.stopping import Stop


class History(Protocol):
    """What was looked at before. Raises: Unavailable."""

    async def past(self, area: Area, psp: str | None, *, is_full: bool) -> Past | None: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class ScheduleRules:
    """All in seconds. Between two looks: `wallets_s`, `payments_s`, `settlement_s`; from the beginning: `full_every_s`.

    `payments_after_s`: a payment is expected to have ended by then. `overlap_s`: of a report, what is looked at once
    more. `look_back_s`: how far the first look at a report goes back.
    """

    wallets_s: float
    payments_s: float
    settlement_s: float
    full_every_s: float
    payments_after_s: float
    overlap_s: float
    look_back_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Settled:
    """A PSP's report, and how many seconds after a movement it must have the line."""

    reconciliation: SettlementReconciliation
    settle_s: float


class Schedule:
    """Makes the rounds. `singleton` is the lease on making those of a name."""

    def __init__(
        self,
        wallets: WalletReconciliation,
        payments: PaymentReconciliation,
        reports: Mapping[str, Settled],
        history: History,
        singleton: Callable[[str], Singleton],
        observer: RunObserver,
        rules: ScheduleRules,
        *,
        now_ms: Callable[[], int],
    ) -> None:
        self._wallets = wallets
        self._payments = payments
        self._reports = reports
        self._history = history
        self._singleton = singleton
        self._observer = observer
        self._rules = rules
        self._now_ms = now_ms

    async def run(self, stop: Stop) -> None:
        """Look until `stop`; what is under way is finished."""
        rules = self._rules
        async with anyio.create_task_group() as work:
            work.start_soon(self._rounds, "wallets", Area.WALLETS, rules.wallets_s, self.look_at_wallets, stop)
            work.start_soon(self._rounds, "payments", Area.PAYMENTS, rules.payments_s, self.look_at_payments, stop)
            # Looked for more often than it is due: the process that did it last may be gone, or the PSP was away.
            full_s = min(rules.full_every_s, rules.payments_s)
            work.start_soon(self._rounds, "full", Area.WALLETS, full_s, self.look_at_all, stop)
            report_s = min(rules.settlement_s, rules.payments_s)
            for psp in self._reports:
                look = partial(self.look_at_report_when_due, psp)
                work.start_soon(self._rounds, f"settlement-{psp}", Area.SETTLEMENT, report_s, look, stop)

    async def look_at_wallets(self) -> None:
        """All wallets, from where they last agreed."""
        await self._wallets.run_once()

    async def look_at_payments(self) -> None:
        """What has come of age since the last look."""
        past = await self._history.past(Area.PAYMENTS, None, is_full=False)
        await self._payments.run_once(self._of_age(0 if past is None else past.until_ms))

    async def look_at_all(self) -> None:
        """Once in a while everything, from the beginning."""
        past = await self._history.past(Area.WALLETS, None, is_full=True)
        if past is None or past.age_s >= self._rules.full_every_s:
            await self._payments.run_once(self._of_age(0), is_full=True)
            await self._wallets.run_once(is_full=True)

    async def look_at_report_when_due(self, psp: str) -> None:
        """A PSP's report, unless it was looked at just now."""
        past = await self._history.past(Area.SETTLEMENT, psp, is_full=False)
        if past is None or past.age_s >= self._rules.settlement_s:
            await self.look_at_report(psp)

    async def look_at_report(self, psp: str) -> None:
        """What a PSP has reported since the last look, and a little before."""
        settled, now_ms = self._reports[psp], self._now_ms()
        settle_ms = round(settled.settle_s * 1000)
        past = await self._history.past(Area.SETTLEMENT, psp, is_full=False)
        # What need not have been reported at the end of the last window is in this one.
        overlap_ms = max(round(self._rules.overlap_s * 1000), 2 * settle_ms)
        since_ms = now_ms - round(self._rules.look_back_s * 1000) if past is None else past.until_ms - overlap_ms
        window = Window(since_ms=since_ms, until_ms=max(since_ms, now_ms - settle_ms))
        await settled.reconciliation.run_once(window, settle_ms=settle_ms)

    def _of_age(self, since_ms: int) -> Window:
        until_ms = self._now_ms() - round(self._rules.payments_after_s * 1000)
        return Window(since_ms=since_ms, until_ms=max(since_ms, until_ms))

    async def _rounds(
        self, name: str, area: Area, interval_s: float, look: Callable[[], Awaitable[None]], stop: Stop
    ) -> None:
        failed = partial(self._observer.reconciliation_failed, area)
        singleton = self._singleton(f"reconciliation-{name}")
        await Rounds(singleton, failed, interval_s=interval_s, transient=Transient).run(look, stop)
