"""All metrics, declared once; each description is the question that the metric answers. No id is ever a label."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from prometheus_client import REGISTRY, Counter, Gauge, Histogram, Metric
from prometheus_client.registry import Collector

# Seconds. From half a millisecond (an answer without the database) to the longest wait that a client may ask for.
_SECONDS: Final = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
# Messages.
_BATCH: Final = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000)


class _Unnamed(Collector):
    """A metric that the registry knows no name of.

    The library counts `x` and `x_total` as one name, as OpenMetrics does; the text format, which is what is served,
    keeps them apart.
    """

    def __init__(self, metric: Gauge) -> None:
        self._metric = metric

    def collect(self) -> Iterable[Metric]:
        """The samples."""
        return self._metric.collect()

    def describe(self) -> Iterable[Metric]:
        """Nothing, so that nothing clashes."""
        return ()


HTTP_REQUESTS: Final = Counter(
    "paynode_http_requests_total", "How many requests of which kind were answered how?", ("route", "method", "status")
)
HTTP_SECONDS: Final = Histogram(
    "paynode_http_request_seconds", "How long do clients wait for an answer?", ("route",), buckets=_SECONDS
)
HTTP_SHED: Final = Counter(
    "paynode_http_shed_total", "How many requests of which class were too many, and by what?", ("class", "reason")
)

PSP_CALL_SECONDS: Final = Histogram(
    "paynode_psp_call_seconds",
    "How long does a PSP take, and what comes of it?",
    ("psp", "operation", "outcome"),
    buckets=_SECONDS,
)
PSP_RETRIES: Final = Counter(
    "paynode_psp_retries_total", "How often is a PSP asked again for what was never sent to it?", ("psp",)
)
PSP_REFUSED: Final = Counter(
    "paynode_psp_refused_total",
    "How many calls did a guard refuse or put off, and why?",
    ("psp", "operation", "reason"),
)
PSP_BREAKER: Final = Gauge(
    "paynode_psp_breaker_state", "Is a PSP being called? 0 closed, 1 half-open, 2 open", ("psp", "operation")
)
PSP_IN_FLIGHT: Final = Gauge("paynode_psp_in_flight", "How many calls are under way at a PSP?", ("psp",))

FRAUD_CHECK_SECONDS: Final = Histogram(
    "paynode_fraud_check_seconds",
    "How long does the fraud check take, and what does it say?",
    ("opinion",),
    buckets=_SECONDS,
)
FRAUD_SCREENED: Final = Counter(
    "paynode_fraud_screened_total", "What became of charges before they were sent?", ("verdict",)
)
FRAUD_SETTLED: Final = Counter(
    "paynode_fraud_settled_total", "What became of charges about which the check answered later?", ("result",)
)

BATCH_SIZE: Final = Histogram("paynode_batch_size", "How many messages does one transaction carry?", buckets=_BATCH)
BATCH_SECONDS: Final = Histogram(
    "paynode_batch_commit_seconds", "How long does it take to commit a batch?", buckets=_SECONDS
)

PARTITIONS_OWNED: Final = Gauge("paynode_partitions_owned", "How many partitions does this process own?")
PARTITION_TAKEOVERS: Final = Counter(
    "paynode_partition_takeovers_total", "How often was a partition taken from an owner that did not give it back?"
)

DEAD_LETTERS: Final = Counter("paynode_dead_letters_total", "How many messages could never work, and why?", ("reason",))
DEAD_LETTERS_KEPT: Final = Gauge("paynode_dead_letters", "How many dead letters wait for an operator?", registry=None)
REGISTRY.register(_Unnamed(DEAD_LETTERS_KEPT))

PARKED: Final = Gauge("paynode_parked", "How many messages wait behind the dead letter of their payment?")
SUSPECTS: Final = Gauge("paynode_suspects", "Over how many messages may a process have died?")

STREAM_LAG: Final = Gauge(
    "paynode_stream_lag", "How many messages of a stream are due and not processed?", ("stream", "group")
)
STREAM_PENDING: Final = Gauge(
    "paynode_stream_pending", "How many entries were delivered and not acknowledged?", ("stream", "group")
)
STREAM_ENTRIES: Final = Gauge(
    "paynode_stream_entries", "How many entries stand in a stream, from outside too?", ("stream", "group")
)

UNKNOWN_OUTCOMES: Final = Gauge("paynode_unknown_outcomes", "Of how many operations does nobody know the outcome?")
OLDEST_UNKNOWN_SECONDS: Final = Gauge(
    "paynode_oldest_unknown_seconds", "For how long has the oldest unknown outcome been unknown?"
)
REDIS_AWAY: Final = Gauge("paynode_redis_away", "Does this process do without Redis?")

DRIFT_MINOR: Final = Gauge(
    "paynode_drift_minor", "By how many minor units do our books differ from what was found?", ("kind", "currency")
)
RECONCILIATION_BACKLOG: Final = Gauge("paynode_reconciliation_backlog", "How many differences are not over?")
LAW_BREACHES: Final = Gauge("paynode_law_breaches", "How often is a law of money broken?", ("law",))
LEDGER_ANCHOR_TIME: Final = Gauge(
    "paynode_ledger_anchor_time_seconds", "When did this process last look at the ledger for anchoring? Since 1970"
)
LEDGER_CONTRADICTED: Final = Gauge(
    "paynode_ledger_contradicted", "How many merchants' ledgers have lost entries that were anchored?"
)

OLDEST_UNPROCESSED_SECONDS: Final = Gauge(
    "paynode_oldest_unprocessed_seconds", "For how long has the oldest message been waiting to be processed?"
)
