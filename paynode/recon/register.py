"""A run of any area: begun, counted, ended; dry, it leaves nothing behind."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Protocol

from paynode.domain.reconciling import Area, Difference, Evidence, Noted, RunReport, Tally


class Register(Protocol):
    """Where runs and differences are kept. Raises: Unavailable, Conflict."""

    async def begin(self, run_id: str, area: Area, psp: str | None, inputs: Evidence, *, is_full: bool) -> None: ...
    async def note(self, run_id: str, found: Sequence[Difference]) -> Sequence[Noted]: ...
    async def end(self, run_id: str, inputs: Evidence, tally: Tally) -> None: ...


class RunObserver(Protocol):
    """Hears of runs."""

    def reconciled(self, report: RunReport) -> None: ...
    def reconciliation_failed(self, area: Area, error: Exception) -> None: ...


@dataclass(slots=True, kw_only=True)
class Run:
    """A run under way. `inputs` may be added to until its end."""

    id: str
    area: Area
    psp: str | None
    inputs: dict[str, str | int | None]
    is_dry: bool
    register: Register
    tally: Tally = field(default_factory=Tally)
    found: list[Difference] = field(default_factory=list)

    async def note(self, found: Sequence[Difference]) -> Sequence[Noted]:
        """Count differences and keep them; what comes back may be repaired."""
        self.tally.count(found)
        if self.is_dry:
            self.found += found
            return ()
        return await self.register.note(self.id, found) if found else ()

    def report(self) -> RunReport:
        """What came of it."""
        return RunReport(
            id=self.id,
            area=self.area,
            psp=self.psp,
            inputs=dict(self.inputs),
            tally=self.tally,
            is_dry=self.is_dry,
            found=tuple(self.found),
        )


class Runs:
    """Begins runs."""

    def __init__(self, register: Register, observer: RunObserver, *, new_id: Callable[[], str]) -> None:
        self._register = register
        self._observer = observer
        self._new_id = new_id

    @asynccontextmanager
    async def run(
        self, area: Area, inputs: Evidence, *, psp: str | None = None, is_full: bool = False, is_dry: bool = False
    ) -> AsyncIterator[Run]:
        """A run that ends with the block. One that breaks off ends nothing: what it has not seen may be there."""
        run = Run(id=self._new_id(), area=area, psp=psp, inputs=dict(inputs), is_dry=is_dry, register=self._register)
        if not is_dry:
            await self._register.begin(run.id, area, psp, inputs, is_full=is_full)
        yield run
        if not is_dry:
            await self._register.end(run.id, run.inputs, run.tally)
            self._observer.reconciled(run.report())
