"""What belongs to one request while it is served."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import Final

from aiohttp import web

from paynode.domain import ids
from paynode.http.shedding import Admission
from paynode.http.tracing import Trace
from paynode.http.work import Work


@dataclass(slots=True, kw_only=True)
class Context:
    """`facts` go onto the request's log line: ids and words, never a body or a key.

    `admission` is the place that an ingress gives; other servers have none to give.
    """

    request_id: str
    trace: Trace
    deadline: asyncio.Timeout
    admission: Admission | None = None
    facts: dict[str, str] = field(default_factory=dict)

    def extend(self, seconds: float) -> None:
        """The client asked to wait: the deadline does not count that."""
        when = self.deadline.when()
        if seconds and when is not None:
            self.deadline.reschedule(when + seconds)

    def is_of(self, merchant_id: str) -> None:
        """It is known who asks.

        Raises: Problem (429).
        """
        self.facts["merchant_id"] = ids.public(ids.MERCHANT, merchant_id)
        if self.admission is not None:
            self.admission.charge(merchant_id)

    def is_about(self, work: Work) -> None:
        """It is known by its body what it is about.

        Raises: Problem (503, 429).
        """
        if self.admission is not None:
            self.admission.become(work)


CONTEXT: Final = web.RequestKey("context", Context)
