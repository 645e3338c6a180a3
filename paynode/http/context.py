"""What belongs to one request while it is served."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import Final

from aiohttp import web

from paynode.http.tracing import Trace


@dataclass(slots=True, kw_only=True)
class Context:
    """`facts` go onto the request's log line: ids and words, never a body or a key."""

    request_id: str
    trace: Trace
    deadline: asyncio.Timeout
    facts: dict[str, str] = field(default_factory=dict)

    def extend(self, seconds: float) -> None:
        """The client asked to wait: the deadline does not count that."""
        when = self.deadline.when()
        if seconds and when is not None:
            self.deadline.reschedule(when + seconds)


CONTEXT: Final = web.RequestKey("context", Context)
