"""Requests as a log line and metrics: what the ingress tells, written down."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache

import structlog
from prometheus_client import Counter, Histogram

from paynode.observability.logging import failure
from paynode.observability.metrics import HTTP_REQUESTS, HTTP_SECONDS, HTTP_SHED


@cache
def _metrics(route: str, method: str, status: int) -> tuple[Counter, Histogram]:
    """Those of a kind of request, of which there are few: to find them takes longer than to count."""
    return HTTP_REQUESTS.labels(route, method, str(status)), HTTP_SECONDS.labels(route)


class RequestLog:
    """One canonical line per request, and the two metrics of the ingress."""

    def __init__(self) -> None:
        self._log = structlog.get_logger()

    def answered(self, *, route: str, method: str, status: int, seconds: float, facts: Mapping[str, str]) -> None:
        """A request was answered."""
        requests, durations = _metrics(route, method, status)
        requests.inc()
        durations.observe(seconds)
        self._log.info(
            "request", route=route, method=method, status=status, duration_ms=round(seconds * 1000, 2), **facts
        )

    def crashed(self, error: Exception, *, request_id: str) -> None:
        """A request ended in a flaw of ours."""
        self._log.error("crashed", request_id=request_id, **failure(error))

    def shed(self, work: str, reason: str) -> None:
        """A request was refused because there is too much of its kind; its own line tells the rest."""
        HTTP_SHED.labels(work, reason).inc()
