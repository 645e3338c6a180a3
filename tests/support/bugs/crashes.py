"""Not bugs: points at which a process ends itself, without goodbye, when it comes by for the third time."""

from __future__ import annotations

from itertools import count
from typing import Any, Final

from paynode.psp.guard import GuardedPsp
from paynode.storage.accepting import PgAccepting
from paynode.storage.attempts import PgAttempts
from paynode.storage.books import PgBooks
from paynode.streams.publisher import RedisPublisher
from tests.support.bugs.patching import Method, crash, wrap

_TIMES: Final = 3

# Where, and whether the crash is before or after.
POINTS: Final = {
    "ingress accepted": (PgAccepting, "accept", "after"),
    "ingress published": (RedisPublisher, "publish", "after"),
    "before the call": (GuardedPsp, "send", "before"),
    "after the call": (GuardedPsp, "send", "after"),
    "attempt concluded": (PgAttempts, "conclude", "after"),
    "before the commit": (PgBooks, "_end", "before"),
    "after the commit": (PgBooks, "commit", "after"),
}


def arm(point: str) -> None:
    """Crash there."""
    owner, name, when = POINTS[point]
    visits = count(1)

    def make(original: Method) -> Method:
        async def crashing(*arguments: Any, **named: Any) -> Any:
            is_time = next(visits) == _TIMES
            if is_time and when == "before":
                crash()
            result = await original(*arguments, **named)
            if is_time:
                crash()
            return result

        return crashing

    wrap(owner, name, make)
