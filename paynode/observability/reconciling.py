"""What reconciliation tells, as log lines and metrics."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import structlog

from paynode.domain.breaks import BreakTotal
from paynode.domain.reconciling import Area, RunReport
from paynode.observability.metrics import DRIFT_MINOR, LAW_BREACHES, RECONCILIATION_BACKLOG


class ReconciliationLog:
    """Hears of runs, of laws, and of what was found and is not over."""

    def __init__(self) -> None:
        self._log: Any = structlog.get_logger()

    def reconciled(self, report: RunReport) -> None:
        """A run ended; one that found nothing is not worth a line, and there are thousands."""
        if report.tally.differing:
            self._log.warning(
                "differences_found",
                kind=report.area,
                psp=report.psp,
                count=report.tally.differing,
                detail=", ".join(f"{kind} {count}" for kind, count in sorted(report.tally.found.items())),
            )

    def reconciliation_failed(self, area: Area, error: Exception) -> None:
        """A run broke off; the next one begins anew."""
        self._log.warning("reconciliation_failed", kind=area, error=str(error))

    def breaks_stand(self, totals: Sequence[BreakTotal]) -> None:
        """What is not over."""
        DRIFT_MINOR.clear()
        for total in totals:
            DRIFT_MINOR.labels(total.kind, total.currency).set(total.size)
        RECONCILIATION_BACKLOG.set(sum(total.count for total in totals))

    def laws_stand(self, breaches: Mapping[str, int]) -> None:
        """How often each law is broken."""
        for law, count in breaches.items():
            LAW_BREACHES.labels(law).set(count)

    def law_changed(self, law: str, breaches: int) -> None:
        """A law is broken, or more or less often than before, or holds again."""
        tell = self._log.error if breaches else self._log.warning
        tell("law_broken" if breaches else "law_holds_again", kind=law, count=breaches)

    def laws_failed(self, error: Exception) -> None:
        """The figures stay as they were."""
        self._log.warning("laws_failed", error=str(error))
