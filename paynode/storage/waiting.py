"""Who waits for a connection of a pool, and since when: a queue that a pool keeps and does not show.

One whose connection has to be opened first waits too, and is no queue: those behind are served before it.
"""

from __future__ import annotations

import time
from collections.abc import Hashable, Iterator
from contextlib import contextmanager
from typing import Final

# Since when each waits, by pool and in their order; a pool that nobody waits for is not in it.
_SINCE: Final[dict[Hashable, dict[object, float]]] = {}


@contextmanager
def noted(pool: Hashable) -> Iterator[None]:
    """Whoever is in the block waits for a connection of this pool."""
    waiting, me = _SINCE.setdefault(pool, {}), object()
    waiting[me] = time.monotonic()
    try:
        yield
        # It has been served. Who gives up proves nothing about those before it.
        _forget_up_to(me, waiting)
    finally:
        waiting.pop(me, None)
        # Whoever came after the last had gone has begun a queue of his own.
        if not waiting and _SINCE.get(pool) is waiting:
            del _SINCE[pool]


def _forget_up_to(me: object, waiting: dict[object, float]) -> None:
    """Whoever came before has been overtaken; nobody has who was overtaken himself."""
    if me not in waiting:
        return
    for one in list(waiting):
        del waiting[one]
        if one is me:
            return


def waited_s(pool: Hashable) -> float:
    """For how long the one that waits longest has been waiting; 0 when nobody does."""
    since = next(iter(_SINCE.get(pool, {}).values()), None)
    return 0.0 if since is None else time.monotonic() - since
