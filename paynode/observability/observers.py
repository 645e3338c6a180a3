"""What the actors tell, as log lines and metrics. The actors themselves neither log nor count."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any, Final, TypeVar

import structlog
from prometheus_client.metrics import MetricWrapperBase

from paynode.domain.anchoring import Anchor, Contradiction
from paynode.domain.attempts import Conclusion
from paynode.domain.batch import Lease
from paynode.domain.census import Census, OnRoad, Waiting
from paynode.domain.ids import MERCHANT, PAYMENT, public
from paynode.domain.message import DeadLetter
from paynode.domain.months import MonthsMade
from paynode.domain.ownership import Taken
from paynode.domain.psp import Answer
from paynode.domain.screening import Judgement, Question, Screened, Settled
from paynode.observability.metrics import (
    BATCH_SECONDS,
    BATCH_SIZE,
    DEAD_LETTERS,
    DEAD_LETTERS_KEPT,
    FRAUD_CHECK_SECONDS,
    FRAUD_SCREENED,
    FRAUD_SETTLED,
    LEDGER_ANCHOR_TIME,
    LEDGER_CONTRADICTED,
    OLDEST_UNKNOWN_SECONDS,
    OLDEST_UNPROCESSED_SECONDS,
    PARKED,
    PARTITION_TAKEOVERS,
    PARTITIONS_OWNED,
    PSP_BREAKER,
    PSP_CALL_SECONDS,
    PSP_IN_FLIGHT,
    PSP_REFUSED,
    PSP_RETRIES,
    REDIS_AWAY,
    STREAM_ENTRIES,
    STREAM_LAG,
    STREAM_PENDING,
    SUSPECTS,
    UNKNOWN_OUTCOMES,
)

_BREAKER: Final = {"closed": 0, "half_open": 1, "open": 2}

Metric = TypeVar("Metric", bound=MetricWrapperBase)


@cache
def _of(metric: Metric, *labels: str) -> Metric:
    """The metric with these labels, of which there are few: to look for it takes as long as to count.

    Of those that a call to a PSP changes.
    """
    return metric.labels(*labels)


class Observer:
    """Hears of everything that the worker and the scheduler do. Polling is never logged."""

    def __init__(self) -> None:
        self._log: Any = structlog.get_logger()

    # -- ownership ------------------------------------------------------------------------------------------------

    def taken(self, taken: Sequence[Taken]) -> None:
        """Partitions are ours now, some from an owner who did not give them back."""
        PARTITIONS_OWNED.inc(len(taken))
        PARTITION_TAKEOVERS.inc(sum(one.owner_before is not None for one in taken))
        self._log.info(
            "partitions_taken",
            count=len(taken),
            partitions=sorted(one.lease.partition for one in taken),
            dead=sum(one.unclean_deaths > 0 for one in taken),
        )

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

    def notifier_is_idle(self) -> None:
        """The role is known and has nothing to do yet; said once, at the start."""
        self._log.info("notifier_idle", reason="merchants have no webhooks yet")

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
        _of(PSP_IN_FLIGHT, psp).inc(change)

    def called(self, psp: str, operation: str, answer: Answer | None, seconds: float) -> None:
        """A PSP was called, or an inquiry found nothing."""
        outcome = answer.outcome if answer is not None else "not_found"
        _of(PSP_CALL_SECONDS, psp, operation, outcome).observe(seconds)

    def refused(self, psp: str, operation: str, reason: str) -> None:
        """A call was not made: a guard said no, or later."""
        PSP_REFUSED.labels(psp, operation, reason).inc()

    def retrying(self, psp: str) -> None:
        """What was not sent before is tried again."""
        PSP_RETRIES.labels(psp).inc()

    def breaker_is(self, psp: str, operation: str, state: str) -> None:
        """The state of a breaker after a call, or after an operator's word."""
        _of(PSP_BREAKER, psp, operation).set(_BREAKER[state])

    def concluded(self, psp: str, conclusion: Conclusion) -> None:
        """A command ended: the canonical line of a delivery."""
        answer, order = conclusion.answer, conclusion.command.order
        self._log.info(
            "command_concluded",
            psp=psp,
            kind=conclusion.command.kind,
            payment_id=public(PAYMENT, order.payment_id),
            operation_id=order.operation_id,
            outcome=answer.outcome if answer else None,
            reason=answer.reason if answer else None,
        )

    def dispatch_failed(self, psp: str, error: Exception) -> None:
        """A command was left where it is."""
        self._log.warning("dispatch_failed", psp=psp, error=str(error))

    def suspected(self, ref: str, attempts: int) -> None:
        """A command over which gateways may have died is about to be tried alone, or was too often."""
        self._log.warning("command_suspected", ref=ref, attempts=attempts)

    def cleared_out(self, consumers: Sequence[str]) -> None:
        """Consumers of processes that were killed are gone."""
        self._log.info("consumers_cleared_out", count=len(consumers))

    def upkeep_failed(self, error: Exception) -> None:
        """What is in hand was not renewed this time."""
        self._log.warning("upkeep_failed", error=str(error))

    # -- fraud check ----------------------------------------------------------------------------------------------

    def fraud_checked(self, judgement: Judgement, seconds: float) -> None:
        """The check was asked, or its breaker said no."""
        FRAUD_CHECK_SECONDS.labels(judgement.opinion).observe(seconds)

    def screened(self, screened: Screened) -> None:
        """A charge has its verdict; the payment's line tells of it."""
        FRAUD_SCREENED.labels(screened.verdict).inc()

    def screening_settled(self, question: Question, settled: Settled) -> None:
        """A charge that went unscreened, or was held, has its answer."""
        FRAUD_SETTLED.labels(settled).inc()
        tell = self._log.warning if settled in (Settled.MARKED, Settled.REFUSED) else self._log.info
        tell(
            "screening_settled",
            payment_id=public(PAYMENT, question.payment_id),
            operation_id=question.operation_id,
            outcome=settled,
        )

    def rescreening_failed(self, error: Exception) -> None:
        """A sweep of what is owed broke off; the next one begins anew."""
        self._log.warning("rescreening_failed", error=str(error))

    # -- Redis ----------------------------------------------------------------------------------------------------

    def is_away(self, is_away: bool, /) -> None:
        """Redis went or came back; in between nothing more is said about it."""
        REDIS_AWAY.set(is_away)
        if is_away:
            self._log.error("redis_away")
        else:
            self._log.warning("redis_back")

    # -- relay ----------------------------------------------------------------------------------------------------

    def swept(self, due: int, republished: int) -> None:
        """A sweep ended; only what was lost on the road is worth a line."""
        if republished:
            self._log.warning("republished", count=republished)

    def sweep_failed(self, error: Exception) -> None:
        """A sweep broke off; the next one begins anew."""
        self._log.warning("sweep_failed", error=str(error))

    # -- callbacks kept aside -------------------------------------------------------------------------------------

    def matched(self, callbacks: int) -> None:
        """Callbacks that had named nothing we knew have found their payments."""
        self._log.warning("callbacks_matched", count=callbacks)

    def matching_failed(self, error: Exception) -> None:
        """A round over them broke off; the next one begins anew."""
        self._log.warning("matching_failed", error=str(error))

    # -- points of sale -------------------------------------------------------------------------------------------

    def reversed_overdue(self, count: int) -> None:
        """Payments whose ingress died while somebody waited are being reversed."""
        self._log.warning("overdue_reversed", count=count)

    def reversing_failed(self, error: Exception) -> None:
        """A sweep for them broke off; the next one begins anew."""
        self._log.warning("reversing_failed", error=str(error))

    def calendar_failed(self, error: Exception) -> None:
        """A look at the calendar broke off; the next one begins anew."""
        self._log.warning("calendar_failed", error=str(error))

    # -- anchors --------------------------------------------------------------------------------------------------

    def anchored(self, anchor: Anchor | None) -> None:
        """The heads of all ledgers are known outside the database; None: nothing has moved since the last time."""
        LEDGER_ANCHOR_TIME.set_to_current_time()
        if anchor is not None:
            self._log.info("ledger_anchored", ref=anchor.number, count=anchor.heads)

    def anchor_contradicted(self, count: int, examples: Sequence[Contradiction]) -> None:
        """So many ledgers have lost entries that were anchored: somebody wrote where only paynode may."""
        LEDGER_CONTRADICTED.set(count)
        for one in examples:
            self._log.error(
                "ledger_contradicts_anchor",
                merchant_id=public(MERCHANT, one.merchant_id),
                detail=f"entry {one.anchored.seq} was anchored",
            )

    def anchoring_failed(self, error: Exception) -> None:
        """Nothing was anchored this time."""
        self._log.warning("anchoring_failed", error=str(error))

    # -- dead letters ---------------------------------------------------------------------------------------------

    def reburied(self, shown: int, removed: int) -> None:
        """The dead-letter streams were made to agree with the table."""
        self._log.info("dead_letters_agree", count=shown, dead=removed)

    def stranded_released(self, rows: int) -> None:
        """What waited behind a letter that was resolved in the same moment is on the road."""
        self._log.warning("stranded_released", count=rows)

    def burial_failed(self, error: Exception) -> None:
        """A round of the undertaker broke off; the next one begins anew."""
        self._log.warning("undertaker_failed", error=str(error))

    def pulse_failed(self, error: Exception) -> None:
        """A gateway could not tell that it lives."""
        self._log.warning("pulse_failed", error=str(error))

    # -- months of the ledger -------------------------------------------------------------------------------------

    def months_made(self, months: MonthsMade) -> None:
        """Coming months have their tables; all entries of one that is held up stay with those of no month."""
        self._log.info("ledger_months_made", count=months.made)
        if months.held_up:
            self._log.warning("ledger_months_held_up", count=months.held_up)

    def months_failed(self, error: Exception) -> None:
        """Coming months could not be made; the next round tries again, a year early."""
        self._log.warning("ledger_months_failed", error=str(error))

    # -- census ---------------------------------------------------------------------------------------------------

    def counted(self, census: Census, groups: Mapping[str, str]) -> None:
        """How things stand in the database."""
        for stream, group in groups.items():
            STREAM_LAG.labels(stream, group).set(census.waiting.get(stream, Waiting()).due)
        PARKED.set(census.parked)
        SUSPECTS.set(census.suspects)
        OLDEST_UNPROCESSED_SECONDS.set(census.oldest_unprocessed_ms / 1000)
        UNKNOWN_OUTCOMES.set(census.unknown)
        OLDEST_UNKNOWN_SECONDS.set(census.oldest_unknown_ms / 1000)
        DEAD_LETTERS_KEPT.set(census.dead_letters)

    def saw_road(self, road: Mapping[str, OnRoad], groups: Mapping[str, str]) -> None:
        """How things stand on the streams."""
        for stream, group in groups.items():
            on_road = road.get(stream, OnRoad())
            STREAM_PENDING.labels(stream, group).set(on_road.pending)
            STREAM_ENTRIES.labels(stream, group).set(on_road.entries)

    def count_failed(self, error: Exception) -> None:
        """The figures stay as they were."""
        self._log.warning("census_failed", error=str(error))
