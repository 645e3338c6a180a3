"""A PSP's settlement report against our books: every line kept and posted, every difference found."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from hashlib import sha256
from typing import Protocol

from paynode.domain.comparing import (
    KeptLine,
    Told,
    Unreported,
    accounted_for,
    accounts,
    digested,
    examine,
    is_readable,
    missing_in_report,
)
from paynode.domain.errors import Unavailable
from paynode.domain.ids import HOUSE, MERCHANT, public
from paynode.domain.partition import partition_of
from paynode.domain.psp import SettlementLine
from paynode.domain.reconciling import Area, Evidence, RunReport, Sweep, Window
from paynode.domain.report import line_id
from paynode.domain.road import events_stream
from paynode.recon.register import Run, Runs


class Report(Protocol):
    """A PSP that reports. Raises: Unavailable."""

    def settlement(self, since: datetime, until: datetime) -> AsyncIterator[SettlementLine]: ...


class Reports(Protocol):
    """What our books have of lines, and no line has. Raises: Unavailable."""

    async def told(self, psp: str, lines: Sequence[KeptLine]) -> Sequence[Told]: ...
    async def unreported(self, psp: str, window: Window, after: str | None) -> Sweep[Unreported]: ...
    async def unreported_still(self, psp: str, window: Window, after: str | None) -> Sweep[Unreported]: ...
    async def open_lines(self, psp: str, window: Window, after: str | None) -> Sequence[KeptLine]: ...


class LineKeeping(Protocol):
    """Where lines are kept and posted. Raises: Unavailable, Conflict."""

    async def keep(self, run_id: str, lines: Sequence[Told], streams: Mapping[str, str]) -> None: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class SettlementRules:
    """`page_size`: lines in hand at a time. `partitions`: of the merchants."""

    page_size: int
    partitions: int


class SettlementReconciliation:
    """One PSP's. Any number may run at once: a line is posted once, whoever brings it."""

    def __init__(
        self,
        psp: str,
        report: Report,
        reports: Reports,
        keeping: LineKeeping,
        runs: Runs,
        rules: SettlementRules,
    ) -> None:
        self._psp = psp
        self._report = report
        self._reports = reports
        self._keeping = keeping
        self._runs = runs
        self._rules = rules

    async def run_once(
        self, window: Window, *, settle_ms: int, is_full: bool = False, is_dry: bool = False
    ) -> RunReport:
        """Hold the report of a window against the books; then look again at what was found before and is not over.

        What was booked within the last `settle_ms` milliseconds of the window need not be reported yet.
        """
        inputs: Evidence = {"psp": self._psp, "since_ms": window.since_ms, "until_ms": window.until_ms}
        async with self._runs.run(Area.SETTLEMENT, inputs, psp=self._psp, is_full=is_full, is_dry=is_dry) as run:
            reported = await self._read(run, window)
            await self._look_again(run, window)
            due = Window(since_ms=window.since_ms, until_ms=window.until_ms - settle_ms)
            await self._look_for_missing(run, due, reported)
        return run.report()

    async def _read(self, run: Run, window: Window) -> frozenset[str]:
        """Take the report; returns what it accounts for, of a dry run, which keeps no lines to look that up in."""
        digest, count, page, reported = sha256(), 0, dict[str, KeptLine](), set[str]()
        async for line in self._report.settlement(_instant(window.since_ms), _instant(window.until_ms)):
            digest.update(digested(line))
            count += 1
            if not is_readable(line):
                raise Unavailable(f"line {count} of the report cannot be read")
            if line.amount == 0:
                continue  # it moved nothing
            kept = KeptLine(id=line_id(self._psp, line.kind, line.reference), psp=self._psp, line=line)
            if page.get(kept.id, kept) != kept or len(page) == self._rules.page_size:
                # Told twice and differently on one page: the second comes when the first is kept.
                reported |= await self._take(run, list(page.values()))
                page.clear()
            page[kept.id] = kept
        reported |= await self._take(run, list(page.values()))
        run.inputs |= {"lines": count, "lines_sha256": digest.hexdigest()}
        return frozenset(reported)

    async def _take(self, run: Run, page: Sequence[KeptLine]) -> frozenset[str]:
        if not page:
            return frozenset()
        run.tally.checked += len(page)
        told = await self._compare(run, page)
        if run.is_dry:
            return frozenset().union(*map(accounted_for, told))
        await self._keeping.keep(run.id, told, self._streams(told))
        return frozenset()

    async def _compare(self, run: Run, page: Sequence[KeptLine]) -> Sequence[Told]:
        told = await self._reports.told(self._psp, page)
        await run.note([found for found in map(examine, told) if found is not None])
        return told

    async def _look_again(self, run: Run, window: Window) -> None:
        after: str | None = None
        while page := await self._reports.open_lines(self._psp, window, after):
            after = page[-1].id
            await self._compare(run, page)

    async def _look_for_missing(self, run: Run, window: Window, reported: frozenset[str]) -> None:
        for look in (self._reports.unreported, self._reports.unreported_still):
            sweep = await look(self._psp, window, None)
            while sweep.after is not None:
                await run.note([missing_in_report(one) for one in sweep.found if not accounts(one) & reported])
                sweep = await look(self._psp, window, sweep.after)

    def _streams(self, told: Sequence[Told]) -> Mapping[str, str]:
        merchants = {one.known.merchant_id for one in told if one.known is not None} | {HOUSE}
        return {one: events_stream(partition_of(public(MERCHANT, one), self._rules.partitions)) for one in merchants}


def _instant(ms: int) -> datetime:
    return datetime.fromtimestamp(ms / 1000, UTC)
