"""What the actors tell, as log lines and metrics. The actors themselves neither log nor count."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import structlog

from paynode.domain.attempts import Conclusion
from paynode.domain.batch import Lease
from paynode.domain.census import Census
from paynode.domain.deciding import CommandKind
from paynode.domain.ids import PAYMENT, public
from paynode.domain.message import DeadLetter, Unreadable
from paynode.domain.psp import Answer
from paynode.observability.metrics import (
    BATCH_SECONDS,
    BATCH_SIZE,
    DEAD_LETTERS,
    DEAD_LETTERS_KEPT,
    OLDEST_UNKNOWN_SECONDS,
    OLDEST_UNPROCESSED_SECONDS,
    PARTITION_TAKEOVERS,
    PARTITIONS_OWNED,
    PSP_BREAKER,
    PSP_CALL_SECONDS,
    PSP_IN_FLIGHT,
    PSP_RETRIES,
    UNKNOWN_OUTCOMES,
)

_BREAKER: Final = {"closed": 0, "half_open": 1, "open": 2}


class Observer:
    """Hears of everything that the worker and the scheduler do. Polling is never logged."""

    def __init__(self) -> None:
        self._log: Any = structlog.get_logger()

    # -- ownership ------------------------------------------------------------------------------------------------

    def taken(self, leases: Mapping[Lease, str | None]) -> None:
        """Partitions are ours now, each with the owner who did not give it back."""
        PARTITIONS_OWNED.inc(len(leases))
        PARTITION_TAKEOVERS.inc(sum(owner is not None for owner in leases.values()))
        self._log.info("partitions_taken", count=len(leases), partitions=sorted(lease.partition for lease in leases))

    def lost(self, lease: Lease) -> None:
        """Somebody else owns it: they had reason to think that we were gone."""
        PARTITIONS_OWNED.dec()
        self._log.warning("partition_lost", partition=lease.partition, epoch=lease.epoch)

    def released(self, lease: Lease) -> None:
        """Drained and given back."""
        PARTITIONS_OWNED.dec()
        self._log.debug("partition_released", partition=lease.partition, epoch=lease.epoch)

    def round_failed(self, error: Exception) -> None:
        """Leases could not be kept or taken."""
        self._log.warning("ownership_round_failed", error=str(error))

    # -- partitions and their committer ---------------------------------------------------------------------------

    def run_failed(self, lease: Lease, error: Exception) -> None:
        """A run over a partition broke off; it begins again with nothing remembered."""
        self._log.warning("partition_run_failed", partition=lease.partition, epoch=lease.epoch, error=str(error))

    def committed(self, messages: int, seconds: float) -> None:
        """A batch is durable."""
        BATCH_SIZE.observe(messages)
        BATCH_SECONDS.observe(seconds)

    def commit_failed(self, messages: int, error: Exception) -> None:
        """A batch was not written."""
        self._log.warning("commit_failed", messages=messages, error=str(error))

    def buried(self, letters: Sequence[DeadLetter]) -> None:
        """Messages that can never work are kept aside."""
        for letter in letters:
            DEAD_LETTERS.labels(letter.what.reason).inc()
            self._log.error("dead_letter", stream=letter.stream, entry_id=letter.entry_id, reason=letter.what.reason)

    def telling_failed(self, error: Exception) -> None:
        """A batch was written and could not be told to the world."""
        self._log.warning("telling_failed", error=str(error))

    # -- gateway --------------------------------------------------------------------------------------------------

    def calling(self, psp: str, change: int) -> None:
        """A call begins (1) or ends (-1)."""
        PSP_IN_FLIGHT.labels(psp).inc(change)

    def called(self, psp: str, operation: str, answer: Answer | None, seconds: float) -> None:
        """A PSP was called, or an inquiry found nothing."""
        outcome = answer.outcome if answer is not None else "not_found"
        PSP_CALL_SECONDS.labels(psp, operation, outcome).observe(seconds)

    def breaker_is(self, psp: str, operation: str, state: str) -> None:
        """The state of a breaker after a call."""
        PSP_BREAKER.labels(psp, operation).set(_BREAKER[state])

    def concluded(self, psp: str, conclusion: Conclusion) -> None:
        """A command ended: the canonical line of a delivery."""
        answer, order = conclusion.answer, conclusion.command.order
        if conclusion.command.kind is CommandKind.INQUIRE:
            PSP_RETRIES.labels(psp).inc()
        self._log.info(
            "command_concluded",
            psp=psp,
            kind=conclusion.command.kind,
            payment_id=public(PAYMENT, order.payment_id),
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

    # -- census ---------------------------------------------------------------------------------------------------

    def counted(self, census: Census) -> None:
        """How things stand."""
        OLDEST_UNPROCESSED_SECONDS.set(census.oldest_unprocessed_ms / 1000)
        UNKNOWN_OUTCOMES.set(census.unknown)
        OLDEST_UNKNOWN_SECONDS.set(census.oldest_unknown_ms / 1000)
        DEAD_LETTERS_KEPT.set(census.dead_letters)

    def count_failed(self, error: Exception) -> None:
        """The figures stay as they were."""
        self._log.warning("census_failed", error=str(error))
