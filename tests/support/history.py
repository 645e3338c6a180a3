"""What clients asked and what they heard: the H of the laws.

A time-out, a cut connection and a 5xx are "may have happened", never "failed".
"""

from __future__ import annotations

import json
import time
from collections import Counter, deque
from dataclasses import dataclass, field
from typing import TextIO

from tests.support.installation import Reply

# Stands in what customers and shops tell about a payment, and must stand in no log: a card number that no card has.
CANARY = "4111-1111-1111-1111-canary"


@dataclass(slots=True, kw_only=True)
class Asked:
    """One request to create a payment, and the answer. No status: nothing was heard, and it may have happened.

    `token` is None for a payment on a page. `is_twisted`: the key of another request, with another body, on purpose.
    """

    merchant_id: str
    key: str
    amount: int
    currency: str = "EUR"
    token: str | None = "tok_approve"
    is_twisted: bool = False
    sent_at: float = field(default_factory=time.time)
    ended_at: float = 0.0
    status: int | None = None
    body: bytes = b""
    content_type: str = ""
    is_replayed: bool = False
    has_retry_after: bool = False
    lost_by: str = ""

    @property
    def is_accepted(self) -> bool:
        return self.status in (201, 202)

    @property
    def is_refused(self) -> bool:
        """A definite no, which must have left nothing. 409 and 429 say "not now", and are none."""
        return self.status is not None and 400 <= self.status < 500 and self.status not in (409, 429)

    @property
    def payment(self) -> dict[str, object]:
        """What an accepted request was told."""
        told = json.loads(self.body)
        assert isinstance(told, dict)
        return told

    def hear(self, reply: Reply) -> None:
        """Keep the answer."""
        self.ended_at, self.status, self.body = time.time(), reply.status, reply.raw
        self.content_type = reply.headers.get("Content-Type", "")
        self.is_replayed = reply.headers.get("Idempotent-Replayed") == "true"
        self.has_retry_after = "Retry-After" in reply.headers

    def lose(self, error: BaseException) -> None:
        """No answer came, or not all of it."""
        self.ended_at, self.lost_by = time.time(), type(error).__name__


@dataclass(slots=True)
class History:
    """All of them; the first three count what `asked` says, for those who only want the figures."""

    accepted: list[Reply] = field(default_factory=list)
    refused: Counter[int] = field(default_factory=Counter)
    lost: int = 0
    seconds: float = 0.0
    asked: list[Asked] = field(default_factory=list)
    file: TextIO | None = None
    accepted_at: deque[float] = field(default_factory=lambda: deque(maxlen=2000))

    def ask(self, asked: Asked) -> Asked:
        """Written down before it is sent."""
        self.asked.append(asked)
        self._write("asked", asked)
        return asked

    def hear(self, asked: Asked, reply: Reply) -> None:
        """An answer came."""
        asked.hear(reply)
        if asked.is_accepted:
            self.accepted.append(reply)
            self.accepted_at.append(asked.ended_at)
        else:
            self.refused[reply.status] += 1
        self._write("heard", asked)

    def lose(self, asked: Asked, error: BaseException) -> None:
        """None came."""
        asked.lose(error)
        self.lost += 1
        self._write("lost", asked)

    def accepted_within(self, seconds: float) -> int:
        """How many requests were accepted in the last so many seconds."""
        since = time.time() - seconds
        return sum(at >= since for at in self.accepted_at)

    def _write(self, event: str, asked: Asked) -> None:
        if self.file is None:
            return
        line = {
            "at": round(asked.ended_at or asked.sent_at, 4),
            "event": event,
            "merchant": asked.merchant_id,
            "key": asked.key,
            "amount": asked.amount,
            "token": asked.token,
        }
        if event != "asked":
            line |= {"status": asked.status, "replayed": asked.is_replayed, "lost_by": asked.lost_by}
        self.file.write(json.dumps(line) + "\n")
