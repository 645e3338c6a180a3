"""Log lines: JSON to stderr, and an allow-list that decides what may stand in one.

A deny-list forgets the next secret. Whoever needs a new field adds it here, where a reviewer sees it.
"""

from __future__ import annotations

import atexit
import logging
import sys
import traceback
from collections.abc import Callable, Mapping
from typing import Final

import orjson
import structlog
from structlog.typing import EventDict, Processor, WrappedLogger

from paynode.observability.lines import Lines
from paynode.sections import Log

# Ids, words, counts and durations. Never a body, a header, a key, a name or an address of a customer.
ALLOWED: Final = frozenset(
    {
        "action", "at", "attempts", "batch", "code", "committed", "count", "dead", "detail", "duration_ms",
        "entry_id", "epoch", "error", "event", "event_id", "group", "host", "kind", "level", "merchant_id", "method",
        "operation", "operation_id", "outcome", "owner", "partition", "partitions", "payment_id", "pid", "port",
        "process", "psp", "reason", "ref", "request_id", "role", "route", "seconds", "signal", "state", "status",
        "stream", "trace_id", "url", "version", "where", "worker",
    }
)  # fmt: skip

_LEVELS: Final = {"debug": 10, "info": 20, "warning": 30, "error": 40}


def configure(settings: Log) -> None:
    """Set up structlog and the standard library's logging, once, at the start of a process."""
    is_json = settings.format == "json"
    finish: list[Processor] = (
        [structlog.processors.JSONRenderer(serializer=orjson.dumps)]
        if is_json
        else [structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty())]
    )
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True, key="at"),
            only_allowed,
            *finish,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(_LEVELS[settings.level]),
        logger_factory=_as_lines() if is_json else structlog.PrintLoggerFactory(sys.stderr),
        cache_logger_on_first_use=True,
    )
    # Libraries speak through the standard library: only what they find alarming, and only its kind.
    logging.basicConfig(handlers=[_Libraries()], level=logging.WARNING, force=True)


def _as_lines() -> Callable[..., Lines]:
    lines = Lines(sys.stderr.buffer)
    atexit.register(lines.flush)
    return lambda *_: lines


def only_allowed(_: WrappedLogger, __: str, event: EventDict) -> EventDict:
    """Drop what is not on the list; say which fields were dropped, so that it does not go unnoticed."""
    dropped = event.keys() - ALLOWED
    if not dropped:
        return event
    kept = {name: value for name, value in event.items() if name in ALLOWED}
    return kept | {"detail": f"not to be logged: {sorted(dropped)}"}


def failure(error: BaseException) -> Mapping[str, str]:
    """What may be logged of an exception: its kind and where it rose. Its text may quote what a customer sent."""
    frames = traceback.extract_tb(error.__traceback__)[-3:]
    where = " < ".join(f"{frame.filename.rpartition('/')[2]}:{frame.lineno} {frame.name}" for frame in reversed(frames))
    return {"error": type(error).__name__, "where": where}


class _Libraries(logging.Handler):
    """Passes a library's warning on without its text: asyncio's quotes whole tasks, asyncpg's whole rows."""

    def emit(self, record: logging.LogRecord) -> None:
        told = failure(record.exc_info[1]) if record.exc_info and record.exc_info[1] else {}
        where = told.get("where") or f"{record.filename}:{record.lineno} {record.funcName}"
        error = told.get("error", record.levelname)
        structlog.get_logger().warning("library", kind=record.name, error=error, where=where)
