"""What the actors tell, as log lines and metrics. The actors themselves neither log nor count."""

from __future__ import annotations

from typing import Any

import structlog

from paynode.domain.attempts import Conclusion
from paynode.domain.batch import Lease
from paynode.domain.message import Unreadable
from paynode.domain.psp import Answer


class Observer:
    """Hears of everything that the worker and the scheduler do. Polling is never logged."""

    def __init__(self) -> None:
        self._log: Any = structlog.get_logger()

    # -- ownership ------------------------------------------------------------------------------------------------

    def taken(self, lease: Lease) -> None:
        """A partition is ours now."""
        self._log.info("partition_taken", partition=lease.partition, epoch=lease.epoch)

    def lost(self, lease: Lease) -> None:
        """Somebody else owns it."""
        self._log.warning("partition_lost", partition=lease.partition, epoch=lease.epoch)

    def released(self, lease: Lease) -> None:
        """Drained and given back."""
        self._log.info("partition_released", partition=lease.partition, epoch=lease.epoch)

    def round_failed(self, error: Exception) -> None:
        """Leases could not be kept or taken."""
        self._log.warning("ownership_round_failed", error=str(error))

    # -- partitions and their committer ---------------------------------------------------------------------------

    def run_failed(self, lease: Lease, error: Exception) -> None:
        """A run over a partition broke off; it begins again with nothing remembered."""
        self._log.warning("partition_run_failed", partition=lease.partition, epoch=lease.epoch, error=str(error))

    def committed(self, messages: int, seconds: float) -> None:
        """A batch is durable."""

    def commit_failed(self, messages: int, error: Exception) -> None:
        """A batch was not written."""
        self._log.warning("commit_failed", messages=messages, error=str(error))

    def telling_failed(self, error: Exception) -> None:
        """A batch was written and could not be told to the world."""
        self._log.warning("telling_failed", error=str(error))

    # -- gateway --------------------------------------------------------------------------------------------------

    def called(self, psp: str, operation: str, answer: Answer | None, seconds: float) -> None:
        """A PSP was called, or an inquiry found nothing."""

    def breaker_is(self, psp: str, operation: str, state: str) -> None:
        """The state of a breaker after a call."""

    def concluded(self, psp: str, conclusion: Conclusion) -> None:
        """A command ended: the canonical line of a delivery."""
        answer, order = conclusion.answer, conclusion.command.order
        self._log.info(
            "command_concluded",
            psp=psp,
            type=conclusion.command.kind,
            payment_id=order.payment_id,
            operation_id=order.operation_id,
            outcome=answer.outcome if answer else None,
            reason=answer.reason if answer else None,
        )

    def unreadable(self, what: Unreadable) -> None:
        """A command that nothing can be done with; it stays in the outbox."""
        self._log.error("command_unreadable", ref=what.ref, reason=what.reason)

    def dispatch_failed(self, psp: str, error: Exception) -> None:
        """A command was left where it is."""
        self._log.warning("dispatch_failed", psp=psp, error=str(error))

    # -- relay ----------------------------------------------------------------------------------------------------

    def swept(self, due: int, republished: int) -> None:
        """A sweep ended; only what was lost on the road is worth a line."""
        if republished:
            self._log.warning("republished", count=republished)

    def sweep_failed(self, error: Exception) -> None:
        """A sweep broke off; the next one begins anew."""
        self._log.warning("sweep_failed", error=str(error))
