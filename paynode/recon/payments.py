"""Payments that have not ended: what nothing would move any more is put back on its way, what people owe is shown."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

from paynode.domain.ids import MERCHANT, public
from paynode.domain.partition import partition_of
from paynode.domain.reconciling import Area, BreakKind, RunReport, Sweep, Window
from paynode.domain.road import commands_stream, events_stream, follow_up_lane, pos_lane
from paynode.domain.stuck import Cure, OpenOperation, cure, examine
from paynode.recon.register import Run, Runs


class OpenOperations(Protocol):
    """What has not ended. Raises: Unavailable."""

    async def made_within(self, window: Window, after: str | None) -> Sweep[OpenOperation]: ...
    async def doubted_still(self, window: Window, after: str | None) -> Sweep[OpenOperation]: ...


class Mending(Protocol):
    """What puts it back on its way. Raises: Unavailable, Conflict."""

    async def mend(self, break_id: str, *, event_id: str, cure: Cure, stream: str) -> bool: ...


class PaymentReconciliation:
    """Any number may run at once: an operation is put back on its way only while nothing is."""

    def __init__(
        self,
        operations: OpenOperations,
        mending: Mending,
        runs: Runs,
        *,
        partitions: int,
        new_id: Callable[[], str],
    ) -> None:
        self._operations = operations
        self._mending = mending
        self._runs = runs
        self._partitions = partitions
        self._new_id = new_id

    async def run_once(self, window: Window, *, is_full: bool = False, is_dry: bool = False) -> RunReport:
        """Look at what was made within the window, and again at what was found before and is not over."""
        inputs = {"since_ms": window.since_ms, "until_ms": window.until_ms}
        async with self._runs.run(Area.PAYMENTS, inputs, is_full=is_full, is_dry=is_dry) as run:
            for look in (self._operations.made_within, self._operations.doubted_still):
                sweep = await look(window, None)
                while sweep.after is not None:
                    await self._look(run, sweep.found)
                    sweep = await look(window, sweep.after)
        return run.report()

    async def _look(self, run: Run, page: Sequence[OpenOperation]) -> None:
        run.tally.checked += len(page)
        by_id = {one.id: one for one in page}
        for noted in await run.note([found for found in map(examine, page) if found is not None]):
            if noted.is_open and noted.difference.kind is BreakKind.STUCK:
                operation = by_id[noted.difference.subject]
                by = cure(operation)
                stream = self._stream(operation, by)
                run.tally.repairs += await self._mending.mend(noted.id, event_id=self._new_id(), cure=by, stream=stream)

    def _stream(self, operation: OpenOperation, by: Cure) -> str:
        """Where the actors would have put it."""
        if by is Cure.TELL:
            stream = events_stream(partition_of(public(MERCHANT, operation.merchant_id), self._partitions))
            return pos_lane(stream) if operation.is_pos else stream
        stream = commands_stream(operation.psp)
        if operation.is_pos:
            return pos_lane(stream)
        return stream if by is Cure.SUBMIT and operation.is_charge else follow_up_lane(stream)
